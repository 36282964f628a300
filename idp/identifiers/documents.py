"""Documents of people other than 18-digit numbers: travel permits, the old foreigner's card, passports."""

import re
from datetime import date

from idp.identifiers.common import PROVINCES, Checked, accepted, clean, is_placeholder, refused

# Eight lifelong digits, perhaps two that count replacements.
_HKMO_PERMIT = re.compile(r"([HM][0-9]{8})(?:[0-9]{2})?")
# Eight lifelong digits; the old form adds two digits that count issues and mostly a letter in brackets.
_TW_PERMIT = re.compile(r"([0-9]{8})(?:[0-9]{2}(?:\([A-Z]\))?)?")
# Country, province and place, YYMMDD, order digit, check digit.
_FPR2017 = re.compile(r"[A-Z]{3}[0-9]{12}")
_FPR_WEIGHTS = (7, 3, 1) * 4 + (7, 3)
# Ordinary E and G series, the oldest 14 and 15, diplomatic (D), service (S) and public affairs (P).
_PASSPORT_CN = re.compile(r"(?:E[0-9A-HJ-NP-Z]|G[0-9]|1[45]|[DPS][0-9E]?)[0-9]{7}")
_PASSPORT = re.compile(r"[A-Z0-9]{5,9}")


def check_hkmo_permit(text: str) -> Checked:
    """Read a mainland travel permit of Hong Kong and Macao residents.

    Canonical are the letter and the eight lifelong digits: one holder, whatever follows. Code: PERMIT_FORMAT.
    """
    return _lifelong(_HKMO_PERMIT, text)


def check_tw_permit(text: str) -> Checked:
    """Read a mainland travel permit of Taiwan residents; canonical are the eight lifelong digits.

    An old ten-digit number that lost two leading zeros looks like a lifelong one: the form cannot tell.
    Code: PERMIT_FORMAT.
    """
    return _lifelong(_TW_PERMIT, text)


def _lifelong(form: re.Pattern[str], text: str) -> Checked:
    cleaned, fixes = clean(text)
    match = form.fullmatch(cleaned)
    if not match or is_placeholder(match[1].lstrip("HM")):
        return refused("PERMIT_FORMAT", fixes)
    return accepted(match[1], fixes)


def check_fpr2017(text: str) -> Checked:
    """Read the number of a foreign permanent resident on the card of 2017.

    Codes: FPR_FORMAT (also for a birthday that no calendar has), FPR_PROVINCE, FPR_CHECKSUM. The century is
    not written, so no birth date is given. Check digit: weights 7-3-1, A=10, modulo 10 (as in ICAO 9303).
    """
    cleaned, fixes = clean(text)
    if not _FPR2017.fullmatch(cleaned) or not _is_birthday(cleaned[7:13]):
        return refused("FPR_FORMAT", fixes)
    if cleaned[3:5] not in PROVINCES:
        return refused("FPR_PROVINCE", fixes)
    total = sum(weight * int(sign, 36) for weight, sign in zip(_FPR_WEIGHTS, cleaned, strict=False))
    if cleaned[14] != str(total % 10):
        return refused("FPR_CHECKSUM", fixes)
    return accepted(cleaned, fixes)


def _is_birthday(text: str) -> bool:
    """Whether YYMMDD exists in the 20th or the 21st century."""
    year, month, day = int(text[:2]), int(text[2:4]), int(text[4:])
    for century in (1900, 2000):
        try:
            date(century + year, month, day)
        except ValueError:
            continue
        return True
    return False


def check_passport_cn(text: str) -> Checked:
    """Read the number of a Chinese passport. Code: PASSPORT_FORMAT."""
    return _passport(_PASSPORT_CN, text)


def check_passport(text: str) -> Checked:
    """Read a passport number of any country, 5 to 9 letters and digits (ICAO 9303).

    It identifies only together with the issuing country. Code: PASSPORT_FORMAT.
    """
    return _passport(_PASSPORT, text)


def _passport(form: re.Pattern[str], text: str) -> Checked:
    cleaned, fixes = clean(text)
    if not form.fullmatch(cleaned) or is_placeholder(cleaned):
        return refused("PASSPORT_FORMAT", fixes)
    return accepted(cleaned, fixes)
