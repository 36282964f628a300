"""R10, P-15: a flood of wrong logins, from one address and from thousands, leaves the other doors open."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from tests.support.citizen import add_citizen, add_client
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, sign_in

FLOODERS = 32
HANG_SECONDS = 10


class Flood:
    """Threads that post wrong passwords as fast as they are answered, each time from another address if `many`."""

    def __init__(self, server: YimenServer, *, many: bool) -> None:
        visitor = Visitor(server.url)
        visitor.walk("/login")
        fields = visitor.seen.forms["login-form"].fields
        self._cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        self._body = urlencode({**fields, "identifier": "nobody", "password": "wrong horse battery staple"})
        self._port, self._many, self._stop = server.port, many, threading.Event()
        self.statuses: Counter[int] = Counter()
        self.without_word: list[int] = []
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(FLOODERS)]

    def _run(self, number: int) -> None:
        connection, sent = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30), 0
        while not self._stop.is_set():
            sent += 1
            address = f"10.{number}.{sent // 250 % 250}.{sent % 250}" if self._many else "10.0.0.1"
            headers = {
                "content-type": "application/x-www-form-urlencoded",
                "cookie": self._cookie,
                "x-forwarded-for": address,
            }
            connection.request("POST", "/login", self._body, headers)
            answer = connection.getresponse()
            answer.read()
            self.statuses[answer.status] += 1
            if answer.status in (429, 503) and not answer.headers.get("retry-after"):
                self.without_word.append(answer.status)
        connection.close()

    def __enter__(self) -> "Flood":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def other_doors(server: YimenServer) -> dict[str, Callable[[], int]]:
    """What must stay open: each gives the status of its answer."""
    person = add_citizen(server)
    rp: Rp = add_client(server, "测试系统")
    url = rp.authorize_url(scope="openid profile offline_access")
    given = sign_in(Visitor(server.url), url, person.number, person.password)
    token = rp.redeem(given["code"]).json()
    held = {"refresh": token["refresh_token"]}

    def refresh() -> int:
        answer = rp.refresh(held["refresh"])
        held["refresh"] = answer.json().get("refresh_token", "")
        return answer.status_code

    def get(path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=HANG_SECONDS)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    return {
        "token": refresh,
        "userinfo": lambda: rp.userinfo(token["access_token"]).status_code,
        "jwks": lambda: get("/jwks"),
        "discovery": lambda: get("/.well-known/openid-configuration"),
    }


def walk(server: YimenServer, seconds: float, *, many: bool) -> dict[str, float]:
    """The slowest answer but one in a hundred of each other door, in milliseconds, under the flood."""
    doors = other_doors(server)
    times: dict[str, list[float]] = {name: [] for name in doors}
    with Flood(server, many=many) as flood:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, door in doors.items():
                begin = time.perf_counter()
                assert door() == 200, name
                times[name].append(time.perf_counter() - begin)
    assert set(flood.statuses) <= {400, 429, 503}, flood.statuses
    assert flood.without_word == []
    assert sum(flood.statuses.values()) > FLOODERS
    found = {name: 1000 * sorted(values)[len(values) * 99 // 100] for name, values in times.items()}
    print({name: round(value) for name, value in found.items()}, dict(flood.statuses))
    assert max(found.values()) < 1000 * HANG_SECONDS
    return found


@pytest.mark.parametrize("many", [False, True], ids=["one address", "many addresses"])
def test_flood_of_wrong_logins_leaves_the_other_doors_open(stores: dict[str, str], many: bool) -> None:
    settings = {"YIMEN_RATE_LIMITS": "on", "YIMEN_TRUSTED_PROXIES": "127.0.0.0/8"}
    with YimenServer(stores | settings) as server:
        walk(server, 3, many=many)


@pytest.mark.long
@pytest.mark.parametrize("many", [False, True], ids=["one address", "many addresses"])
def test_flood_of_wrong_logins_for_a_minute_leaves_the_other_doors_open(stores: dict[str, str], many: bool) -> None:
    settings = {"YIMEN_RATE_LIMITS": "on", "YIMEN_TRUSTED_PROXIES": "127.0.0.0/8"}
    with YimenServer(stores | settings) as server:
        walk(server, 60, many=many)
