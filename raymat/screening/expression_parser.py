"""Reading the text of an expression into a checked tree.

Python's own parser reads the text, which runs nothing, and its result is rewritten into numbers,
names and operations. Whatever has no place in that tree is refused: attributes, subscripts, text,
lambdas, calls of anything but the functions named in `raymat.screening.operations`.
"""

import ast
import math
import warnings
from collections.abc import Collection

import numpy as np

from raymat.errors import ConfigError, did_you_mean
from raymat.screening.expression_tree import (
    Apply,
    Name,
    Node,
    Number,
    compute,
    has_names,
    joined,
    kind_of,
)
from raymat.screening.operations import CONSTANTS, FUNCTIONS, NEGATIVE, OPERATIONS, Operation

LONGEST_TEXT = 500  # characters
DEEPEST = 50  # operations inside each other

_SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.USub: NEGATIVE,
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.And: "and",
    ast.Or: "or",
    ast.Not: "not",
}
# What people write out of habit -> what to write here.
_INSTEAD: dict[type[ast.AST], str] = {
    ast.BitAnd: "write 'and' between conditions",
    ast.BitOr: "write 'or' between conditions",
    ast.BitXor: "write '**' for a power",
    ast.Invert: "write 'not' before a condition",
    ast.IfExp: "write where(condition, a, b)",
    ast.Attribute: "write a plain name",
    ast.Subscript: "write a plain name",
    ast.NamedExpr: "give the part a name of its own under 'values'",
}
_ALLOWED = "an expression holds numbers, names, + - * / **, comparisons, and/or/not and functions"


def short(text: str, longest: int = 60) -> str:
    """Give a text as messages show it."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


class Parser:
    """Rewrites one text.

    Attributes:
        text: the text, on one line.
        where: file and key, for messages.
        positions: the names it reads -> where each stands first, counted from 1.
    """

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self.positions: dict[str, int] = {}
        self.n_nodes = 0

    def parse(self) -> Node:
        """Check the text and give its tree.

        Raises:
            ConfigError: it is no expression, or holds something that expressions may not.
        """
        self._check_characters()
        return self._rewrite(self._python_tree(), depth=0)

    def _check_characters(self) -> None:
        if not self.text:
            raise ConfigError(f"{self.where}: the expression is empty; {_ALLOWED}")
        if len(self.text) > LONGEST_TEXT:
            raise ConfigError(
                f"{self.where}: the expression '{short(self.text)}' has {len(self.text)} "
                f"characters, more than {LONGEST_TEXT}; give parts of it names under 'values'"
            )
        # Python folds look-alike letters of other alphabets into ASCII, so they could spell a name
        # that no reader sees; '#' and '\' would hide what follows.
        for column, character in enumerate(self.text):
            if not character.isascii() or not character.isprintable() or character in "#\\":
                self._refuse_character(column)

    def _refuse_character(self, column: int) -> None:
        raise ConfigError(
            f"{self.where}: {self.text[column]!a} at character {column + 1} of "
            f"{short(self.text)!a} cannot stand in an expression; {_ALLOWED}"
        )

    def _python_tree(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # '1or 2' is about to leave the language
                return ast.parse(self.text, mode="eval").body
        except SyntaxError as cause:
            raise ConfigError(
                f"{self.where}: '{short(self.text)}' is not an expression: {cause.msg} at "
                f"character {cause.offset or len(self.text) + 1}; {_ALLOWED}"
            ) from None
        except (MemoryError, RecursionError, ValueError):
            raise self._too_deep() from None

    def _rewrite(self, node: ast.expr, depth: int) -> Node:
        self.n_nodes += 1  # the middle of a < b < c is rewritten twice, which could multiply
        if depth > DEEPEST or self.n_nodes > LONGEST_TEXT:
            raise self._too_deep()
        tree = self._dispatch(node, depth + 1)
        if isinstance(tree, Apply) and not has_names(tree):
            with np.errstate(all="ignore"):
                result = float(compute(tree, {}))
            if not math.isfinite(result):
                raise self._error(node, f"has no finite value (it is {result})", "correct it")
        return tree

    def _dispatch(self, node: ast.expr, depth: int) -> Node:
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return self._name(node)
            case ast.BinOp(left=left, op=op, right=right):
                return self._apply(node, op, [left, right], depth)
            case ast.UnaryOp(op=op, operand=operand):
                return self._apply(node, op, [operand], depth)
            case ast.BoolOp(op=op, values=operands):
                return self._fold(op, operands, depth)
            case ast.Compare():
                return self._compare(node, depth)
            case ast.Call():
                return self._call(node, depth)
        raise self._refuse(node, type(node))

    def _number(self, node: ast.Constant) -> Number:
        number = node.value
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self._error(node, "is not a number", _ALLOWED)
        try:
            value = np.float64(number)  # so that 9 ** 9 ** 9 is a float, and ends
        except OverflowError:
            value = np.float64(math.inf)
        if not np.isfinite(value):
            raise self._error(node, "is too large a number", "write at most 1.0e308")
        return Number(value)

    def _name(self, node: ast.Name) -> Node:
        if node.id in CONSTANTS:
            return Number(np.float64(CONSTANTS[node.id]))
        if node.id in FUNCTIONS:
            raise self._error(node, "is a function", f"give it arguments, as in {node.id}(...)")
        self.positions.setdefault(node.id, node.col_offset + 1)
        return Name(node.id)

    def _apply(self, node: ast.expr, op: ast.AST, operands: list[ast.expr], depth: int) -> Node:
        symbol = _SYMBOLS.get(type(op))
        if symbol is None:
            raise self._refuse(node, type(op))
        arguments = tuple(self._rewrite(operand, depth) for operand in operands)
        self._check_kinds(symbol, operands, arguments)
        return Apply(symbol, arguments)

    def _fold(self, op: ast.AST, operands: list[ast.expr], depth: int) -> Node:
        symbol = _SYMBOLS[type(op)]
        arguments = [self._rewrite(operand, depth) for operand in operands]
        for operand, argument in zip(operands, arguments, strict=True):
            self._check_kinds(symbol, [operand], (argument,))
        return joined(symbol, arguments)

    def _compare(self, node: ast.Compare, depth: int) -> Node:
        """Rewrite ``a < b < c`` as ``a < b and b < c``."""
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        parts = [self._apply(node, op, [left, right], depth) for left, op, right in pairs]
        return joined("and", parts)

    def _call(self, node: ast.Call, depth: int) -> Node:
        if not isinstance(node.func, ast.Name):
            raise self._refuse(node.func, type(node.func))
        name = node.func.id
        if name not in FUNCTIONS:
            raise self._error(node.func, "is not a function of expressions", "", known=FUNCTIONS)
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            todo = f"write {name}(a, b, ...) without names and stars"
            raise self._error(node, "takes its arguments by position", todo)
        self._check_count(node, FUNCTIONS[name])
        arguments = tuple(self._rewrite(argument, depth) for argument in node.args)
        self._check_kinds(name, node.args, arguments)
        return Apply(name, arguments)

    def _check_count(self, node: ast.Call, function: Operation) -> None:
        takes, found = len(function.takes), len(node.args)
        if found != takes:
            raise self._error(node, f"has {found} arguments", f"the function takes {takes}")

    def _check_kinds(
        self, name: str, operands: list[ast.expr], arguments: tuple[Node, ...]
    ) -> None:
        for operand, argument, kind in zip(
            operands, arguments, OPERATIONS[name].takes, strict=False
        ):
            if kind_of(argument) != kind:
                wish = (
                    "write where(condition, 1, 0) to count with it"
                    if kind == "number"
                    else "compare it, such as 'x > 0'"
                )
                problem = f"is a {kind_of(argument)}, but '{name}' needs a {kind} there"
                raise self._error(operand, problem, wish)

    def _refuse(self, node: ast.expr, culprit: type[ast.AST]) -> ConfigError:
        return self._error(node, "cannot stand in an expression", _INSTEAD.get(culprit, _ALLOWED))

    def _too_deep(self) -> ConfigError:
        return ConfigError(
            f"{self.where}: the expression '{short(self.text)}' is nested more than {DEEPEST} "
            "deep; give parts of it names under 'values'"
        )

    def _error(
        self, node: ast.expr, problem: str, todo: str, known: Collection[str] = ()
    ) -> ConfigError:
        stood = self.text[node.col_offset : node.end_col_offset]
        hint = did_you_mean(stood, known) if known else f"; {todo}"
        return ConfigError(
            f"{self.where}: '{short(stood)}' at character {node.col_offset + 1} {problem}{hint}"
        )
