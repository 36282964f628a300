"""M01, P-5: unknown, wrong, without a password, locked by an operator and locked by failures look alike."""

import re
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import httpx2
import pytest

from tests.conftest import KINDS
from tests.support.citizen import add_citizen, synthetic_number
from tests.support.servers import YimenServer
from tests.support.stores import Stores
from tests.support.visitor import Visitor

WRONG = "wrong horse battery staple"


class Kind(NamedTuple):
    """What is typed, as who: one kind of account."""

    name: str
    identifier: str
    password: str


@pytest.fixture(scope="module", params=KINDS)
def guarded(
    request: pytest.FixtureRequest, _all_stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[YimenServer]:
    """A server that limits, where each request names the address it comes from."""
    settings = {"YIMEN_RATE_LIMITS": "on", "YIMEN_TRUSTED_PROXIES": "127.0.0.0/8"}
    with (
        _all_stores.environment(request.param, tmp_path_factory.mktemp("equal") / "data") as environment,
        YimenServer(environment | settings) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def attempt(guarded: YimenServer) -> Iterator[Callable[[Kind, int], httpx2.Response]]:
    visitor = Visitor(guarded.url)
    visitor.walk("/login")
    form = visitor.seen.forms["login-form"].fields
    http = httpx2.Client(trust_env=False, timeout=30)
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())

    def send(kind: Kind, number: int) -> httpx2.Response:
        fields = {**form, "identifier": kind.identifier, "password": kind.password}
        address = f"10.{number // 60_000 % 250}.{number // 250 % 240}.{number % 250}"
        headers = {"cookie": cookie, "x-forwarded-for": address}
        return http.post(f"{guarded.url}/login", data=fields, headers=headers)

    yield send
    http.close()


@pytest.fixture(scope="module")
def kinds(guarded: YimenServer, attempt: Callable[[Kind, int], httpx2.Response]) -> list[Kind]:
    known, locked, failed = add_citizen(guarded), add_citizen(guarded), add_citizen(guarded)
    guarded.cli("person", "lock", locked.account, "--reason", "test")
    bare = synthetic_number(901)
    guarded.cli("person", "add", "--id-number", bare, "--name", "无密例")
    for i in range(25):  # from that many networks: now it is locked everywhere
        attempt(Kind("", failed.number, WRONG), 100_000 + 250 * i)
    assert guarded.cli("person", "show", failed.account)["sign_in_locked_until"] is not None
    return [
        Kind("unknown", synthetic_number(902), WRONG),
        Kind("without a password", bare, WRONG),
        Kind("locked by an operator, right password", locked.number, locked.password),
        Kind("locked by failures, right password", failed.number, failed.password),
        Kind("wrong password", known.number, WRONG),
    ]


def face(answer: httpx2.Response, kind: Kind) -> tuple[int, str, list[tuple[str, str]]]:
    """What a stranger sees, without what they typed themselves and without what differs each time."""
    page = answer.text.replace(kind.identifier, "")
    headers = sorted((name, value) for name, value in answer.headers.items() if name not in ("x-request-id", "date"))
    return answer.status_code, re.sub(r'name="csrf" value="[0-9a-f]+"', "", page), headers


def test_login_cannot_tell_one_account_from_another(
    kinds: list[Kind], attempt: Callable[[Kind, int], httpx2.Response]
) -> None:
    faces = {kind.name: face(attempt(kind, 250 * i), kind) for i, kind in enumerate(kinds)}
    first = faces["unknown"]
    assert first[0] == 400
    for name, seen in faces.items():
        assert seen == first, name


@pytest.mark.long
def test_login_cannot_tell_one_account_from_another_in_a_thousand_samples(
    kinds: list[Kind], attempt: Callable[[Kind, int], httpx2.Response]
) -> None:
    """Medians within 5 percent, Welch's t below 4.5. What fails here tells of a leak and not of a slow machine, since
    all kinds are asked in turn."""
    kinds = [kind for kind in kinds if kind.name != "wrong password"]  # it would be locked on the way
    times: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for round_ in range(1_000):
        for i in range(len(kinds)):
            kind = kinds[(i + round_) % len(kinds)]
            begin = time.perf_counter()
            answer = attempt(kind, 250 * (round_ * len(kinds) + i))
            times[kind.name].append(time.perf_counter() - begin)
            assert answer.status_code == 400
    trimmed = {name: sorted(values)[: len(values) * 95 // 100] for name, values in times.items()}
    medians = {name: statistics.median(values) for name, values in trimmed.items()}
    print({name: round(1000 * value, 2) for name, value in medians.items()})
    assert max(medians.values()) / min(medians.values()) < 1.05, medians
    first, *others = trimmed.values()
    for other in others:
        spread = (statistics.variance(first) / len(first) + statistics.variance(other) / len(other)) ** 0.5
        assert abs(statistics.mean(first) - statistics.mean(other)) / spread < 4.5, medians
