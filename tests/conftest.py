"""Fixtures for all tests: fresh stores, running servers, a browser, Node.

`make test` gives a private PostgreSQL and Redis. A plain `pytest` without them runs what SQLite and the
in-process store can show, and says how many tests it left out.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.prerequisites import NODE, NODE_HOME
from tests.support.servers import YimenServer
from tests.support.small_disk import may_mount
from tests.support.stores import PostgresDatabases, RedisDatabases, SqliteFiles, Stores

POSTGRES = os.environ.get("TEST_POSTGRES", "")
REDIS = os.environ.get("TEST_REDIS_URL", "")
KINDS = ["sqlite", "postgres"] if POSTGRES and REDIS else ["sqlite"]
MOUNTS = os.geteuid() == 0 and may_mount()
NEEDS = {"postgres_url": POSTGRES, "redis_url": REDIS, "mounts": MOUNTS}  # fixture: what it needs

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs a service that is not there; what looks back at the whole run comes last."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    absent = {name for name, value in NEEDS.items() if not value}
    left_out = [item for item in items if absent.intersection(getattr(item, "fixturenames", ()))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the servers' logs with a failed test."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, YimenServer) and value.log.exists():
                lines = value.log.read_text(errors="replace").splitlines()[-30:]
                report.sections.append((f"log of {name}", "\n".join(lines)))
    return report


# --- stores


@pytest.fixture(scope="session")
def _postgres() -> PostgresDatabases:
    return PostgresDatabases(POSTGRES)


@pytest.fixture(scope="session")
def _redis() -> RedisDatabases:
    return RedisDatabases(REDIS)


@pytest.fixture(scope="session")
def _all_stores(
    tmp_path_factory: pytest.TempPathFactory, _postgres: PostgresDatabases, _redis: RedisDatabases
) -> Stores:
    return Stores(SqliteFiles(tmp_path_factory.mktemp("template")), _postgres, _redis)


@pytest.fixture(scope="session")
def postgres_url(_postgres: PostgresDatabases) -> Callable[[], str]:
    """A function that makes an empty database and returns its URL."""
    return _postgres.create


@pytest.fixture(scope="session")
def redis_url(_redis: RedisDatabases) -> Callable[[], str]:
    """A function that returns the URL of an empty Redis database."""
    return _redis.take


@pytest.fixture(params=KINDS)
def stores(request: pytest.FixtureRequest, _all_stores: Stores, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a fresh installation with the schema at head, once for each kind of stores."""
    with _all_stores.environment(request.param, tmp_path / "data") as environment:
        yield environment


# --- servers


@pytest.fixture(scope="session", params=KINDS)
def server(
    request: pytest.FixtureRequest, _all_stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[YimenServer]:
    """One running server for all tests, once for each kind of stores; PostgreSQL and Redis with two workers."""
    workers = 1 if request.param == "sqlite" else 2
    data_dir = tmp_path_factory.mktemp(request.param)
    with (
        _all_stores.environment(request.param, data_dir) as environment,
        YimenServer(environment, workers=workers) as running,
    ):
        yield running


@pytest.fixture(scope="session", params=KINDS)
def unlimited(
    request: pytest.FixtureRequest, _all_stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[YimenServer]:
    """A server for floods, without limits on how often one may ask: four workers, one on the embedded file, which
    belongs to one process."""
    folder = tmp_path_factory.mktemp(f"unlimited-{request.param}")
    with (
        _all_stores.environment(request.param, folder) as environment,
        YimenServer(
            {**environment, "YIMEN_RATE_LIMITS": "off"}, workers=1 if request.param == "sqlite" else 4
        ) as running,
    ):
        yield running


# --- browser and Node


@pytest.fixture(scope="session")
def _chromium() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS)
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield chromium, loop
        asyncio._set_running_loop(loop)
        chromium.close()


@pytest.fixture
def browser(_chromium: tuple[Browser, asyncio.AbstractEventLoop]) -> Iterator[Browser]:
    """Chromium without a screen. What a test opens in it is closed after the test.

    Playwright's loop counts as running in this thread as long as a test uses the browser; then it is set aside, so
    that other tests may run loops of their own.
    """
    chromium, loop = _chromium
    asyncio._set_running_loop(loop)
    yield chromium
    for context in chromium.contexts:
        context.close()
    asyncio._set_running_loop(None)


@pytest.fixture
def page(browser: Browser) -> Page:
    """A page with an empty cookie jar."""
    return browser.new_context(locale="zh-CN").new_page()


@pytest.fixture
def node() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """A function that runs `node ARGUMENTS` where the packages of tests/<packages>/package.json are found."""

    def run(*arguments: str, packages: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        assert NODE.exists(), "Node is not prepared: run `make test` once"
        return subprocess.run(
            [NODE, *arguments], cwd=NODE_HOME / packages, capture_output=True, text=True, timeout=timeout
        )

    return run
