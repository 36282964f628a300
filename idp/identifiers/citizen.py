"""Citizen numbers and the 18-digit cards of the same form (GB 11643-1999)."""

import re
from datetime import date

from idp.identifiers.common import (
    EMPTY_WORDS,
    PROVINCES,
    Checked,
    clean,
    is_scientific,
    refused,
    today_in_china,
)

# GB 11643-1999, ISO 7064 MOD 11-2: weight of position i (from 1) is 2^(18-i) mod 11.
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_SIGNS = "10X98765432"

_EIGHTEEN = re.compile(r"[0-9]{17}[0-9X]")
_SEVENTEEN = re.compile(r"[0-9]{17}\*?")
_FIFTEEN = re.compile(r"[0-9]{15}")
_DIGITS_AND_X = re.compile(r"[0-9X]+")
_REPEATED = re.compile(r"([0-9A-Z?])\1+|([0-9])\2{16}[0-9X]")
_RISING = "0123456789" * 4
_FALLING = _RISING[::-1]

_LOOKALIKE = str.maketrans("OQDIL|SZB", "000111528")
# Area 83 appears on permits only; the province code of Taiwan is 71.
_RESIDENCE = {"810000": "residence_hk", "820000": "residence_mo", "830000": "residence_tw"}


def check_citizen_id(text: str, *, today: date | None = None, synthetic_allowed: bool) -> Checked:
    """Read a number of 18 or 15 digits of a person, as typed or as exported.

    `kind` is cid, residence_hk, residence_mo, residence_tw or fpr2023. `today` is a date in Asia/Shanghai.
    Numbers whose third and fourth digit are 99 belong to nobody and pass only with `synthetic_allowed`.
    The division is judged by its province alone: tables of counties refuse people born in abolished ones.
    Codes: ID_EMPTY, ID_SCI_NOTATION, ID_MASKED, ID_PLACEHOLDER, ID_15_CENTENARIAN, ID_LENGTH, ID_CHARSET,
    ID_PROVINCE, ID_DATE, ID_DATE_FUTURE, ID_CHECKSUM, ID_EXCEL_TRUNCATED, ID_SYNTHETIC.
    Source: GB 11643-1999 (form, check sign); the 15-digit form is that of 1985.
    """
    cleaned, fixes = clean(text)
    if code := _unusable(text, cleaned):
        return refused(code, fixes)
    number, guess = _guess(cleaned)
    fixes += guess
    if _FIFTEEN.fullmatch(number):
        if number[12:] >= "996":
            return refused("ID_15_CENTENARIAN", fixes)
        number = _widen(number)
        fixes += ("id15",)
    if not _EIGHTEEN.fullmatch(number):
        return refused("ID_LENGTH" if _DIGITS_AND_X.fullmatch(number) else "ID_CHARSET", fixes)
    return _judge(number, fixes, today or today_in_china(), synthetic_allowed)


def _unusable(text: str, cleaned: str) -> str:
    """Code for a text in which no number is left, or an empty string."""
    if cleaned in EMPTY_WORDS:
        return "ID_EMPTY"
    if is_scientific(text, cleaned):
        return "ID_SCI_NOTATION"
    if "*" in cleaned and not _SEVENTEEN.fullmatch(cleaned):
        return "ID_MASKED"
    sequence = len(cleaned) >= 6 and (cleaned in _RISING or cleaned in _FALLING)
    return "ID_PLACEHOLDER" if sequence or _REPEATED.fullmatch(cleaned) else ""


def _check_sign(number: str) -> str:
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    return _SIGNS[total % 11]


def _widen(number: str) -> str:
    """15 digits to 18: the century after the area, the check sign at the end."""
    body = f"{number[:6]}19{number[6:]}"
    return body + _check_sign(body)


def _guess(text: str) -> tuple[str, tuple[str, ...]]:
    """Repair what may be meant: letters for digits, a lost X. Unchanged without a fix if nothing fits."""
    if _SEVENTEEN.fullmatch(text):
        return (text[:17] + "X", ("last_x!",)) if _check_sign(text) == "X" else (text, ())
    if len(text) not in (15, 18) or text.isdigit():
        return text, ()
    guess = text.translate(_LOOKALIKE)
    fits = _FIFTEEN.fullmatch(guess) or (_EIGHTEEN.fullmatch(guess) and _check_sign(guess) == guess[17])
    return (guess, ("lookalike!",)) if fits and guess != text else (text, ())


def _judge(number: str, fixes: tuple[str, ...], today: date, synthetic_allowed: bool) -> Checked:
    """The verdict on 17 digits and a check sign: province, date, check sign, circumstances."""
    kind = _kind(number)
    # The card of foreign permanent residents begins with 9; province and country follow.
    province = number[1:3] if kind == "fpr2023" else number[:2]
    if province not in PROVINCES:
        return refused("ID_PROVINCE", fixes)
    birth = _birth(number)
    if birth is None:
        return refused("ID_DATE", fixes)
    if birth > today:
        return refused("ID_DATE_FUTURE", fixes)
    if _check_sign(number) != number[17]:
        return refused("ID_EXCEL_TRUNCATED" if number.endswith("000") else "ID_CHECKSUM", fixes)
    synthetic = number[2:4] == "99"
    if synthetic and not synthetic_allowed:
        return refused("ID_SYNTHETIC", fixes)
    sex = "M" if int(number[16]) % 2 else "F"
    return Checked("OK", number, fixes, _warnings(number, birth, today, synthetic), kind, birth, sex)


def _kind(number: str) -> str:
    return "fpr2023" if number[0] == "9" else _RESIDENCE.get(number[:6], "cid")


def _birth(number: str) -> date | None:
    try:
        return date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return None


def _warnings(number: str, birth: date, today: date, synthetic: bool) -> tuple[str, ...]:
    old = (birth.year + 120, birth.month, birth.day) < (today.year, today.month, today.day)
    found = (
        ("W_SYNTHETIC", synthetic),
        ("W_AGE_OVER_120", old),
        ("W_ENDS_000", number.endswith("000")),
    )
    return tuple(name for name, applies in found if applies)
