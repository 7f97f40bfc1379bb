"""Expressions: what they compute, and that nothing else gets in."""

import json
import math
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest

from raymat.errors import ConfigError
from raymat.screening.expression import parse_expression
from raymat.screening.lithium_interface import HIGH_WAVENUMBER, stability_parameter
from raymat.screening.operations import FUNCTIONS, OPERATIONS

WHERE = "soft.yaml: values: x"
NAN, INF = math.nan, math.inf


def value(text, **values):
    arrays = {name: np.asarray(v, dtype=float) for name, v in values.items()}
    return parse_expression(text, where=WHERE).evaluate(arrays)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("2 ** 3 ** 2", 512),
        ("7 / 2 - 1", 2.5),
        ("1e-3", 0.001),
        ("log10(1000)", 3),
        ("log(exp(2))", 2),
        ("sqrt(abs(-9))", 3),
        ("minimum(1, 2) + maximum(1, 2)", 3),
        ("where(1 < 2, 5, 6)", 5),
        ("1 < 2 < 3", 1),
        ("1 < 3 < 2", 0),
        ("1 <= 1 and 2 >= 2 and 1 == 1 and 1 != 2 and 2 > 1", 1),
        ("1 > 2 or 2 > 3 or 1 < 2", 1),
        ("not 1 > 2 and 1 < 2", 1),
        ("  1 +\n    2 ", 3),
    ],
)
def test_arithmetic_is_that_of_python(text, expected):
    assert value(text) == pytest.approx(expected, rel=1e-15)


def test_members_and_candidates_broadcast():
    bulk = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # 2 members, 3 candidates
    column = np.array([10.0, 20.0, 30.0])
    assert value("bulk * column", bulk=bulk, column=column).tolist() == (bulk * column).tolist()


def test_physics_is_that_of_the_lithium_interface():
    found = value("stability_parameter(b, g, v, high_wavenumber)", b=6.0, g=3.0, v=0.05533870451)
    assert found == stability_parameter(6.0, 3.0, 0.05533870451, HIGH_WAVENUMBER)
    assert found == pytest.approx(-109.257669, rel=1e-6)
    assert value("critical_wavelength_nm(b, g, v)", b=6.0, g=3.0, v=0.05533870451) == (
        pytest.approx(3.644645646, rel=1e-6)
    )
    assert value("poisson_ratio(6, 3)") == pytest.approx(2 / 7)


def test_what_cannot_be_computed_is_nan_without_a_warning():
    assert np.isnan(value("log10(x)", x=-1.0))
    assert value("1 / x", x=0.0) == INF
    assert value("10 ** x", x=400.0) == INF


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x < 1", NAN),
        ("not x < 1", NAN),
        ("x != x", NAN),
        ("0 < 1 < x", NAN),
        ("x < 1 and y < 1", 0.0),
        ("y < 1 and x < 1", 0.0),
        ("x < 1 and y > 1", NAN),
        ("x < 1 or y > 1", 1.0),
        ("y > 1 or x < 1", 1.0),
        ("x < 1 or y < 1", NAN),
        ("isnan(x)", 1.0),
        ("not isnan(x)", 0.0),
        ("isfinite(x) or isinf(x)", 0.0),
        ("where(x < 1, 1, 2)", NAN),
        ("where(isnan(x), 1, 2)", 1.0),
        ("where(isnan(x), y, x) > 1", 1.0),
    ],
)
def test_a_missing_number_is_neither_true_nor_false(text, expected):
    """Kleene: x is missing, y is 5."""
    assert value(text, x=NAN, y=5.0) == pytest.approx(expected, nan_ok=True)


def test_kinds_names_and_positions():
    expression = parse_expression("band_gap > 0.5 and\n log10_bulk < 1.6", where=WHERE)
    assert expression.gives == "condition"
    assert expression.names == {"band_gap", "log10_bulk"}
    assert expression.positions == {"band_gap": 1, "log10_bulk": 20}
    assert parse_expression("low_wavenumber * 2", where=WHERE).names == set()


def test_travels_to_other_processes():
    expression = parse_expression("where(x > 1, log10(x), -x)", where=WHERE)
    copy = pickle.loads(pickle.dumps(expression))
    assert copy == expression
    assert copy.evaluate({"x": np.array([100.0, 0.5])}).tolist() == [2.0, -0.5]


ATTACKS = {
    "call of an attribute": "__import__('os').system('id')",
    "import": "__import__('os')",
    "eval": "eval('1')",
    "exec": "exec('1')",
    "open": "open('/etc/passwd')",
    "getattr": "getattr(x, 'y')",
    "dunder access": "().__class__.__bases__[0].__subclasses__()",
    "attribute of a name": "x.real",
    "attribute of a number": "(1.0).hex()",
    "attribute of a function": "sqrt.__self__",
    "called result": "sqrt(1)(2)",
    "called lambda": "(lambda: 1)()",
    "lambda": "lambda: 1",
    "subscript": "x[0]",
    "slice": "x[::2]",
    "f-string": "f'{x}'",
    "format of text": "'{0.__class__}'.format(x)",
    "text": "'a'",
    "bytes": "b'a'",
    "walrus": "(y := 1)",
    "list comprehension": "[i for i in x]",
    "generator": "sum(i for i in x)",
    "comprehension bomb": "[0 for a in x for b in x for c in x]",
    "list": "[1] * 9",
    "tuple": "1, 2",
    "dict": "{1: 2}",
    "set": "{1}",
    "star": "sqrt(*x)",
    "double star": "sqrt(**x)",
    "keyword argument": "sqrt(x=1)",
    "out argument": "sqrt(x, out=y)",
    "too many arguments": "sqrt(x, y)",
    "conditional": "x if y > 0 else 1",
    "await": "await x",
    "yield": "(yield x)",
    "two statements": "x; y",
    "two lines": "x\nimport os",
    "assignment": "x = 1",
    "deletion": "del x",
    "membership": "x in y",
    "identity": "x is y",
    "bit and": "x & y",
    "shift": "1 << 1000000",
    "matrix product": "x @ y",
    "remainder": "x % 2",
    "complex": "1j",
    "true": "True",
    "none": "None",
    "ellipsis": "...",
    "power tower": "9**9**9",
    "power tower in a name's company": "x + 9**9**9",
    "huge integer": "9" * 400,
    "huge float": "1e999",
    "long text": "x + " * 1000 + "x",
    "deeper brackets": "(" * 240 + "x" + ")" * 240,
    "deep signs": "-" * 450 + "x",
    "deep not": "not " * 120 + "x > 1",
    "deep calls": "abs(" * 90 + "x" + ")" * 90,
    "deep powers": "x" + "**x" * 150,
    "doubling chain": "where(0<" * 25 + "x" + "<9,1,0)" * 25,
    "nothing": "",
    "blank": "  \n ",
    "look-alike letters": "\uff45\uff56\uff41\uff4c(1)",
    "look-alike name": "\u0445 + 1",
    "superscript": "x\u00b2",
    "zero width": "x\u200b + 1",
    "right to left": "x \u202e+ 1",
    "null byte": "x\x00",
    "comment": "x # + 1",
    "continuation": "x \\ + 1",
    "glued words": "1or 2",
    "function without a call": "sqrt",
    "number as condition": "x and y",
    "condition as number": "(x < 1) + (y < 1)",
    "negated number": "not x",
    "operator as name": "unary",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_refuses(attack):
    """One clear line, at once, whatever stands in the file."""
    start = time.process_time()
    with pytest.raises(ConfigError, match=r"^soft\.yaml: values: x: ") as refused:
        parse_expression(ATTACKS[attack], where=WHERE).check_names({"x", "y"})
    assert time.process_time() - start < 1.0
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 300
    assert message.isascii()


WATCHER = """
import json, sys
from raymat.errors import ConfigError
from raymat.screening.expression import parse_expression

attacks, told = json.load(sys.stdin), []
watched = {'exec', 'import', 'open', 'os.system', 'subprocess.Popen'}
sys.addaudithook(lambda event, args: told.append(event) if event in watched else None)
refused = 0
for text in attacks:
    try:
        parse_expression(text, where='x').check_names({'x', 'y'})
    except ConfigError:
        refused += 1
found = list(told)
eval('1')  # the watcher sees code that runs
print(json.dumps([refused, found, told]))
"""


def test_nothing_is_imported_opened_or_run():
    """The parser builds a tree and no code."""
    result = subprocess.run(
        [sys.executable, "-c", WATCHER],
        input=json.dumps(list(ATTACKS.values())),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    refused, found, told = json.loads(result.stdout)
    assert refused == len(ATTACKS)
    assert found == []
    assert told == ["exec"]


def test_no_name_reaches_anything_but_the_table():
    """A name is looked up in what was given, an operation in the table; nowhere else."""
    assert set(FUNCTIONS) <= set(OPERATIONS)
    expression = parse_expression("np + builtins", where=WHERE)
    with pytest.raises(KeyError, match="np"):
        expression.evaluate({})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "lgo10(x)",
            r"'lgo10' at character 1 is not a function of expressions; did you mean 'log1",
        ),
        ("1 + x.real", r"'x\.real' at character 5 cannot stand in an expression; write a plain na"),
        ("x > 1 & y > 2", r"'1 & y' at character 5 .*; write 'and' between conditions"),
        ("x ^ 2", r"write '\*\*' for a power"),
        ("sqrt(x, y)", r"'sqrt\(x, y\)' at character 1 has 2 arguments; the function takes 1"),
        ("sqrt", r"'sqrt' at character 1 is a function; give it arguments, as in sqrt"),
        ("not x", r"'x' at character 5 is a number, but 'not' needs a condition there; compare"),
        ("x + (y < 1)", r"'y < 1' at character 6 is a condition, but '\+' needs a number"),
        ("x +", r"'x \+' is not an expression: invalid syntax at character 4"),
        ("9 ** 9 ** 9", r"'9 \*\* 9 \*\* 9' at character 1 has no finite value \(it is inf\)"),
        ("x + 1 / 0", r"'1 / 0' at character 5 has no finite value"),
        ("x\u00b2", r"'\\xb2' at character 2 of 'x\\xb2' cannot stand in an expression"),
        ("x" * 501, r"has 501 characters, more than 500; give parts of it names under 'values'"),
        ("-" * 60 + "x", r"is nested more than 50 deep; give parts of it names"),
    ],
)
def test_says_what_stood_where_and_what_to_do(text, told):
    with pytest.raises(ConfigError, match=told):
        parse_expression(text, where=WHERE)


def test_kind_must_be_the_one_needed():
    with pytest.raises(
        ConfigError, match="'x < 1' is a condition, a number is needed; leave the c"
    ):
        parse_expression("x < 1", where=WHERE, gives="number")
    with pytest.raises(ConfigError, match="'x' is a number, a condition is needed; compare it"):
        parse_expression("x", where=WHERE, gives="condition")


def test_unknown_names_are_told_with_the_closest():
    expression = parse_expression("x + shaer_gpa", where=WHERE)
    with pytest.raises(
        ConfigError, match="unknown name 'shaer_gpa' at character 5; did you mean 'shear_gpa'"
    ):
        expression.check_names({"x", "shear_gpa"})
    with pytest.raises(ConfigError, match="'shaer_gpa' at character 5 is defined elsewhere"):
        expression.check_names({"x"}, {"shaer_gpa": "is defined elsewhere"})
    expression.check_names({"x", "shaer_gpa"})


def test_long_sums_and_conjunctions_are_fine():
    assert value(" + ".join(["x"] * 45), x=1.0) == 45
    assert value(" and ".join(["x > 0"] * 40), x=1.0) == 1
