"""People and clients of the flow tests; those that a test spoils are made anew."""

import pytest

from tests.support.citizen import Citizen, add_citizen, add_client
from tests.support.servers import YimenServer
from tests.support.visitor import Rp

_made: dict[tuple[str, str], object] = {}


def _once(server: YimenServer, name: str, make: object) -> object:
    key = (server.url, name)
    if key not in _made:
        _made[key] = make()  # type: ignore[operator]
    return _made[key]


@pytest.fixture
def citizen(server: YimenServer) -> Citizen:
    """A person whom no test spoils."""
    return _once(server, "citizen", lambda: add_citizen(server))  # type: ignore[return-value]


@pytest.fixture
def new_citizen(server: YimenServer) -> Citizen:
    return add_citizen(server, name="李四例")


@pytest.fixture
def rp(server: YimenServer) -> Rp:
    return _once(server, "rp", lambda: add_client(server, "公积金"))  # type: ignore[return-value]


@pytest.fixture
def other_rp(server: YimenServer) -> Rp:
    other = "https://other.example.test/cb"
    return _once(server, "other", lambda: add_client(server, "社保", redirect_uri=other))  # type: ignore[return-value]
