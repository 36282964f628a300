"""One installation of each kind for all tests of a file; each test begins with an empty audit."""

import contextlib
from collections.abc import Iterator

import pytest
from sqlalchemy import delete

from idp import keys
from idp.context import Context
from idp.models import AuditAnchor, AuditHead, AuditRecord, Lease
from server import reload_keys
from tests.conftest import KINDS
from tests.support.context import opened
from tests.support.stores import Stores


@pytest.fixture(scope="module", params=KINDS)
def stores(
    request: pytest.FixtureRequest, _all_stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    with _all_stores.environment(request.param, tmp_path_factory.mktemp("chain") / "data") as environment:
        yield environment


@pytest.fixture(scope="module")
def _shared(stores: dict[str, str]) -> Iterator[Context]:
    with opened(stores) as found:
        yield found


@pytest.fixture
def context(_shared: Context) -> Context:
    """A context on an installation whose audit is empty; signing keys that a test took are made anew."""
    with _shared.database.session() as session:
        for table in (AuditRecord, AuditHead, AuditAnchor, Lease):
            session.execute(delete(table))
    with contextlib.suppress(FileNotFoundError):
        _shared.config.audit_anchor_file.unlink()
    with _shared.database.session() as session:
        keys.ensure(session, _shared.vault, _shared.now())
    reload_keys(_shared)
    return _shared
