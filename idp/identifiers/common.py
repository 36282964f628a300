"""What all checks share: the result, the cleaning of typed text, provinces, today in China."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

# First two digits of a division code (GB/T 2260); 83 occurs only in residence permits of Taiwan residents.
_PROVINCE_RANGES = ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 71), (81, 83))
PROVINCES = frozenset(str(code) for first, last in _PROVINCE_RANGES for code in range(first, last + 1))
EMPTY_WORDS = frozenset(("", "无", "無", "暂无", "NULL", "NONE", "NAN", "NA", "N/A", "测试"))

_CHINA = timezone(timedelta(hours=8))
# Normalizing a long run of combining signs takes quadratic time; no identifier comes near this length.
_LONGEST = 200

_PLAIN = re.compile(r"[0-9A-Z]+")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\ufeff\u00ad]")
_LIKE_X = re.compile("[\u2169\u2179\u0425\u0445\u03a7\u03c7\u00d7\u2715\u2716\u2573]")
_SEPARATOR = re.compile("[\\s._\u00b7\u3002\u2010-\u2015\u2212-]")
_QUOTE = re.compile("[\"'`\u2018\u2019\u201c\u201d]")
_SCIENTIFIC = re.compile(r"\+?[0-9]+(?:,[0-9]+)?E\+?[0-9]{1,3}")
_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class Checked:
    """Outcome of a check. `canonical` is None unless `code` is OK.

    `fixes` names the cleaning that was done, a guess ends in "!" and counts only after confirmation.
    `kind`, `birth` and `sex` (M or F) are read from citizen numbers only.
    """

    code: str
    canonical: str | None
    fixes: tuple[str, ...]
    warnings: tuple[str, ...]
    kind: str = ""
    birth: date | None = None
    sex: str = ""

    @property
    def ok(self) -> bool:
        return self.code == "OK"

    @property
    def guessed(self) -> bool:
        return any(fix.endswith("!") for fix in self.fixes)


def accepted(canonical: str, fixes: tuple[str, ...] = (), warnings: tuple[str, ...] = ()) -> Checked:
    return Checked("OK", canonical, fixes, warnings)


def refused(code: str, fixes: tuple[str, ...] = ()) -> Checked:
    return Checked(code, None, fixes, ())


def today_in_china() -> date:
    """The date in Asia/Shanghai, which is UTC+8 without summer time."""
    return datetime.now(_CHINA).date()


def drop_invisible(text: str) -> str:
    return _INVISIBLE.sub("", text)


def drop_separators(text: str) -> str:
    return _SEPARATOR.sub("", text)


def drop_quotes(text: str) -> str:
    """Without what spreadsheets leave: a leading ', ="...", stray quotes."""
    return _QUOTE.sub("", text).lstrip("=")


def compose(text: str) -> str:
    """NFKC; longer texts than any identifier stay as they are."""
    return unicodedata.normalize("NFKC", text) if len(text) <= _LONGEST else text


def _like_x(text: str) -> str:
    return _LIKE_X.sub("X", text)


def _upper(text: str) -> str:
    # ASCII letters only: str.upper would make SS of a sharp s and I of a dotless i, which are other signs.
    return text.translate(_UPPER)


# Separators come twice: NFKC turns more signs into hyphens and dots.
_STEPS = (
    ("invisible", drop_invisible),
    ("x_variant", _like_x),
    ("separator", drop_separators),
    ("fullwidth", compose),
    ("excel_quote", drop_quotes),
    ("separator", drop_separators),
    ("case", _upper),
)


def clean(text: str) -> tuple[str, tuple[str, ...]]:
    """Apply the lossless fixes; return the text and the names of the fixes that changed it."""
    if _PLAIN.fullmatch(text):
        return text, ()
    fixes: dict[str, None] = {}
    for fix, step in _STEPS:
        after = step(text)
        if after != text:
            fixes[fix] = None
            text = after
    return text, tuple(fixes)


def is_scientific(text: str, cleaned: str) -> bool:
    """Whether a spreadsheet wrote the number as 4.40106E+17, so that its digits are lost.

    E is a sign of credit codes: 18 signs without plus and dot can be a code.
    """
    if "E" not in cleaned or not _SCIENTIFIC.fullmatch(cleaned):
        return False
    return len(cleaned) != 18 or "+" in cleaned or "." in text


def is_placeholder(text: str) -> bool:
    """Whether nothing but zeros stands there. Such numbers pass several check-sign rules."""
    return not text.strip("0")
