"""Languages: which one a visitor gets, and the translations of all texts. The texts themselves are Chinese."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from babel.messages.pofile import read_po

DEFAULT = "zh-CN"
LOCALES = (DEFAULT, "en")
FOLDER = Path(__file__).parent / "locale"
HEADER_LIMIT, RANGE_LIMIT = 256, 12  # a longer list of wishes is no honest one
_RANGE = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*(?:\s*;\s*q=([01](?:\.[0-9]{0,3})?))?")


def N_(msgid: str) -> str:
    """Marks a text for translation where it stands; it is translated where it is shown."""
    return msgid


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The translations of one language, by the Chinese text; an absent one stays Chinese."""

    texts: dict[str, str]
    plurals: dict[str, tuple[str, ...]]  # forms for one and for many

    def text(self, msgid: str) -> str:
        return self.texts.get(msgid, msgid)

    def plural(self, msgid: str, count: int) -> str:
        """English tells one from many, Chinese tells nothing."""
        forms = self.plurals.get(msgid, (msgid,))
        return forms[0] if count == 1 else forms[-1]


@functools.cache
def catalogue(locale: str) -> Catalogue:
    """The catalogue of one of LOCALES, read once from its .po file; the source language needs none."""
    if locale == DEFAULT:
        return Catalogue({}, {})
    with open(FOLDER / locale / "LC_MESSAGES" / "yimen.po", "rb") as file:
        read = read_po(file, locale=locale)
    texts = {str(m.id): str(m.string) for m in read if m.id and m.string and not m.pluralizable}
    plurals = {m.id[0]: tuple(m.string or ()) for m in read if m.pluralizable}
    return Catalogue(texts, plurals)


def translate(locale: str, msgid: str, **values: object) -> str:
    """The text in that language, with its `%(name)s` places filled in. Plain text: nothing is escaped."""
    return catalogue(locale).text(msgid) % values


def pick_locale(accept_language: str, ui_locales: str, cookie: str) -> str:
    """`zh-CN` or `en`: what the person chose here, else what the client asks for, else what the browser prefers.

    `ui_locales` are language tags parted by blanks (OIDC Core section 3.1.2.1), `accept_language` is a header
    (RFC 9110 section 12.5.4). What is not understood is passed over, and only the beginning is read at all.
    """
    chosen = {"zh": DEFAULT, "en": "en"}.get(cookie)
    return chosen or _first(ui_locales.split(" ", RANGE_LIMIT)) or _preferred(accept_language) or DEFAULT


def _preferred(accept_language: str) -> str | None:
    wishes = []
    for part in accept_language[:HEADER_LIMIT].split(",")[:RANGE_LIMIT]:
        match = _RANGE.fullmatch(part.strip())
        weight = float(match[2] or 1) if match else 0.0
        if match and weight > 0:
            wishes.append((weight, match[1]))
    wishes.sort(key=lambda wish: -wish[0])
    return _first([tag for _, tag in wishes])


def _first(tags: list[str]) -> str | None:
    for tag in tags[:RANGE_LIMIT]:
        language = tag[:16].partition("-")[0].lower()
        if language in ("zh", "en"):
            return DEFAULT if language == "zh" else "en"
    return None
