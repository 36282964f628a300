"""What is refused before Authlib looks: repetition, wrong alphabets, two authentications, wrong content types."""

import base64

import pytest

from idp.errors import InvalidInput
from idp.http.request import Request
from idp.oidc.guard import (
    ASSERTION_TYPE,
    BadCredentials,
    TwoAuthentications,
    check_parameters,
    client_assertion,
    client_credentials,
    require_form,
)


def basic(pair: bytes) -> Request:
    return Request(
        method="POST", path="/token", headers={"authorization": ["Basic " + base64.b64encode(pair).decode()]}
    )


@pytest.mark.parametrize("name", ["state", "client_id", "nonce", "anything"])
def test_parameter_repeated_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_parameters([(name, "a"), (name, "a")])


def test_parameter_resource_may_repeat() -> None:
    assert check_parameters([("resource", "a"), ("resource", "b")]) == {"resource": "b"}


@pytest.mark.parametrize("value", ["中文", "a\x7f", "é"])
def test_parameter_of_another_alphabet_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        check_parameters([("redirect_uri", value)])


def test_parameter_empty_counts_as_left_out() -> None:
    assert check_parameters([("scope", ""), ("state", "x")]) == {"state": "x"}


def test_credentials_form_encoded_are_decoded() -> None:
    identifier, header = client_credentials(basic(b"a%3Ab:p+q%25"), {})
    assert identifier == "a:b"
    assert header is not None
    assert base64.b64decode(header[6:]) == b"a%3Ab:p%20q%25"


@pytest.mark.parametrize("pair", [b"\xff\xfe:x", b"no-colon", b"a:%E4%BD%A0", b"a:b\x01"])
def test_credentials_malformed_are_refused(pair: bytes) -> None:
    with pytest.raises(BadCredentials):
        client_credentials(basic(pair), {})


@pytest.mark.parametrize("parameters", [{"client_secret": "x"}, {"client_assertion": "x"}, {"client_id": "other"}])
def test_credentials_two_ways_are_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(TwoAuthentications):
        client_credentials(basic(b"me:x"), parameters)


def test_credentials_two_headers_are_refused() -> None:
    request = Request(method="POST", path="/token", headers={"authorization": ["Basic YTpi", "Basic YTpi"]})
    with pytest.raises(TwoAuthentications):
        client_credentials(request, {})


def test_form_of_another_content_type_is_refused() -> None:
    with pytest.raises(InvalidInput):
        require_form(Request(method="POST", path="/token", headers={"content-type": ["application/json"]}))


def test_form_with_parameters_in_the_address_is_refused() -> None:
    headers = {"content-type": ["application/x-www-form-urlencoded"]}
    with pytest.raises(InvalidInput):
        require_form(Request(method="POST", path="/token", headers=headers, query=[("code", "x")]))


def test_assertion_comes_alone_and_with_its_type() -> None:
    bare = Request(method="POST", path="/token")
    form = {"client_assertion": "a.b.c", "client_assertion_type": ASSERTION_TYPE}
    assert client_assertion(bare, {"client_id": "c"}) is None
    assert client_assertion(bare, form) == "a.b.c"
    assert client_assertion(bare, {"client_assertion_type": ASSERTION_TYPE}) == ""
    for faulty in ({"client_assertion": "a.b.c"}, {**form, "client_assertion_type": "jwt"}):
        with pytest.raises(BadCredentials):
            client_assertion(bare, faulty)
    with pytest.raises(TwoAuthentications):
        client_assertion(bare, {**form, "client_secret": "x"})
    with pytest.raises(TwoAuthentications):
        client_assertion(basic(b"me:x"), form)
