"""Numbers of organizations: credit code, organization code, registration number."""

import re

from idp.identifiers.common import (
    EMPTY_WORDS,
    PROVINCES,
    Checked,
    accepted,
    clean,
    is_placeholder,
    is_scientific,
    refused,
)

# GB 32100-2015: no I O S V Z; the weight of position i (from 1) is 3^(i-1) mod 31.
_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_VALUE = {sign: value for value, sign in enumerate(_ALPHABET)}
_WEIGHTS = tuple(pow(3, i, 31) for i in range(17))
_LOOKALIKE = str.maketrans("OIZS", "0125")
_SIGNS = re.compile(f"[{_ALPHABET}]{{18}}")
_REGION = re.compile(r"[0-9]{6}")
# GB 32100-2015 and its amendment: registering authority and the kinds it registers.
_KINDS = {
    "1": "1239",
    "2": "19",
    "3": "123459",
    "4": "19",
    "5": "1239",
    "6": "129",
    "7": "129",
    "8": "19",
    "9": "123",
    "A": "19",
    "N": "1239",
    "Y": "1",
}

# GB 11714: digits count as themselves, A is 10 and Z is 35.
_ORG_CODE = re.compile(r"[0-9A-Z]{8}[0-9X]")
_ORG_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_REG_NO = re.compile(r"[0-9]{15}|[0-9]{13}")


def check_uscc(text: str) -> Checked:
    """Read a unified social credit code (GB 32100-2015).

    Codes in the order of the checks: USCC_EMPTY, USCC_SCI_NOTATION, USCC_LENGTH, USCC_CHARSET, USCC_REGION,
    USCC_CHECKSUM. Warnings W_UNKNOWN_KIND, W_ORGCODE_CHECK and W_REGION_PROVINCE never refuse, because codes
    that contradict those rules were issued.
    """
    cleaned, fixes = clean(text)
    if cleaned in EMPTY_WORDS or is_placeholder(cleaned):
        return refused("USCC_EMPTY", fixes)
    if is_scientific(text, cleaned):
        return refused("USCC_SCI_NOTATION", fixes)
    fault = _fault(cleaned)
    if fault == "USCC_CHARSET":
        guess = cleaned.translate(_LOOKALIKE)
        if not _fault(guess):
            return accepted(guess, (*fixes, "lookalike!"), _warnings(guess))
    return refused(fault, fixes) if fault else accepted(cleaned, fixes, _warnings(cleaned))


def _fault(code: str) -> str:
    """Code of the first rule that a cleaned text breaks, or an empty string."""
    if len(code) != 18:
        return "USCC_LENGTH"
    if not _SIGNS.fullmatch(code):
        return "USCC_CHARSET"
    if not _REGION.fullmatch(code[2:8]):
        return "USCC_REGION"
    total = sum(weight * _VALUE[sign] for weight, sign in zip(_WEIGHTS, code, strict=False))
    return "" if code[17] == _ALPHABET[-total % 31] else "USCC_CHECKSUM"


def _warnings(code: str) -> tuple[str, ...]:
    region = code[2:4]
    found = (
        ("W_UNKNOWN_KIND", code[1] not in _KINDS.get(code[0], "")),
        ("W_ORGCODE_CHECK", code[16] != _org_sign(code[8:16])),
        # Region 10 marks organizations registered with a ministry.
        ("W_REGION_PROVINCE", region != "10" and region not in PROVINCES),
    )
    return tuple(name for name, applies in found if applies)


def _org_sign(body: str) -> str:
    total = sum(weight * int(sign, 36) for weight, sign in zip(_ORG_WEIGHTS, body, strict=True))
    return "0123456789X0"[11 - total % 11]


def check_org_code(text: str) -> Checked:
    """Read an organization code, nine signs with or without hyphen (GB 11714-1997).

    Codes: ORG_FORMAT, ORG_CHECKSUM. The credit code carries it in positions 9 to 17.
    """
    cleaned, fixes = clean(text)
    if not _ORG_CODE.fullmatch(cleaned) or is_placeholder(cleaned):
        return refused("ORG_FORMAT", fixes)
    if cleaned[8] != _org_sign(cleaned[:8]):
        return refused("ORG_CHECKSUM", fixes)
    return accepted(cleaned, fixes)


def check_reg_no(text: str) -> Checked:
    """Read a business registration number: 15 digits (GS 15-2006), or 13 from before 2007.

    Codes: REGNO_FORMAT, REGNO_CHECKSUM. Thirteen digits carry no check digit: W_NO_CHECK_DIGIT.
    """
    cleaned, fixes = clean(text)
    if not _REG_NO.fullmatch(cleaned) or is_placeholder(cleaned):
        return refused("REGNO_FORMAT", fixes)
    if len(cleaned) == 13:
        return accepted(cleaned, fixes, ("W_NO_CHECK_DIGIT",))
    if cleaned[14] != _reg_digit(cleaned[:14]):
        return refused("REGNO_CHECKSUM", fixes)
    return accepted(cleaned, fixes)


def _reg_digit(body: str) -> str:
    """ISO 7064 MOD 11,10."""
    product = 10
    for digit in body:
        product = ((product + int(digit)) % 10 or 10) * 2 % 11
    return str((11 - product) % 10)
