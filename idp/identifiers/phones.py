"""Mobile numbers of mainland China."""

import re

from idp.identifiers.common import (
    Checked,
    accepted,
    compose,
    drop_invisible,
    drop_quotes,
    drop_separators,
    refused,
)

_MOBILE = re.compile(r"(?:\+?86|0086|0)?(1[3-9][0-9]{9})")
_BRACKETS = re.compile("[][(){}【】〔〕]")
_NUMBER_CELL = re.compile(r"(\+?[0-9]+)\.0+")
_SCIENTIFIC = re.compile(r"([0-9])\.([0-9]+)[Ee]\+?([0-9]{1,2})")
_EIGHT_EQUAL = re.compile(r"[0-9]{3}([0-9])\1{7}")
_WELL_KNOWN = frozenset(("13800138000",))


def check_phone(text: str) -> Checked:
    """Read a mobile number; canonical are the 11 digits without country code. No fixes are recorded.

    Codes: PHONE_FORMAT, PHONE_PLACEHOLDER (numbers that people type to get past a form).
    """
    match = _MOBILE.fullmatch(_bare(text))
    if not match:
        return refused("PHONE_FORMAT")
    phone = match[1]
    if phone in _WELL_KNOWN or _EIGHT_EQUAL.fullmatch(phone):
        return refused("PHONE_PLACEHOLDER")
    return accepted(phone)


def _bare(text: str) -> str:
    """Digits, perhaps with a plus: number cells restored, then separators and brackets out."""
    text = drop_quotes(compose(drop_invisible(text))).strip()
    # Number cells come first: taken as a separator, the dot of "1749123456.0" would add a digit.
    if cell := _NUMBER_CELL.fullmatch(text):
        return cell[1]
    if power := _SCIENTIFIC.fullmatch(text):
        digits = power[1] + power[2]
        # Fewer digits than the exponent asks for are lost ones, or zeros; nobody can tell.
        return digits if len(digits) == int(power[3]) + 1 else ""
    return _BRACKETS.sub("", drop_separators(text))
