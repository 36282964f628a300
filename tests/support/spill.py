"""What must never spill: remembers each number, password and token that a test run uses, and searches for them."""

import base64
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

SHORTEST = 8  # shorter values meet by chance
_used: dict[str, set[str]] = {}
_seen: list[tuple[str, str]] = []


def remember(kind: str, *values: str) -> None:
    """Values that only those concerned may see: `number`, `password`, `token`, `code`, `secret`."""
    _used.setdefault(kind, set()).update(value for value in values if len(value) >= SHORTEST)


def used() -> dict[str, set[str]]:
    return {kind: set(values) for kind, values in _used.items()}


def saw(where: str, text: str) -> None:
    """Something that the server showed to a client: an address or an error."""
    _seen.append((where, text))


def seen() -> list[tuple[str, str]]:
    return list(_seen)


def forms(value: str) -> Iterator[bytes]:
    """The value raw, URL-encoded, and in Base64 wherever it may stand in what was encoded."""
    raw = value.encode()
    yield raw
    if quote(value, safe="") != value:
        yield quote(value, safe="").encode()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        whole = encoded[(0, 2, 3)[before] : len(encoded) - 4]  # signs that no neighbour changes
        if len(whole) >= SHORTEST:
            yield whole
            yield whole.replace(b"+", b"-").replace(b"/", b"_")


def search(kinds: dict[str, set[str]], sources: Iterable[tuple[str, bytes]]) -> list[str]:
    """One line for each value that a source holds; the line names kind and source, never the value."""
    wanted = [(kind, form) for kind, values in kinds.items() for value in values for form in set(forms(value))]
    return [
        f"{kind} in {name}"
        for name, content in sources
        for words in [_words(content)]
        for kind, form in wanted
        if (form in words if _WORD.fullmatch(form) else form in content)
    ]


_WORD = re.compile(rb"[A-Za-z0-9+/_=%.~-]{8,}")
_TRACE_ID = re.compile(rb"[0-9a-f]{32}")


def _words(content: bytes) -> bytes:
    """Each word of a log once, so that a search over many values stays quick; trace ids are nobody's."""
    found = {word for word in _WORD.findall(content) if not _TRACE_ID.fullmatch(word)}
    return b"\n".join(found)


def logs(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every log that a server wrote below a folder."""
    for path in sorted(folder.rglob("*.log")):
        yield str(path.relative_to(folder)), path.read_bytes()
