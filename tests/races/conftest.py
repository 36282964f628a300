"""Servers of the race tests: as many workers as a set-up allows, without limits on how often one may ask."""

from collections.abc import Iterator

import pytest

from tests.conftest import KINDS
from tests.races.stage import Stage
from tests.support.context import opened
from tests.support.proc import serving
from tests.support.servers import YimenServer
from tests.support.stores import Stores
from tests.support.wire import Barrier

WORKERS = {"sqlite": 1, "postgres": 4}  # the embedded file belongs to one process: run --workers 2 refuses it
CLIENTS = 50


@pytest.fixture(scope="session", params=KINDS)
def racecourse(
    request: pytest.FixtureRequest, _all_stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """One server with everything a race needs, once for each kind of stores."""
    folder = tmp_path_factory.mktemp(f"races-{request.param}")
    with (
        _all_stores.environment(request.param, folder) as environment,
        YimenServer({**environment, "YIMEN_RATE_LIMITS": "off"}, workers=WORKERS[request.param]) as server,
        opened(server.environment) as context,
        Barrier(server.url, CLIENTS, serving(server)) as barrier,
    ):
        yield Stage(server, context, barrier)


@pytest.fixture
def stage(racecourse: Stage) -> Stage:
    racecourse.renew()
    return racecourse
