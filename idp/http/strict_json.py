"""JSON that arrives: one spelling, bounded depth, and nothing that two readers could understand differently.

RFC 8259 leaves repeated names, huge numbers and NaN to the reader; here they are refused (security.md R02, Z6).
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from idp.errors import InvalidInput

DEPTH_LIMIT = 16
ITEMS_LIMIT = 10_000  # opening brackets, commas and colons: what makes the reader allocate
DIGITS_LIMIT = 40  # signs of one number
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NUMBER = re.compile(rb"[0-9.eE+-]{%d,}" % (DIGITS_LIMIT + 1))


def parse_object(raw: bytes) -> dict[str, Any]:
    """The object of a JSON body.

    Raises InvalidInput for what is not JSON in UTF-8, not an object, too deep, too long, or ambiguous.
    """
    _refuse_shape(_STRING.sub(b'""', raw))
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not well-formed JSON") from None
    if not isinstance(found, dict):
        raise InvalidInput("the body must be a JSON object")
    return found


def _refuse_shape(bare: bytes) -> None:
    """Count before parsing, in C and without a tree. `bare` has no texts within its strings."""
    items = bare.count(b",") + bare.count(b":") + bare.count(b"[") + bare.count(b"{")
    if items > ITEMS_LIMIT or _NUMBER.search(bare):
        raise InvalidInput("the JSON is too large")
    depth = 0
    for sign in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if sign in b"[{" else -1
        if depth > DEPTH_LIMIT:
            raise InvalidInput("the JSON is too deep")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is repeated")
    for name, value in found.items():
        _refuse_text(name)
        _refuse_text(value)
    return found


def _refuse_text(value: Any) -> None:
    """A lone surrogate or NUL comes in by an escape only, and no store could keep it."""
    if isinstance(value, list):
        for item in value:
            _refuse_text(item)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    elif isinstance(value, str) and ("\0" in value or not value.isascii()):
        value.encode()  # UnicodeEncodeError is a ValueError
        if "\0" in value:
            raise ValueError("NUL in a text")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
