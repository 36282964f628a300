"""A stranger guesses, the owner still gets in: lockout and limits on the running server (groups M and R)."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from idp.ratelimit import ADDRESS
from tests.conftest import KINDS
from tests.support.citizen import Citizen, add_citizen
from tests.support.context import citizen_number
from tests.support.servers import YimenServer
from tests.support.stores import Stores
from tests.support.visitor import Visitor

WRONG = "wrong horse battery staple"


@pytest.fixture(scope="module", params=KINDS)
def guarded(
    request: pytest.FixtureRequest, _all_stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[YimenServer]:
    """A server that limits, behind a trusted proxy: the tests choose the address they come from."""
    limits = {"YIMEN_RATE_LIMITS": "on", "YIMEN_TRUSTED_PROXIES": "127.0.0.0/8"}
    workers = 1 if request.param == "sqlite" else 2
    with (
        _all_stores.environment(request.param, tmp_path_factory.mktemp("guarded") / "data") as environment,
        YimenServer(environment | limits, workers=workers) as running,
    ):
        yield running


@pytest.fixture
def victim(guarded: YimenServer) -> Citizen:
    return add_citizen(guarded)


def browser(server: YimenServer, address: str) -> Visitor:
    visitor = Visitor(server.url)
    send = visitor.send
    visitor.send = lambda method, url, **options: send(  # type: ignore[method-assign]
        method, url, headers={"x-forwarded-for": address, **options.pop("headers", {})}, **options
    )
    return visitor


def sign_in(visitor: Visitor, identifier: str, password: str) -> httpx2.Response:
    visitor.cookies.pop("__Host-yimen_session", None)
    visitor.walk("/login")
    return visitor.submit("login-form", identifier=identifier, password=password)


def got_in(answer: httpx2.Response) -> bool:
    return answer.status_code == 200 and "/account" in str(answer.url)


def spellings(number: str) -> list[str]:
    full_width = "".join(chr(ord(sign) + 0xFEE0) if sign.isdigit() else sign for sign in number)
    return [number, number.lower(), f"{number[:6]} {number[6:14]} {number[14:]}", full_width, f" {number}"]


def test_five_wrong_passwords_in_five_spellings_lock_the_network_and_not_the_owner(victim: Citizen) -> None:
    """M03, M06, M07: one count for every spelling; the right password gets the answer of a wrong one."""
    known = browser(victim.server, "198.51.100.20")
    assert got_in(sign_in(known, victim.number, victim.password))
    stranger = browser(victim.server, "203.0.113.5")
    wrong = [sign_in(stranger, typed, WRONG) for typed in spellings(victim.number)]
    assert {answer.status_code for answer in wrong} == {400}
    right = sign_in(stranger, victim.number, victim.password)
    assert right.status_code == 400
    assert masked(right.text, victim) == masked(wrong[0].text, victim)
    neighbour = browser(victim.server, "203.0.113.99")
    assert not got_in(sign_in(neighbour, victim.number, victim.password))
    elsewhere = browser(victim.server, "192.0.2.77")
    assert got_in(sign_in(elsewhere, victim.number, victim.password))
    assert "__Host-yimen_device" in known.cookies
    same_network = browser(victim.server, "203.0.113.6")
    same_network.cookies["__Host-yimen_device"] = known.cookies["__Host-yimen_device"]
    assert got_in(sign_in(same_network, victim.number, victim.password))
    shown = victim.server.cli("person", "show", victim.account)
    assert shown["failed_sign_ins"] == 0  # the owner got in
    assert shown["sign_in_locked_until"] is not None


def masked(page: str, victim: Citizen) -> str:
    """The page without what the visitor typed and without values that differ each time."""
    lines = [line for line in page.splitlines() if "csrf" not in line and "login-identifier" not in line]
    return "\n".join(lines).replace(victim.number, "")


def test_counter_forgives_and_the_password_works_again(victim: Citizen) -> None:
    stranger = browser(victim.server, "203.0.114.5")
    for _ in range(5):
        sign_in(stranger, victim.number, WRONG)
    assert not got_in(sign_in(stranger, victim.number, victim.password))
    shown = victim.server.cli("person", "forgive", victim.account, "--reason", "showed the card")
    assert (shown["failed_sign_ins"], shown["sign_in_locked_until"]) == (0, None)
    assert got_in(sign_in(stranger, victim.number, victim.password))


def test_owner_with_a_proved_phone_is_told(guarded: YimenServer, tmp_path: Path) -> None:
    claims = tmp_path / "claims.json"
    claims.write_text(json.dumps({"phone_number_verified": True}))
    typed = citizen_number(917)
    guarded.cli(
        "person", "add", "--id-number", typed, "--name", "李四例", "--phone", "17400009917",
        "--claims", str(claims), "--password-stdin", stdin="correct horse 电池 staple",
    )  # fmt: skip
    stranger = browser(guarded, "203.0.115.5")
    for _ in range(5):
        sign_in(stranger, typed, WRONG)
    outbox = guarded.data_dir / "outbox.jsonl"
    for _ in range(300):
        if outbox.exists():
            break
        time.sleep(0.1)
    told = [json.loads(line) for line in outbox.read_text().splitlines()]
    assert [(one["channel"], one["purpose"]) for one in told] == [("sms", "login_locked")]
    assert typed not in outbox.read_text()


def test_address_with_too_many_failures_is_told_when_to_come_again(guarded: YimenServer) -> None:
    visitor = browser(guarded, "203.0.116.5")
    visitor.walk("/login")
    statuses = []
    for i in range(ADDRESS[0].most * 2 + 2):
        answer = visitor.submit("login-form", identifier=f"nobody{i}", password=WRONG)
        statuses.append(answer.status_code)
        if answer.status_code == 429:
            break
    assert statuses[-1] == 429
    assert int(answer.headers["retry-after"]) <= 3_600
    assert "too_many_requests" in answer.text
    assert browser(guarded, "203.0.117.1").walk("/login").status_code == 200
    assert sign_in(browser(guarded, "203.0.117.1"), "nobody", WRONG).status_code == 400


def test_forged_forwarding_header_changes_no_address(stores: dict[str, str]) -> None:
    """Without YIMEN_TRUSTED_PROXIES an attacker cannot take a new address for each try."""
    with YimenServer(stores | {"YIMEN_RATE_LIMITS": "on"}) as server:
        person = add_citizen(server)
        for i in range(5):
            sign_in(browser(server, f"203.0.{i}.1"), person.number, WRONG)
        assert not got_in(sign_in(browser(server, "203.0.99.1"), person.number, person.password))
