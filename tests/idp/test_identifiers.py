import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idp import identifiers
from idp.identifiers import Checked, check_citizen_id, check_phone, check_uscc, normalize_name, read_typed

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "identifier_vectors.json").read_text(encoding="utf-8")
)
TODAY = date(2026, 11, 22)
USCC_SIGNS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
PROVINCES = re.findall("..", "1112131415212223313233343536374142434445465051525354616263646571")

TEXT_CHECKS: dict[str, Callable[[str], Checked]] = {
    "uscc": identifiers.check_uscc,
    "org_code": identifiers.check_org_code,
    "reg_no": identifiers.check_reg_no,
    "hkmo_permit": identifiers.check_hkmo_permit,
    "tw_permit": identifiers.check_tw_permit,
    "fpr2017": identifiers.check_fpr2017,
    "passport_cn": identifiers.check_passport_cn,
    "passport": identifiers.check_passport,
    "name": identifiers.normalize_name,
    "phone": identifiers.check_phone,
}
MASKS: dict[str, Callable[[str], str]] = {
    "mask_number": identifiers.mask_number,
    "mask_number_counter": identifiers.mask_number_counter,
    "mask_phone": identifiers.mask_phone,
    "mask_name": identifiers.mask_name,
}


def citizen(text: str, today: date = TODAY, synthetic_allowed: bool = True) -> Checked:
    return check_citizen_id(text, today=today, synthetic_allowed=synthetic_allowed)


CHECKS = {**TEXT_CHECKS, "citizen_id": citizen}
CODE = re.compile(r"OK|(ID|USCC|ORG|REGNO|PERMIT|FPR|PASSPORT|NAME|PHONE)_[A-Z0-9_]+")


# ---------------------------------------------------------------- vectors
def run(vector: dict[str, Any]) -> Checked:
    rule, text = vector["rule"], vector["input"]
    if rule == "citizen_id":
        return citizen(text, date.fromisoformat(vector["today"]), vector["synthetic_allowed"])
    if rule in MASKS:
        return Checked("OK", MASKS[rule](text), (), ())
    return TEXT_CHECKS[rule](text)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['rule']}-{v['why']}-{ascii(v['input'])[:24]}")
def test_check_vector_gives_documented_result(vector):
    result = run(vector)
    assert result.code == vector["code"]
    assert result.canonical == vector["canonical"]
    assert set(result.warnings) == set(vector["warnings"])
    if result.ok:
        assert set(result.fixes) == set(vector["fixes"])
    assert result.kind == (vector.get("kind") or "")
    assert (result.birth.isoformat() if result.birth else None) == vector.get("birth")
    assert result.sex == vector.get("sex", "")


def test_vectors_cover_every_rule():
    assert {vector["rule"] for vector in VECTORS} == {"citizen_id", *TEXT_CHECKS, *MASKS}


# ------------------------------------------------------------- properties
def with_check_sign(body: str) -> str:
    """ISO 7064 MOD 11-2 in its recursive form, independent of the table of weights."""
    product = 0
    for digit in body:
        product = (product + int(digit)) * 2 % 11
    value = (1 - product) % 11
    return body + ("X" if value == 10 else str(value))


def with_credit_sign(body: str) -> str:
    total, weight = 0, 1
    for sign in body:
        total, weight = total + USCC_SIGNS.index(sign) * weight, weight * 3
    return body + USCC_SIGNS[(31 - total % 31) % 31]


citizen_numbers = st.builds(
    lambda province, division, birth, order: with_check_sign(f"{province}{division:04}{birth:%Y%m%d}{order:03}"),
    st.sampled_from(PROVINCES),
    st.integers(1, 9999),
    st.dates(date(1907, 1, 1), TODAY),
    st.integers(1, 999),
)
credit_codes = st.builds(
    lambda kind, region, code: with_credit_sign(kind + region + code),
    st.sampled_from(("11", "12", "51", "91", "92", "93", "N1")),
    st.from_regex(r"[1-6][1-5][0-9]{4}", fullmatch=True),
    st.text(USCC_SIGNS, min_size=9, max_size=9),
)
# Surrogates too: a text column can hold anything.
any_text = st.text(st.characters(exclude_categories=())) | st.text("0123456789XxEe.+-*OIl'\"= ()ⅩНM张·", max_size=24)


@settings(deadline=None, max_examples=60, database=None)
@given(citizen_numbers)
def test_citizen_number_single_digit_change_is_caught(number):
    assert citizen(number).canonical == number
    for place, sign in enumerate(number):
        for other in "0123456789X" if place == 17 else "0123456789":
            if other != sign:
                assert not citizen(number[:place] + other + number[place + 1 :]).ok


@settings(deadline=None, max_examples=200, database=None)
@given(citizen_numbers)
def test_citizen_number_swap_of_neighbours_is_caught(number):
    for place in range(17):
        first, second = number[place : place + 2]
        if first != second:
            assert not citizen(number[:place] + second + first + number[place + 2 :]).ok


@settings(deadline=None, max_examples=40, database=None)
@given(credit_codes)
def test_uscc_single_sign_change_is_caught(code):
    assert check_uscc(code).canonical == code
    for place, sign in enumerate(code):
        for other in USCC_SIGNS:
            if other != sign:
                assert not check_uscc(code[:place] + other + code[place + 1 :]).ok


@pytest.mark.parametrize("rule", sorted(CHECKS))
@settings(deadline=None, max_examples=200, database=None)
@given(text=any_text)
def test_check_any_text_never_raises(rule, text):
    result = CHECKS[rule](text)
    assert CODE.fullmatch(result.code)
    assert (result.canonical is not None) == result.ok


@settings(deadline=None, max_examples=200, database=None)
@given(any_text)
def test_read_typed_any_text_gives_canonicals(text):
    for name, canonical in read_typed(text, today=TODAY, synthetic_allowed=True):
        assert (name, canonical) in read_typed(canonical, today=TODAY, synthetic_allowed=True)


@pytest.mark.parametrize("mask", [getattr(identifiers, name) for name in identifiers.__all__ if "mask" in name])
@settings(deadline=None, max_examples=100, database=None)
@given(text=any_text)
def test_mask_any_text_keeps_length_and_never_raises(mask, text):
    assert len(mask(text)) == len(text)


@settings(deadline=None, max_examples=500, database=None)
@given(any_text)
def test_normalize_name_canonical_is_stable(text):
    result = normalize_name(text)
    if result.canonical is not None:
        assert normalize_name(result.canonical) == result
        result.canonical.encode()


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v["code"] == "OK" and v["rule"] in CHECKS],
    ids=lambda v: ascii(v["input"]),
)
def test_check_canonical_again_gives_itself(vector):
    again = run({**vector, "input": vector["canonical"]})
    assert (again.code, again.canonical, again.fixes) == ("OK", vector["canonical"], ())


@settings(deadline=None, max_examples=200, database=None)
@given(citizen_numbers, st.sampled_from(" \t-.\u00a0\u3000\u2011\uff0d\uff0e_"), st.integers(0, 18))
def test_citizen_number_separator_anywhere_is_dropped(number, sign, place):
    result = citizen(number[:place] + sign + number[place:])
    assert result.canonical == number
    assert not result.guessed


# ---------------------------------------------------------- citizen number
@pytest.mark.parametrize(
    "text", ["4.40106 e+17", "４．４０１０６Ｅ＋１７", "4,40106E+17", "=4.40106E17", "+4.4E+017", "4E+17"]
)
def test_citizen_number_scientific_spelling_is_named(text):
    assert citizen(text).code == "ID_SCI_NOTATION"


@pytest.mark.parametrize("text", ["暂无", "测 试", "ｎｕｌｌ", "NaN", "none", "--", "\u200b", "''"])
def test_citizen_number_nothing_meant_is_empty(text):
    assert citizen(text).code == "ID_EMPTY"


@pytest.mark.parametrize("text", ["98765432109876543", "11111111111111111X", "0000000000"])
def test_citizen_number_pattern_is_placeholder(text):
    assert citizen(text).code == "ID_PLACEHOLDER"


def test_citizen_number_repeated_name_is_not_a_placeholder():
    assert citizen("丽丽").code == "ID_CHARSET"


@pytest.mark.parametrize("text", ["11O10519491231003X", "4401061990010100*3"])
def test_citizen_number_guess_that_does_not_fit_is_refused(text):
    assert citizen(text).code in {"ID_CHARSET", "ID_MASKED"}


def test_citizen_number_17_digits_without_x_is_not_completed():
    assert citizen("44010619900101001").code == "ID_LENGTH"
    assert citizen("44010619900101001*").code == "ID_CHARSET"


def test_citizen_number_15_signs_with_letter_is_a_guess():
    result = citizen("11O105491231OO2")
    assert result.canonical == "11010519491231002X"
    assert set(result.fixes) == {"lookalike!", "id15"}
    assert result.guessed


@pytest.mark.parametrize("text", ["٤40106199001010013", "44010619900101001३"])
def test_citizen_number_digits_of_other_scripts_are_refused(text):
    assert citizen(text).code == "ID_CHARSET"


@pytest.mark.parametrize(("today", "warned"), [(date(2000, 1, 1), False), (date(2000, 1, 2), True)])
def test_citizen_number_age_over_120_is_warned_after_the_birthday(today, warned):
    result = citizen("440524188001010014", today)
    assert ("W_AGE_OVER_120" in result.warnings) == warned


def test_citizen_number_residence_permit_of_foreigner_checks_inner_province():
    assert citizen(with_check_sign("94484019900101123")).kind == "fpr2023"
    assert citizen(with_check_sign("91984019900101123")).code == "ID_PROVINCE"


def test_citizen_number_date_defaults_to_today_in_china():
    # Around midnight the day may change between the two readings.
    china = {(datetime.now(UTC) + timedelta(hours=8, minutes=m)).date() for m in (-1, 0, 1)}
    assert identifiers.today_in_china() in china
    tomorrow = max(china) + timedelta(days=1)
    born = with_check_sign(f"110105{tomorrow:%Y%m%d}001")
    assert check_citizen_id(born, synthetic_allowed=False).code == "ID_DATE_FUTURE"


def test_citizen_number_long_combining_text_is_refused():
    assert citizen("a" + "\u0316\u0300" * 100_000).code == "ID_CHARSET"
    assert normalize_name("a" + "\u0316\u0300" * 100_000).code == "NAME_LENGTH"
    assert check_phone("a" + "\u0316\u0300" * 100_000).code == "PHONE_FORMAT"


# ------------------------------------------------------------ organizations
def test_uscc_letter_e_among_digits_is_no_scientific_notation():
    code = next(full for n in range(1000) if (full := with_credit_sign(f"91440100000000E{n:02}"))[17].isdigit())
    assert check_uscc(code).canonical == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("无", "USCC_EMPTY"),
        ("000000000000000000", "USCC_EMPTY"),
        ("91350100MOOO100Y44", "USCC_CHARSET"),
        ("91350100V000100Y43", "USCC_CHARSET"),
        ("91350100M000100Y433", "USCC_LENGTH"),
        ("9.1350100e+17", "USCC_SCI_NOTATION"),
    ],
)
def test_uscc_refusal_has_its_code(text, code):
    assert check_uscc(text).code == code


@pytest.mark.parametrize("number", ["000000000", "D2143569Y", "D2143569"])
def test_org_code_wrong_form_is_refused(number):
    assert identifiers.check_org_code(number).code == "ORG_FORMAT"


def test_reg_no_of_zeros_is_refused():
    assert identifiers.check_reg_no("0" * 13).code == "REGNO_FORMAT"


# --------------------------------------------------------------- documents
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("KAZ110090123105", "OK"),
        ("KAZ110090133105", "FPR_FORMAT"),
        ("KAZ190090123105", "FPR_PROVINCE"),
        ("KA1110090123105", "FPR_FORMAT"),
    ],
)
def test_fpr2017_rule_gives_code(text, code):
    assert identifiers.check_fpr2017(text).code == code


@pytest.mark.parametrize("text", ["0561682001D", "561682001", "05616820(D)", "00000000", "056168200"])
def test_tw_permit_other_form_is_refused(text):
    assert identifiers.check_tw_permit(text).code == "PERMIT_FORMAT"


def test_tw_permit_ten_digits_give_the_lifelong_part():
    assert identifiers.check_tw_permit("0561682001").canonical == "05616820"


@pytest.mark.parametrize("text", ["H123456780", "H00000000", "HM2345678", "1H2345678"])
def test_hkmo_permit_other_form_is_refused(text):
    assert identifiers.check_hkmo_permit(text).code == "PERMIT_FORMAT"


@pytest.mark.parametrize("text", ["EO1234567", "G1234567", "S12345678", "PE1234567", "P.1234567", "161234567"])
def test_passport_cn_series_decides(text):
    expected = {"S12345678": "OK", "PE1234567": "OK", "P.1234567": "OK"}.get(text, "PASSPORT_FORMAT")
    assert identifiers.check_passport_cn(text).code == expected


@pytest.mark.parametrize("text", ["ßA12345", "ıA12345", "éA12345"])
def test_passport_letter_outside_ascii_is_refused(text):
    assert identifiers.check_passport(text).code == "PASSPORT_FORMAT"


# --------------------------------------------------------- types and login
@pytest.mark.parametrize(
    ("asked", "number", "code"),
    [
        ("cid", "440106199001012000", "OK"),
        ("residence", "830000199201300022", "OK"),
        ("fpr2023", "944840199001011238", "OK"),
        ("cid", "810000199408230021", "KIND_UNKNOWN"),
        ("residence", "710000199201300025", "KIND_UNKNOWN"),
        ("fpr2023", "440106199001012000", "KIND_UNKNOWN"),
        ("cid", "944840199001011238", "KIND_UNKNOWN"),
        ("residence", "110105194912310021", "ID_CHECKSUM"),
        ("hkmo_permit", "H1234567801", "OK"),
    ],
)
def test_person_types_number_of_another_kind_is_refused(asked, number, code):
    result = identifiers.PERSON_TYPES[asked](number, today=TODAY, synthetic_allowed=True)
    assert result.code == code
    assert (result.canonical is None) == (code != "OK")


def test_person_types_synthetic_number_follows_the_switch():
    check = identifiers.PERSON_TYPES["cid"]
    assert check("449901199001010013", today=TODAY, synthetic_allowed=True).ok
    assert check("449901199001010013", today=TODAY, synthetic_allowed=False).code == "ID_SYNTHETIC"


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("534417197606118838", [("cid", "534417197606118838")]),
        (" 11010519491231002x ", [("cid", "11010519491231002X")]),
        ("110105491231002", [("cid", "11010519491231002X")]),
        ("11010519491231002*", []),
        ("11O10519491231002X", []),
        ("810000199408230021", [("residence", "810000199408230021")]),
        ("+86 174-9123-4567", [("phone", "17491234567")]),
        ("kaz110090123105", [("fpr2017", "KAZ110090123105")]),
        ("H12345678", [("hkmo_permit", "H12345678"), ("passport", "H12345678")]),
        ("05616820", [("tw_permit", "05616820"), ("passport", "05616820")]),
        ("e12345678", [("passport_cn", "E12345678"), ("passport", "E12345678")]),
        ("91350100M000100Y43", []),
        ("", []),
    ],
)
def test_read_typed_gives_all_lossless_readings_in_order(text, readings):
    assert read_typed(text, today=TODAY, synthetic_allowed=True) == readings


# ---------------------------------------------------------- names, phones
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("阿依古丽 ● 买买提", "阿依古丽·买买提"),
        ("阿依古丽。.买买提﹒", "阿依古丽·买买提"),
        ("Smith, John-Paul O'Neil.", "SMITH JOHN-PAUL O'NEIL"),
        ("Müller", "MÜLLER"),
        ("\U00030edd 𬴊", "\U00030edd𬴊"),
        ("张\x00三\x1b", "张三"),
    ],
)
def test_normalize_name_signs_follow_the_script(text, name):
    assert normalize_name(text).canonical == name


@pytest.mark.parametrize("text", ["\u3000 ", "·.•", "\u200b", "\x00"])
def test_normalize_name_nothing_left_is_empty(text):
    assert normalize_name(text).code == "NAME_EMPTY"


@pytest.mark.parametrize("text", ["王?", "王？", "王□", "王\ue863", "王\ud800"])
def test_normalize_name_lost_sign_is_warned(text):
    assert normalize_name(text).warnings == ("W_NAME_LOST",)


@pytest.mark.parametrize(("length", "code"), [(500, "OK"), (501, "NAME_LENGTH")])
def test_normalize_name_length_has_a_limit(length, code):
    assert normalize_name("张" * length).code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("\u202d+86 174 9123 4567\u202c", "OK"),
        ("（+86）174.9123.4567", "OK"),
        ("8.617491234567E+12", "OK"),
        ("8617491234567.0", "OK"),
        ("1749123456.0", "PHONE_FORMAT"),
        ("1.749123456E+10", "PHONE_FORMAT"),
        ("8617491234", "PHONE_FORMAT"),
        ("008617491234567", "OK"),
        ("+8613900000000", "PHONE_PLACEHOLDER"),
        ("1749123456٧", "PHONE_FORMAT"),
        ("17491234567/17491234568", "PHONE_FORMAT"),
        ("11749123456", "PHONE_FORMAT"),
    ],
)
def test_check_phone_spelling_gives_code(text, code):
    result = check_phone(text)
    assert result.code == code
    assert result.canonical in {None, "17491234567"}


# ------------------------------------------------------------------- masks
@pytest.mark.parametrize(
    ("mask", "text", "masked"),
    [
        (identifiers.mask_number_own, "44990119900101001X", "4499**********001X"),
        (identifiers.mask_number_own, "H12345678", "H1*****78"),
        (identifiers.mask_number_own, "05616820", "0******0"),
        (identifiers.mask_number_counter, "A1234", "A***4"),
        (identifiers.mask_number, "A123", "****"),
        (identifiers.mask_number, "", ""),
        (identifiers.mask_phone_own, "13812340000", "138****0000"),
        (identifiers.mask_phone, "1381", "****"),
        (identifiers.mask_name_own, "张示例", "张*例"),
        (identifiers.mask_name_own, "张三", "张三"),
        (identifiers.mask_name_own, "丽", "*"),
        (identifiers.mask_name, "", ""),
    ],
)
def test_mask_keeps_what_the_audience_may_see(mask, text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("198.51.100.7", "198.51.*.*"),
        ("2001:db8:85a3::8a2e:370:7334", "2001:db8:85a3:*"),
        ("::1", "0:0:0:*"),
        ("", ""),
        ("testclient", ""),
        ("198.51.100.7, 10.0.0.1", ""),
    ],
)
def test_coarse_address_keeps_the_network(address, masked):
    assert identifiers.coarse_address(address) == masked
