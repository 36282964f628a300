"""Request: what arrived, as plain strict facts. Whatever is malformed is refused here and never repaired."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from idp.errors import InvalidInput

FIELD_LIMIT = 200
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # no field of ours has several lines
FORM_TYPE = "application/x-www-form-urlencoded"

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request. `query` and `form` keep every value of every name, in order."""

    method: str
    path: str
    query: Pairs = field(default_factory=list)
    form: Pairs = field(default_factory=list)
    headers: Mapping[str, list[str]] = field(default_factory=dict)  # names in lower case, all values
    cookies: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        """The first value of a header, "" when absent."""
        return next(iter(self.headers.get(name, ())), "")

    def value(self, name: str, default: str = "") -> str:
        """The only value of a name in the form of a POST, else in the query. Raises InvalidInput when repeated."""
        found = [value for key, value in (self.form if self.method == "POST" else self.query) if key == name]
        if len(found) > 1:
            raise InvalidInput(f"{name[:40]} is repeated" if name.isascii() else "a parameter is repeated")
        return found[0] if found else default

    def values(self, name: str) -> list[str]:
        """All values of a name in the form of a POST, else in the query."""
        return [value for key, value in (self.form if self.method == "POST" else self.query) if key == name]


def parse_pairs(raw: bytes) -> Pairs:
    """Name and value pairs of a query string or an urlencoded body (WHATWG URL section 5.1, but strict).

    Raises InvalidInput for a broken escape, bytes that are not UTF-8, control characters or too many fields.
    """
    if not raw:
        return []
    pieces = raw.split(b"&")
    if len(pieces) > FIELD_LIMIT:
        raise InvalidInput("too many fields")
    pairs = []
    for piece in pieces:
        if piece:
            name, _, value = piece.partition(b"=")
            pairs.append((_decode(name), _decode(value)))
    return pairs


def _decode(raw: bytes) -> str:
    if _BROKEN_ESCAPE.search(raw):
        raise InvalidInput("a percent escape is broken")
    data = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), raw.replace(b"+", b" "))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("a parameter is not UTF-8") from None
    if _CONTROL.search(text):
        raise InvalidInput("a parameter holds a control character")
    return text


def parse_cookies(lines: Iterable[str]) -> dict[str, str]:
    """Cookies by name. Of two cookies with one name neither counts: one of them is not ours."""
    found: dict[str, str] = {}
    repeated = set()
    for line in lines:
        for part in line[:16_384].split(";"):
            name, separator, value = part.strip().partition("=")
            if not separator:
                continue
            if name in found:
                repeated.add(name)
            found[name] = value
    return {name: value for name, value in found.items() if name not in repeated}
