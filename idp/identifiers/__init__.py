"""Numbers and names of people and organizations: parse, check, repair, mask; pure functions."""

from idp.identifiers.citizen import check_citizen_id
from idp.identifiers.common import Checked, today_in_china
from idp.identifiers.documents import (
    check_fpr2017,
    check_hkmo_permit,
    check_passport,
    check_passport_cn,
    check_tw_permit,
)
from idp.identifiers.masks import (
    coarse_address,
    mask_name,
    mask_name_own,
    mask_number,
    mask_number_counter,
    mask_number_own,
    mask_phone,
    mask_phone_own,
)
from idp.identifiers.names import normalize_name
from idp.identifiers.organization import check_org_code, check_reg_no, check_uscc
from idp.identifiers.phones import check_phone
from idp.identifiers.typed import PERSON_TYPES, PersonCheck, read_typed

__all__ = [
    "PERSON_TYPES",
    "Checked",
    "PersonCheck",
    "check_citizen_id",
    "check_fpr2017",
    "check_hkmo_permit",
    "check_org_code",
    "check_passport",
    "check_passport_cn",
    "check_phone",
    "check_reg_no",
    "check_tw_permit",
    "check_uscc",
    "coarse_address",
    "mask_name",
    "mask_name_own",
    "mask_number",
    "mask_number_counter",
    "mask_number_own",
    "mask_phone",
    "mask_phone_own",
    "normalize_name",
    "read_typed",
    "today_in_china",
]
