"""Names of people in the one form that is stored and compared."""

import re
import unicodedata

from idp.identifiers.common import Checked, accepted, drop_invisible, refused

# Unified and compatibility ideographs with their extensions, radicals, 々 and 〇. The private use area holds
# rare signs that an old encoding could not name.
_HAN = re.compile(
    "[\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\ue000-\ufaff\U00020000-\U0003ffff\U000f0000-\U0010ffff]"
)
_DOT = "\u00b7\u2022\u2027\u30fb\u2219\u22c5.\u3002\u25cf\u25cb\u25e6"
_DOTS = re.compile(f"[{_DOT}]+")
_GAPS = re.compile(f"[{_DOT}\\s,\u3001]+")
_BLANKS = re.compile(r"\s+")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOST = re.compile("[?\u25a1\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff]")
# Normalizing a long run of combining signs takes quadratic time.
_LONGEST = 500


def normalize_name(text: str) -> Checked:
    """Bring a person's name into the normal form; the name as issued stays with the caller for display.

    Names with Han signs: every dot becomes one U+00B7, none at the ends, no blanks. Other names: dots, commas
    and blanks become one blank, upper case. Traditional signs stay, folding them is for comparison only.
    Codes: NAME_EMPTY, NAME_LENGTH (more than 500 signs). W_NAME_LOST: a sign got lost on the way (?, □,
    private use). No fixes are recorded.
    """
    name = _CONTROL.sub("", drop_invisible(text)).strip()
    if len(name) > _LONGEST:
        return refused("NAME_LENGTH")
    # A lone surrogate cannot be stored; what it stood for is lost.
    name = _SURROGATE.sub("\ufffd", name)
    # Taking blanks out can bring together what composes further, so a second pass may be needed.
    for _ in range(4):
        before, name = name, _normal_form(name)
        if name == before:
            break
    if not name:
        return refused("NAME_EMPTY")
    return accepted(name, (), ("W_NAME_LOST",) if _LOST.search(name) else ())


def _normal_form(name: str) -> str:
    name = unicodedata.normalize("NFKC", name)
    if _HAN.search(name):
        return _DOTS.sub("\u00b7", _BLANKS.sub("", name)).strip("\u00b7")
    return _GAPS.sub(" ", name).strip().upper()
