"""docs/operation/logs.md and the code know the same fields: what is written is told, and what is told is written."""

import ast
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from idp.logs import JsonFormatter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operation" / "logs.md").read_text(encoding="utf-8")
FORMATTER = {"at", "level", "logger", "message", "exception", "trace"}  # what idp/logs.py adds to every line
PARTS = ("idp", "admin", "migrations", "clients", "server.py")


def trees() -> Iterator[ast.Module]:
    """Everything that writes to the server's log."""
    for part in PARTS:
        for path in [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py")):
            if "examples" not in path.parts:
                yield ast.parse(path.read_text(encoding="utf-8"))


def fields_in(tree: ast.Module) -> Iterator[str]:
    """The keys of every `{"fields": {…}}`, written there or under a name of the same function."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        named = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if not isinstance(node, ast.Dict):
                continue
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "fields":
                    found = named.get(value.id) if isinstance(value, ast.Name) else value
                    assert isinstance(found, ast.Dict), "the fields of a log line must be readable in its function"
                    for name in found.keys:
                        assert isinstance(name, ast.Constant)
                        yield str(name.value)


def messages_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def table(heading: str) -> list[list[str]]:
    """Rows of the table below a heading, without the head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_field_is_told_and_every_told_field_is_written() -> None:
    written = {name for tree in trees() for name in fields_in(tree)} | FORMATTER
    told = [row[0].strip("`") for row in table("Fields")]
    assert sorted(told) == sorted(written)


def test_formatter_adds_the_fields_that_every_line_has() -> None:
    try:
        raise KeyError("x")
    except KeyError:
        record = logging.LogRecord("test", logging.ERROR, "", 0, "x", None, sys.exc_info())
    assert set(json.loads(JsonFormatter().format(record))) == FORMATTER


def test_told_messages_exist() -> None:
    written = {message for tree in trees() for message in messages_in(tree)}
    told = {row[0].strip("`") for row in table("Lines to know")}
    assert told <= written


def test_examples_are_json_of_told_fields() -> None:
    told = {row[0].strip("`") for row in table("Fields")}
    for row in table("Fields"):
        json.loads(row[2].strip("`"))
    examples = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    for line in "".join(examples).splitlines():
        assert set(json.loads(line)) <= told
