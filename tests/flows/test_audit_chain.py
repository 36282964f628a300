"""A running server seals what it does, one worker at a time, and carries anchors outside."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from idp.chain.verify import verify
from tests.support.anchor_store import AnchorStore
from tests.support.citizen import add_citizen, add_client
from tests.support.context import opened
from tests.support.servers import YimenServer
from tests.support.visitor import Visitor, sign_in


def wait_for(found: Callable[[], Any]) -> Any:
    """The first true answer within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.2)
    raise AssertionError("nothing came")


@pytest.fixture
def store() -> Iterator[AnchorStore]:
    with AnchorStore() as found:
        yield found


def test_running_server_seals_anchors_and_survives_a_restart(
    stores: dict[str, str], tmp_path: Path, store: AnchorStore
) -> None:
    settings = {"YIMEN_AUDIT_STORE_URL": store.url, "YIMEN_AUDIT_ANCHOR_SECONDS": "1"}
    server = YimenServer(stores | settings, workers=1 if stores["YIMEN_DATABASE_URL"].startswith("sqlite") else 2)

    def newest() -> int:
        return int(json.loads(store.lines[-1])["sequence"]) if store.lines else 0

    with opened(stores) as context:
        with server:
            citizen, rp = add_citizen(server), add_client(server, "公积金")
            visitor = Visitor(server.url)
            rp.redeem(sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)["code"])
            wait_for(lambda: verify(context).records >= 6 and verify(context).unsealed == 0)
            wait_for(lambda: newest() >= 6)
        before = newest()
        with server:
            add_citizen(server, name="李四例")
            wait_for(lambda: newest() > before)
        (tmp_path / "outside.jsonl").write_text("".join(f"{line}\n" for line in store.lines))
        report = verify(context, files=[tmp_path / "outside.jsonl"])
    assert (report.intact, report.unsealed) == (True, 0)
    assert report.anchors >= 2 * len(store.lines)
    assert "background work failed" not in server.log.read_text()
