"""Identifier types of people by name, and what a text in a login field can mean."""

from collections.abc import Callable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Protocol

from idp.identifiers.citizen import check_citizen_id
from idp.identifiers.common import Checked, refused
from idp.identifiers.documents import (
    check_fpr2017,
    check_hkmo_permit,
    check_passport,
    check_passport_cn,
    check_tw_permit,
)
from idp.identifiers.phones import check_phone


class PersonCheck(Protocol):
    """A check of one identifier type of people; `today` is a date in Asia/Shanghai."""

    def __call__(self, text: str, *, today: date | None = None, synthetic_allowed: bool) -> Checked: ...


def _citizen(type_name: str) -> PersonCheck:
    """The check of 18-digit numbers of one type; a number of another type is KIND_UNKNOWN."""

    def check(text: str, *, today: date | None = None, synthetic_allowed: bool) -> Checked:
        result = check_citizen_id(text, today=today, synthetic_allowed=synthetic_allowed)
        if result.ok and result.kind.partition("_")[0] != type_name:
            return refused("KIND_UNKNOWN", result.fixes)
        return result

    return check


def _document(check_text: Callable[[str], Checked]) -> PersonCheck:
    """The check of a document that depends on its text alone."""

    def check(text: str, *, today: date | None = None, synthetic_allowed: bool) -> Checked:
        return check_text(text)

    return check


PERSON_TYPES: Mapping[str, PersonCheck] = MappingProxyType(
    {
        "cid": _citizen("cid"),
        "residence": _citizen("residence"),
        "fpr2023": _citizen("fpr2023"),
        "fpr2017": _document(check_fpr2017),
        "hkmo_permit": _document(check_hkmo_permit),
        "tw_permit": _document(check_tw_permit),
        "passport_cn": _document(check_passport_cn),
        "passport": _document(check_passport),
    }
)


def read_typed(text: str, *, today: date | None = None, synthetic_allowed: bool) -> list[tuple[str, str]]:
    """All (type, canonical) that a text in a login field may mean, in the order of PERSON_TYPES, then phone.

    Lossless fixes are applied, guesses never. An empty list: no number of a person.
    """
    checked = [
        (name, check(text, today=today, synthetic_allowed=synthetic_allowed)) for name, check in PERSON_TYPES.items()
    ]
    checked.append(("phone", check_phone(text)))
    return [(name, result.canonical) for name, result in checked if result.canonical is not None and not result.guessed]
