"""The master key changes while people sign in and register; a kill in the middle, and the old version gone."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from idp import master_keys, reseal
from tests.flows.test_code_flow import claims_of
from tests.support import master
from tests.support.citizen import PASSWORD, Citizen, add_citizen, add_client
from tests.support.context import citizen_number, opened
from tests.support.crowd import add_crowd
from tests.support.servers import ROOT, YimenServer
from tests.support.visitor import Rp, Visitor, answer_of, sign_in

CROWD = 600


@pytest.fixture
def own(stores: dict[str, str]) -> Iterator[YimenServer]:
    """A server of its own whose master key file has version 1."""
    master.write(key_file(stores), 1)
    with opened(stores) as context:
        add_crowd(context, CROWD)
    workers = 2 if stores["YIMEN_REDIS_URL"] else 1
    with YimenServer(stores, workers=workers) as running:
        yield running


def key_file(environment: dict[str, str]) -> Path:
    return Path(environment["YIMEN_DATA_DIR"]) / "master.key"


class Load:
    """Threads that do something again and again until told to stop, and what went wrong with them."""

    def __init__(self, *works: Callable[[], None]) -> None:
        self.done, self.failures, self._over = 0, list[str](), threading.Event()
        self._threads = [threading.Thread(target=self._again, args=(work,)) for work in works]

    def _again(self, work: Callable[[], None]) -> None:
        while not self._over.is_set():
            try:
                work()
                self.done += 1
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}"[:300])

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)


def ok(answer: httpx2.Response) -> Any:
    assert answer.status_code == 200, (answer.status_code, answer.text[:200])
    return answer.json()


def test_master_key_of_a_running_server_changes_unnoticed(server: YimenServer, citizen: Citizen, rp: Rp) -> None:
    """The short form of the next one, on the server that all tests share."""
    visitor, path = Visitor(server.url), key_file(server.environment)
    tokens = ok(rp.redeem(sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)["code"]))

    def use() -> None:
        assert ok(rp.userinfo(tokens["access_token"]))["email"] == "zhang@example.test"

    with opened(server.environment) as context, Load(use, use) as load:
        newer = max(context.vault.versions) + 1
        path.write_text(path.read_text() + master.line(newer))
        wait_for(lambda: context.vault.knows(newer))
        assert master_keys.prepare(context, announce_seconds=0) == newer
        assert reseal.run(context, newer, rest=0, settle=0)["retired"] == [newer - 1]
    assert load.failures == []
    assert load.done > 0
    assert "refresh_token" in ok(rp.refresh(tokens["refresh_token"]))
    assert "code" in answer_of(visitor.walk(rp.authorize_url())), "the session lives"


@pytest.mark.long
def test_master_key_changes_under_logins_and_registrations(own: YimenServer) -> None:
    citizen, rp = add_citizen(own), add_client(own, "公积金")
    visitor = Visitor(own.url)
    before = ok(rp.redeem(sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)["code"]))
    subject = claims_of(before["id_token"])["sub"]
    registered: list[tuple[str, str]] = []

    def login() -> None:
        party = Rp(own.url, rp.client_id, rp.client_secret)
        answer = sign_in(Visitor(own.url), party.authorize_url(), citizen.number, citizen.password)
        tokens = ok(party.redeem(answer["code"]))
        info = ok(party.userinfo(tokens["access_token"]))
        assert info["sub"] == claims_of(tokens["id_token"])["sub"] == subject
        assert info["email"] == "zhang@example.test"
        ok(party.refresh(tokens["refresh_token"]))

    def register() -> None:
        number = citizen_number()
        options = ("person", "add", "--id-number", number, "--name", "李四例", "--password-stdin")
        registered.append((number, own.cli(*options, stdin=PASSWORD)["account"]))
        assert own.cli(*options, stdin=PASSWORD, status=1)["error"] == "identifier_taken"

    with Load(login, login, register) as load:
        time.sleep(1)
        master.write(key_file(own.environment), 1, 2)
        done = own.cli("keys", "rotate", "--master", "--settle", "4")
        time.sleep(3)
    assert load.failures == []
    assert load.done > 5
    assert done["retired"] == [1]
    assert done["values"] >= 3 * CROWD
    status = own.cli("keys", "rotate", "--master", "--status")
    assert status["state"] == "done"
    assert [(row["version"], row["values"] > 0) for row in status["versions"]] == [(1, False), (2, True)]

    own.stop()
    master.write(key_file(own.environment), 2)
    own.start()
    assert ok(rp.userinfo(before["access_token"]))["sub"] == subject
    assert claims_of(ok(rp.refresh(before["refresh_token"]))["id_token"])["sub"] == subject
    assert "code" in sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password), "the session lives"
    for number, _ in registered[:2]:
        assert "code" in sign_in(Visitor(own.url), rp.authorize_url(), number, PASSWORD)
        taken = own.cli("person", "add", "--id-number", number, "--name", "x", status=1)
        assert taken["error"] == "identifier_taken"
    assert own.cli("doctor")["ok"]
    assert own.cli("keys", "rotate", "--master", status=1)["error"] == "no_new_version"


@pytest.mark.long
def test_change_killed_in_the_middle_is_resumed(own: YimenServer) -> None:
    citizen = add_citizen(own)
    master.write(key_file(own.environment), 1, 2)
    for reached in (50, CROWD, 2 * CROWD):
        with killed(own, "keys", "rotate", "--master", "--settle", "0", "--rest", "30") as seen:
            wait_for(lambda reached=reached: seen() >= reached)  # type: ignore[misc]
    status = own.cli("keys", "rotate", "--master", "--status")
    values = {row["version"]: row["values"] for row in status["versions"]}
    assert status["state"] == "changing"
    assert values[1] > 0
    assert values[2] >= CROWD
    assert any(
        check["state"] == "warning" and "finish the change" in check["message"]
        for check in own.cli("doctor")["checks"]
        if check["name"] == "master_key"
    )
    assert_start_refused_without(own, 1)
    done = own.cli("keys", "rotate", "--master", "--settle", "0", "--rest", "0")
    assert done["retired"] == [1]
    after = {row["version"]: row["values"] for row in own.cli("keys", "rotate", "--master", "--status")["versions"]}
    assert after == {1: 0, 2: sum(values.values())}
    assert own.cli("person", "show", citizen.account)["phone"] == "174****5678"


def assert_start_refused_without(own: YimenServer, version: int) -> None:
    """One line, an exit status, no key shown."""
    whole = key_file(own.environment).read_text()
    lines = whole.splitlines(keepends=True)
    key_file(own.environment).write_text("".join(line for line in lines if not line.startswith(f"{version} ")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "server.py", "run", "--port", "1"],
        cwd=ROOT, env=own.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    key_file(own.environment).write_text(whole)
    assert done.returncode == 1
    assert done.stderr.startswith(f"yimen: version {version} of the master key is missing in ")
    assert "put its line back" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(line.split()[1] in done.stderr for line in lines)


@contextlib.contextmanager
def killed(own: YimenServer, *arguments: str) -> Iterator[Callable[[], int]]:
    """A command that is killed at the end of the block; inside, how many rows it and those before it have seen."""
    process = subprocess.Popen(
        [sys.executable, "server.py", *arguments],
        cwd=ROOT, env=own.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def seen() -> int:
        assert process.poll() is None, "the command ended before it was killed"
        return sum(row["seen"] for row in own.cli("keys", "rotate", "--master", "--status")["columns"])

    try:
        yield seen
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)


def wait_for(ready: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
