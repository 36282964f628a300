"""Clients that sign: one use for each assertion, one refusal for each fault, keys that turn over at the client."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.flows.signing import SigningRp, add, add_signing, records
from tests.flows.test_code_flow import claims_of, tokens_of
from tests.support.assertions import (
    KeySite,
    assertion,
    claims_of_assertion,
    es256_key,
    form_of,
    key_site,
    new_key,
)
from tests.support.citizen import Citizen
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, answer_of, sign_in

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def signing(server: YimenServer, tmp_path: Path) -> SigningRp:
    return add_signing(server, tmp_path)


@pytest.fixture
def site() -> Iterator[KeySite]:
    with key_site() as running:
        yield running


def token_with(rp: SigningRp, text: str, **more: str) -> httpx2.Response:
    return rp.post("/token", {**GRANT, **form_of(text), **more})


def refused(answer: httpx2.Response) -> bool:
    return (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_whole_login_by_an_own_key(citizen: Citizen, signing: SigningRp) -> None:
    tokens = tokens_of(citizen, signing, scope="openid profile offline_access")
    assert claims_of(tokens["id_token"])["aud"] == signing.client_id
    renewed = signing.refresh(tokens["refresh_token"])
    assert renewed.status_code == 200, renewed.text
    assert signing.userinfo(renewed.json()["access_token"]).status_code == 200


def test_repeated_parent_gets_the_same_child_and_each_time_spends_an_assertion(
    server: YimenServer, citizen: Citizen, signing: SigningRp
) -> None:
    parent = tokens_of(citizen, signing, scope="openid offline_access")["refresh_token"]
    texts = [assertion(signing.key, signing.client_id, server.url) for _ in range(3)]
    answers = [signing.refresh(parent, **form_of(text)) for text in texts]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert all(refused(signing.refresh(parent, **form_of(text))) for text in texts)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_each_algorithm_of_the_list_works(server: YimenServer, tmp_path: Path, algorithm: str) -> None:
    rp = add_signing(server, tmp_path, key=new_key(algorithm), token_endpoint_auth_signing_alg=algorithm)
    assert rp.post("/token", GRANT).status_code == 200


def test_f04_assertion_works_once(server: YimenServer, signing: SigningRp) -> None:
    """Sent again, with another form of the same jti, and at another endpoint: refused and recorded."""
    claims = claims_of_assertion(signing.client_id, server.url)
    text = signing.key.jws(claims)
    assert token_with(signing, text).status_code == 200
    assert refused(token_with(signing, text))
    assert refused(token_with(signing, signing.key.jws({**claims, "exp": claims["exp"] + 1})))
    for path in ("/introspect", "/revoke"):
        assert refused(signing.post(path, form_of(text, token="x")))
    told = records(server, "client:authentication:refused", signing.client_id)
    assert Counter(row["reason"] for row in told) == {"replayed": 4}


def test_f04_assertion_of_a_failed_request_is_used_up_too(server: YimenServer, signing: SigningRp) -> None:
    for first in ({"grant_type": "refresh_token", "refresh_token": "x"}, {**GRANT, "scope": "nonsense:x"}):
        text = assertion(signing.key, signing.client_id, server.url)
        assert signing.post("/token", {**first, **form_of(text)}).status_code == 400
        assert refused(token_with(signing, text))
    text = assertion(signing.key, signing.client_id, server.url)
    assert signing.post("/introspect", form_of(text)).status_code == 400
    assert refused(token_with(signing, text))


def rush(signing: SigningRp, text: str) -> list[httpx2.Response]:
    with ThreadPoolExecutor(50) as pool:
        return list(pool.map(lambda _: token_with(signing, text), range(50)))


def test_f04_s01_assertion_sent_by_fifty_at_once_works_once(server: YimenServer, signing: SigningRp) -> None:
    for _ in range(3):
        answers = rush(signing, assertion(signing.key, signing.client_id, server.url))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 49}
        assert all(refused(answer) for answer in answers if answer.status_code != 200)
    assert len(records(server, "client:token:issued", signing.client_id)) == 3


@pytest.mark.long
def test_f04_s01_assertion_sent_by_fifty_at_once_two_hundred_times_works_once(
    server: YimenServer, signing: SigningRp
) -> None:
    for _ in range(200):
        answers = rush(signing, assertion(signing.key, signing.client_id, server.url))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 49}
    assert len(records(server, "client:token:issued", signing.client_id)) == 200


def test_f04_two_codes_with_one_assertion_give_one_family(
    server: YimenServer, citizen: Citizen, signing: SigningRp
) -> None:
    """The assertion and the code are spent by one commit: whoever loses the one does not spend the other."""
    visitor = Visitor(server.url)
    sign_in(visitor, signing.authorize_url(scope="openid"), citizen.number, citizen.password)
    made = []
    for _ in range(8):
        code = answer_of(visitor.walk(signing.authorize_url(scope="openid")))["code"]
        made.append({"code": code, "code_verifier": signing.verifier})
    common = {"grant_type": "authorization_code", "redirect_uri": signing.redirect_uri}
    text = assertion(signing.key, signing.client_id, server.url)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda code: signing.post("/token", {**common, **code, **form_of(text)}), made))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 7}
    later = [signing.post("/token", {**common, **code}).status_code for code in made]
    assert Counter(later) == {200: 7, 400: 1}, "the seven codes are still good"


def test_d04_code_with_fifty_assertions_gives_one_family(
    server: YimenServer, citizen: Citizen, signing: SigningRp
) -> None:
    answer = sign_in(Visitor(server.url), signing.authorize_url(scope="openid"), citizen.number, citizen.password)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: signing.redeem(answer["code"]), range(50)))
    assert Counter(found.status_code for found in answers) == {200: 1, 400: 49}
    assert {found.json()["error"] for found in answers if found.status_code == 400} == {"invalid_grant"}


def test_f04_assertion_stays_used_over_a_restart(stores: dict[str, str], tmp_path: Path) -> None:
    with YimenServer(stores) as server:
        signing = add_signing(server, tmp_path)
        text = assertion(signing.key, signing.client_id, server.url)
        assert token_with(signing, text).status_code == 200
        server.stop()
        server.start()
        assert refused(token_with(signing, text))


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
def test_f05_only_the_issuer_is_an_audience(server: YimenServer, signing: SigningRp, tmp_path: Path, path: str) -> None:
    """Baseline: the issuer. A recorded permission, or the profile classic, admits the token endpoint; nothing else."""
    url = server.url
    classic = add_signing(server, tmp_path, "--profile", "classic")

    def status(rp: SigningRp, audience: Any) -> int:
        data = {**GRANT, "token": "x", **form_of(assertion(rp.key, rp.client_id, audience))}
        return rp.post(path, data).status_code

    hostile: list[Any] = [url + "/", "https://other.test", [url, "https://other.test"], url + "/authorize", [], None]
    for audience in hostile:
        assert status(signing, audience) == 401
        assert status(classic, audience) == 401
    endpoint = url + "/token"
    for audience in (endpoint, url + path, [url, endpoint]):
        assert status(signing, audience) == 401
        assert status(classic, audience) == 200
    assert status(signing, url) == 200
    permit = ("client", "permit", signing.client_id, "--permission", "token_endpoint_audience")
    server.cli(*permit, "--reason", "old library")
    assert status(signing, endpoint) == 200
    assert status(signing, "https://other.test") == 401
    assert records(server, "client:permission:granted", signing.client_id)[0]["permission"] == "token_endpoint_audience"
    server.cli("client", "forbid", signing.client_id, "--permission", "token_endpoint_audience")
    assert status(signing, endpoint) == 401


def test_f07_clock_ten_seconds_ahead_is_accepted_and_a_minute_is_not(server: YimenServer, signing: SigningRp) -> None:
    now = int(time.time())
    near = assertion(signing.key, signing.client_id, server.url, iat=now + 10, nbf=now + 10, exp=now + 70)
    assert token_with(signing, near).status_code == 200
    far = assertion(signing.key, signing.client_id, server.url, iat=now + 75, exp=now + 130)
    assert refused(token_with(signing, far))


def test_f08_every_fault_has_one_and_the_same_answer(
    server: YimenServer, signing: SigningRp, rp: Rp, tmp_path: Path
) -> None:
    """Algorithm, key, signature, claims, type, unknown, suspended or secret client: nothing can be told apart."""
    key, url, client_id = signing.key, server.url, signing.client_id
    good = claims_of_assertion(client_id, url)
    suspended = add_signing(server, tmp_path)
    server.cli("client", "suspend", suspended.client_id)
    head, payload, signature = key.jws(good).split(".")
    texts = [
        key.jws(good, alg="none"),
        key.jws(good, alg="HS256"),
        key.jws(good, alg="RS256"),
        es256_key().jws(good),
        new_key("RS256").jws(good),
        key.jws(good, kid="other"),
        key.jws(good, typ="at+jwt"),
        key.jws(good, crit=["x"]),
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[:-4]}AAAA",
        "nonsense",
        "a.b.c",
        assertion(key, client_id, url, exp=int(time.time()) - 1),
        assertion(key, client_id, url, exp=int(time.time()) + 3_600),
        assertion(key, client_id, url, exp=None),
        assertion(key, client_id, url, jti=None),
        assertion(key, client_id, url, sub=None),
        assertion(key, client_id, url, iss=rp.client_id),
        assertion(key, "nobody", url),
        assertion(key, rp.client_id, url),
        assertion(suspended.key, suspended.client_id, url),
    ]
    answers = [token_with(signing, text) for text in texts]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert json.loads(answers[0].text)["error"] == "invalid_client"
    assert token_with(signing, key.jws(good)).status_code == 200, "a refused assertion spends nothing"
    told = Counter(row["reason"] for row in records(server, "client:authentication:refused", client_id))
    assert told == {
        "algorithm": 2, "key": 3, "signature": 3, "type": 1, "expired": 2, "life": 1, "jti": 1, "issuer": 1,
    }  # fmt: skip
    assert records(server, "client:authentication:refused", suspended.client_id)[0]["reason"] == "suspended"


def test_f01_assertion_beside_another_authentication_is_refused(server: YimenServer, signing: SigningRp) -> None:
    def form() -> dict[str, str]:
        return {**GRANT, **form_of(assertion(signing.key, signing.client_id, server.url))}

    for data, options in [
        (form(), {"auth": (signing.client_id, "x")}),
        ({**form(), "client_secret": "x"}, {}),
        ({**form(), "client_id": "other"}, {}),
    ]:
        answer = signing.post("/token", data, **options)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert signing.post("/token", {**form(), "client_id": signing.client_id}).status_code == 200
    wrong = {**form(), "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}
    assert refused(signing.post("/token", wrong))
    bare = Rp.post(signing, "/token", {**GRANT, "client_id": signing.client_id}, auth=None)
    assert refused(bare)
    secret = Rp.post(signing, "/token", GRANT, auth=(signing.client_id, "x"))
    assert refused(secret)


def test_d02_code_of_another_client_is_refused_and_stays_good(
    server: YimenServer, citizen: Citizen, rp: Rp, signing: SigningRp
) -> None:
    answer = sign_in(Visitor(server.url), rp.authorize_url(), citizen.number, citizen.password)
    signing.verifier = rp.verifier
    assert signing.redeem(answer["code"]).json()["error"] == "invalid_grant"
    assert rp.redeem(answer["code"]).status_code == 200


def test_keys_that_turn_over_at_the_client_are_found_again(
    server: YimenServer, citizen: Citizen, site: KeySite, tmp_path: Path
) -> None:
    """oidcc-refresh-token-rp-key-rotation: a new kid at jwks_uri is fetched at once, on every worker."""
    old, new = es256_key("old"), es256_key("new")
    site.keys = [old.public]
    rp = add_signing(server, tmp_path, jwks_uri=site.url, key=old)
    tokens = tokens_of(citizen, rp, scope="openid offline_access")
    assert site.calls == 1
    site.keys = [new.public]
    rp.key = new
    renewed = rp.refresh(tokens["refresh_token"])
    assert renewed.status_code == 200, renewed.text
    assert site.calls == 2
    rp.key = es256_key("invented")
    assert all(refused(rp.post("/token", GRANT)) for _ in range(5))
    assert site.calls == 2
    shown = server.cli("client", "show", rp.client_id)["fetched_keys"]
    assert (shown["kids"], shown["result"]) == (["new"], "1 keys")


def test_first_fetch_is_shared_by_fifty_at_once(server: YimenServer, site: KeySite, tmp_path: Path) -> None:
    key = es256_key()
    site.keys, site.delay = [key.public], 0.5
    rp = add_signing(server, tmp_path, jwks_uri=site.url, key=key)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: rp.post("/token", GRANT).status_code, range(50)))
    assert answers == [200] * 50
    assert site.calls == 1


def test_new_keys_by_command_replace_the_old_ones_at_once(
    server: YimenServer, signing: SigningRp, tmp_path: Path
) -> None:
    new = es256_key("new")
    (tmp_path / "change.json").write_text(json.dumps({"jwks": {"keys": [new.public]}}))
    changed = server.cli("client", "change", signing.client_id, "--metadata", str(tmp_path / "change.json"))
    assert changed["jwks"]["keys"][0]["kid"] == "new"
    assert changed["scope"] == "openid profile offline_access gjj:read"
    assert refused(signing.post("/token", GRANT))
    signing.key = new
    assert signing.post("/token", GRANT).status_code == 200


def test_k02_address_inside_is_refused_at_registration(server: YimenServer, tmp_path: Path) -> None:
    for uri in (
        "http://10.0.0.1/jwks",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/jwks",
        "https://2130706433/jwks",
        "https://8.8.8.8:8443/jwks",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/x",
    ):
        answer = add(
            server, tmp_path, status=1, grant_types=["client_credentials"],
            token_endpoint_auth_method="private_key_jwt", jwks_uri=uri,
        )  # fmt: skip
        assert answer["error"] == "invalid_client_metadata", uri
        assert answer["message"].startswith("jwks_uri"), uri


def test_secret_of_a_client_that_signs_cannot_be_rotated(server: YimenServer, signing: SigningRp) -> None:
    assert server.cli("client", "rotate-secret", signing.client_id, status=1)["error"] == "invalid_request"


def test_hostile_assertion_is_never_a_server_error(server: YimenServer, signing: SigningRp) -> None:
    """What JSON can say and no form may: NUL, halves of pairs, numbers beyond every range, strange types."""
    key, client_id, url = signing.key, signing.client_id, server.url
    odd: list[Any] = ["\0", "\ud800", "\u4f60", "x" * 3_000, 10**400, -(10**400), 1e308, True, [], {}, [["a"]], None]
    texts = [assertion(key, client_id, url, **{name: value}) for name in ("sub", "iss", "aud", "jti") for value in odd]
    texts += [assertion(key, client_id, url, **{name: value}) for name in ("exp", "iat", "nbf") for value in odd]
    good = claims_of_assertion(client_id, url)
    texts += [key.jws(good, **{name: value}) for name in ("kid", "typ", "alg") for value in odd]
    texts += [key.jws({**good, "sub": value, "iss": value}) for value in odd]
    texts += [key.jws(claims) for claims in ([], "x", 5, None, {"sub": client_id})]
    for path in ("/token", "/introspect"):
        statuses = Counter(signing.post(path, {**GRANT, **form_of(text), "token": "x"}).status_code for text in texts)
        assert set(statuses) <= {200, 400, 401}, statuses
        assert statuses[401] > len(texts) / 2
    assert signing.post("/token", GRANT).status_code == 200


def test_log_holds_no_assertion(server: YimenServer, signing: SigningRp) -> None:
    text = assertion(signing.key, signing.client_id, server.url, jti="jti-that-must-not-be-logged")
    token = token_with(signing, text).json()["access_token"]
    log = server.log.read_text()
    for secret in (text, token, "jti-that-must-not-be-logged"):
        assert secret not in log
