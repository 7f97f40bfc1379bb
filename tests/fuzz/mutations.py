"""Seeded ways to damage a file: bytes, tokens, values of JSON and YAML, and what a path leads to."""

import copy
import gzip
import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

# Values that a reader may choke on; `Raw` is written as it stands.
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, -3.0, 1e308, -1e-320, 10**9, 10**15, 2**63, 2**64 + 1, -(2**63),
    int("9" * 400), float("nan"), float("inf"), "", "5", "yes", "nan", "null", "\x00", "a\x00b",
    "\ud800", "\u202e", "\x1b]0;x\x07", "[/x]", "=1+1", "x" * 100_000, "é" * 50, "../../etc", "/dev/zero",
    [], {}, [[]], [None], [1, "2", None], {"": ""}, {"a": {"a": {"a": 1}}}, list(range(5_000)),
)  # fmt: skip
TOKENS = (
    "", "-", "nan", "NaN", "inf", "1e999", "-1", "0", "9" * 400, "1e-320", "0x1F", "1,5", ";", '"',
    "'", "\x00", "\ufeff", "true", "null", "[", "{", "]}", ":", "#", "\n", "\r", "\t", "\\", "Å", "🔥",
)  # fmt: skip


def damage_bytes(path: Path, rng: random.Random) -> None:
    """Flip, cut, repeat or insert bytes."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content) + 1)
    match rng.randrange(6):
        case 0:
            for _ in range(rng.choice([1, 3, 30])):
                content[rng.randrange(len(content))] = rng.randrange(256)
        case 1:
            del content[place:]
        case 2:
            del content[place : place + rng.choice([1, 10, 1000])]
        case 3:
            content[place:place] = content[: rng.choice([10, 1000])]
        case 4:
            content[place:place] = rng.randbytes(rng.choice([1, 8, 500]))
        case 5:
            content = bytearray(rng.choice([b"", b"\n", b"\x00" * 64, b"PAR1PAR1", b"\xff\xfe"]))
    path.write_bytes(content)


def damage_text(path: Path, rng: random.Random) -> None:
    """Replace words, repeat or drop lines, change the encoding."""
    lines = path.read_text(encoding="utf-8").split("\n")
    number = rng.randrange(len(lines))
    words = lines[number].split(" ")
    match rng.randrange(6):
        case 0 | 1:
            words[rng.randrange(len(words))] = rng.choice(TOKENS)
            lines[number] = " ".join(words)
        case 2:
            lines.insert(number, lines[rng.randrange(len(lines))])
        case 3:
            del lines[number]
        case 4:
            rng.shuffle(lines)
        case 5:
            encoding = rng.choice(["utf-16", "utf-8-sig", "utf-32", "latin-1"])
            path.write_bytes("\n".join(lines).encode(encoding, "replace"))
            return
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")


def damage_values(content: Any, rng: random.Random) -> Any:
    """Return a copy in which a value is another, missing, doubled, or deep inside others."""
    content = copy.deepcopy(content)
    places = list(_places(content))
    if not places:
        return rng.choice(NASTY)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        container, key = rng.choice(places)
        if isinstance(container, dict) and key not in container:
            continue
        if isinstance(container, list) and key >= len(container):
            continue
        match rng.randrange(8):
            case 0:
                del container[key]
            case 1:
                container[key] = [container[key]] * 3
            case 2:
                container[key] = {"x": container[key]}
            case 3:
                container[key] = _nested(rng.choice([50, 900]))
            case 4 if isinstance(container, dict):
                container[rng.choice(["", "x", "model.n_conv", "é", "9"])] = rng.choice(NASTY)
            case _:
                container[key] = rng.choice(NASTY)
    return content


def _places(content: Any) -> Any:
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield content, key
            yield from _places(value)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def damage_json(path: Path, rng: random.Random) -> None:
    """Damage the values of a JSON file, of a line of JSON lines, or its text."""
    text = path.read_text(encoding="utf-8")
    if rng.random() < 0.15:
        path.write_text(
            rng.choice(["[" * 100_000, '{"a":' * 5_000, f'{{"event": {"9" * 5_000}}}', "[]", "3"])
        )
    elif rng.random() < 0.2:
        rng.choice([damage_bytes, damage_text])(path, rng)
    elif path.suffix == ".jsonl":
        lines = text.splitlines()
        number = rng.randrange(len(lines))
        lines[number] = json.dumps(damage_values(json.loads(lines[number]), rng))
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text(json.dumps(damage_values(json.loads(text), rng)))


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_BOMBS = (
    LAUGHS,
    "a: &a [*a]\n",
    "a: " + "[" * 5_000,
    "a: " + "{a: " * 3_000,
    "- " * 3_000 + "x",
    "? [a, b]\n: c\n",
    "a: !!python/object/apply:os.getpid []\n",
    "a: !!int x\n",
    "a: !!timestamp x\n",
    "a: !!bool x\n",
    "a: 2024-99-99\n",
    f"a: {'9' * 5_000}\n",
    "a: 0b_\n",
    'a: "\\uD800"\n',
    "a: b: c\n",
    "\t- x",
    "%YAML 9.9\n---\na: 1\n",
    "a: 1\n---\nb: 2\n",
    "<<: 1\n",
    "=: 1\n",
    "x" * 300_000,
    "a: 1\na: 2\n",
)


def damage_yaml(path: Path, rng: random.Random) -> None:
    """Damage the values of a YAML file or its text, or put something endless in its place."""
    text = path.read_text(encoding="utf-8")
    chance = rng.random()
    if chance < 0.15:
        path.write_text(rng.choice(YAML_BOMBS), encoding="utf-8")
    elif chance < 0.25:
        path.write_text(f"{text}\n{rng.choice(YAML_BOMBS)}", encoding="utf-8")
    elif chance < 0.4:
        rng.choice([damage_bytes, damage_text])(path, rng)
    else:
        changed = damage_values(yaml.safe_load(text), rng)
        # JSON is YAML, and writes what a YAML writer refuses.
        path.write_text(json.dumps(changed), encoding="utf-8")


def damage_path(path: Path, rng: random.Random) -> None:
    """Put something in the place of a file that is none."""
    if path.is_dir():
        path.rename(path.with_name(f"{path.name}-before"))
    else:
        path.unlink()
    match rng.randrange(7):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to(path.name)
        case 2:
            path.mkdir()
        case 3:
            path.symlink_to("/dev/zero")
        case 4:
            path.symlink_to("nowhere")
        case 5:
            _make_socket(path)
        case 6:
            path.write_bytes(b"")


def _make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has at most 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def damage_gzip(path: Path, rng: random.Random) -> None:
    """Damage what is packed, or the pack."""
    if rng.random() < 0.5:
        damage_bytes(path, rng)
        return
    inner = path.with_suffix(".inner.json")
    inner.write_bytes(gzip.decompress(path.read_bytes()))
    damage_json(inner, rng)
    path.write_bytes(gzip.compress(inner.read_bytes()))


def damage(path: Path, rng: random.Random) -> None:
    """Damage a file in a way that suits its kind."""
    if path.is_dir() or rng.random() < 0.12:
        damage_path(path, rng)
        return
    special: dict[str, Callable[[Path, random.Random], None]] = {
        ".json": damage_json, ".jsonl": damage_json, ".yaml": damage_yaml, ".gz": damage_gzip,
        ".csv": damage_text, ".cif": damage_text, ".md": damage_text, ".extxyz": damage_text,
        "": damage_text,
    }  # fmt: skip
    chosen = special.get(path.suffix, damage_bytes)
    (damage_bytes if rng.random() < 0.2 else chosen)(path, rng)
