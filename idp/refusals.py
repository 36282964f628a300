"""Why a number, a name or a code is refused: one English sentence for each code of the checks."""

from collections.abc import Mapping
from types import MappingProxyType

from idp.errors import InvalidInput
from idp.identifiers import Checked

SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "ID_EMPTY": "no number was given",
        "ID_SCI_NOTATION": "a spreadsheet wrote the number in scientific notation; its digits are lost",
        "ID_MASKED": "the number is masked; the whole number is needed",
        "ID_PLACEHOLDER": "this is a placeholder and nobody's number",
        "ID_15_CENTENARIAN": "15-digit numbers with an order code from 996 on need a review by hand",
        "ID_LENGTH": "a citizen number has 18 signs, or 15 in the old form",
        "ID_CHARSET": "only digits and a final X may stand in a citizen number",
        "ID_PROVINCE": "the first two digits are no province",
        "ID_DATE": "the birth date in the number does not exist",
        "ID_DATE_FUTURE": "the birth date in the number lies in the future",
        "ID_CHECKSUM": "the check sign does not fit; one of the digits is wrong",
        "ID_EXCEL_TRUNCATED": "a spreadsheet cut the last digits of the number to zeros",
        "ID_SYNTHETIC": "this is a test number, and test numbers are not allowed here",
        "PERMIT_FORMAT": "this is not the form of a travel permit number",
        "FPR_FORMAT": "this is not the form of a foreign permanent resident's number",
        "FPR_CHECKSUM": "the check digit does not fit; one of the signs is wrong",
        "FPR_PROVINCE": "the number names no province",
        "PASSPORT_FORMAT": "this is not the form of a passport number",
        "KIND_UNKNOWN": "this is a number of another type of document",
        "GUESS": "the number can only be guessed; type it as it stands on the document",
        "PHONE_FORMAT": "this is not a mobile number of mainland China",
        "PHONE_PLACEHOLDER": "this is a placeholder and nobody's mobile number",
        "NAME_EMPTY": "no name was given",
        "NAME_LENGTH": "the name is longer than any name",
        "USCC_EMPTY": "no credit code was given",
        "USCC_SCI_NOTATION": "a spreadsheet wrote the code in scientific notation; its digits are lost",
        "USCC_LENGTH": "a unified social credit code has 18 signs",
        "USCC_CHARSET": "the letters I, O, S, V and Z and special signs do not occur in a credit code",
        "USCC_REGION": "the signs 3 to 8 of a credit code are digits",
        "USCC_CHECKSUM": "the check sign does not fit; one of the signs is wrong",
    }
)


class NumberRefused(InvalidInput):
    """A number, name or code that no person or organization can have. `reason` is the code of the check."""

    code = "number_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: {SENTENCES.get(reason, 'not accepted')}")
        self.reason = reason


def canonical(checked: Checked) -> str:
    """The canonical form. Raises NumberRefused, also for a form that was only guessed."""
    if checked.canonical is None:
        raise NumberRefused(checked.code)
    if checked.guessed:
        raise NumberRefused("GUESS")
    return checked.canonical
