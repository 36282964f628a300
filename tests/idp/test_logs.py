"""Logs: one JSON object a line, cut to size, without anybody's number."""

import io
import json
import logging
from typing import Any

import pytest

from idp.logs import JsonFormatter, mask_numbers


def written(message: str, *arguments: object, **options: Any) -> dict[str, Any]:
    """What a call of the logger writes, read back."""
    stream = io.StringIO()
    logger = logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.error(message, *arguments, **options)
    (line,) = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_line_holds_message_and_fields() -> None:
    line = written("hello %s", "一门", extra={"fields": {"status": 200, "route": "/login", "nothing": None}})
    assert (line["message"], line["level"], line["logger"]) == ("hello 一门", "error", "test")
    assert (line["status"], line["route"], line["nothing"]) == (200, "/login", None)
    assert line["at"].endswith("+00:00")


@pytest.mark.parametrize(
    "text",
    [
        "449901199001010013",
        "44990119900101001X",
        "44990119900101001x",
        "449901900101001",
        "17400001628",
        "8617400001628",
    ],
)
def test_line_holds_no_number_anywhere(text: str) -> None:
    line = written(
        f"got {text}.", extra={"fields": {"a": [text], "b": {"c": f"id={text}"}, "n": int("4499011990010100")}}
    )
    assert text not in json.dumps(line)
    assert line["message"] == f"got {'*' * len(text)}."
    assert line["n"] == "*" * 16


def test_line_holds_no_number_of_an_exception() -> None:
    try:
        raise ValueError("bad number 449901199001010013")
    except ValueError:
        line = written("failed", exc_info=True)
    assert line["exception"] == "ValueError"
    assert "449901199001010013" not in json.dumps(line)
    assert any("test_logs" in part for part in line["trace"])


def test_long_value_is_cut() -> None:
    line = written("x" * 5_000, extra={"fields": {"body": "y" * 5_000}})
    assert len(line["message"]) < 2_100
    assert len(line["body"]) < 2_100


@pytest.mark.parametrize("text", ["1795595748", "1795595748123", "12345678", "abc12345678901def", "6f1c0c1e-9c1d"])
def test_times_and_short_numbers_stay(text: str) -> None:
    assert mask_numbers(text) == text
