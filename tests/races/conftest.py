"""The race course: one server with everything a race needs, once for each kind of stores."""

from collections.abc import Iterator

import pytest

from tests.races.stage import Stage
from tests.support.context import opened
from tests.support.proc import serving
from tests.support.servers import YimenServer
from tests.support.wire import Barrier

CLIENTS = 50


@pytest.fixture(scope="session")
def racecourse(unlimited: YimenServer) -> Iterator[Stage]:
    with (
        opened(unlimited.environment) as context,
        Barrier(unlimited.url, CLIENTS, serving(unlimited)) as barrier,
    ):
        yield Stage(unlimited, context, barrier)


@pytest.fixture
def stage(racecourse: Stage) -> Stage:
    racecourse.renew()
    return racecourse
