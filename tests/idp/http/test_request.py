"""Requests are read strictly: nothing malformed is repaired."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idp.errors import InvalidInput
from idp.http.request import Request, parse_cookies, parse_pairs


def test_pairs_keep_order_repetition_and_blanks() -> None:
    assert parse_pairs(b"a=1&b=%E4%BD%A0+x&a=2&c") == [("a", "1"), ("b", "你 x"), ("a", "2"), ("c", "")]


@pytest.mark.parametrize(
    "raw",
    [
        b"a=%",
        b"a=%z1",
        b"a=%2",
        b"%=1",
        b"a=%ff",
        b"a=%C0%80",
        b"a=%ED%A0%80",
        b"a=%00",
        b"a=\x00",
        b"a=%1b",
        b"\xff=1",
    ],
)
def test_pairs_malformed_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_pairs(raw)


def test_pairs_too_many_are_refused() -> None:
    with pytest.raises(InvalidInput):
        parse_pairs(b"&".join(b"a%d=1" % i for i in range(201)))


@given(st.binary(max_size=400))
def test_pairs_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        pairs = parse_pairs(raw)
    except InvalidInput:
        return
    assert all("\x00" not in name + value for name, value in pairs)


def test_cookie_repeated_counts_for_nothing() -> None:
    assert parse_cookies(["a=1; b=2", "a=3"]) == {"b": "2"}
    assert parse_cookies(["a=1; a=1"]) == {}


def test_value_repeated_is_refused() -> None:
    request = Request(method="GET", path="/", query=[("a", "1"), ("a", "2")])
    with pytest.raises(InvalidInput):
        request.value("a")
    assert request.values("a") == ["1", "2"]
    assert request.value("b", "x") == "x"
