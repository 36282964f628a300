"""Deliveries: fair between clients, at least once, given up in time, and in the operators' hands."""

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import select, update

from admin.deliveries import deliveries as delivery_commands
from clients import registry
from idp import deliveries, sessions
from idp.context import Context
from idp.deliveries import board, lanes, rows, sending
from idp.errors import InvalidInput, NotFound
from idp.models import AuditRecord, Delivery, DeliveryLane
from idp.outgoing import Answer, Outgoing, OutgoingFailed, OutgoingRefused
from idp.sessions import Proof
from tests.support.context import context, new_person

__all__ = ["context"]

KIND = deliveries.BACKCHANNEL_LOGOUT
SILENT = OutgoingFailed("no proper answer: ReadTimeout")


def build(context: Context, delivery: deliveries.Claimed) -> Mapping[str, str]:
    return {"logout_token": "made-up"}


def notices(context: Context, name: str, count: int) -> str:
    """A client at an address of its own and `count` notices that wait for it; the client's id."""
    now = context.now()
    with context.database.session() as db:
        metadata = {
            "client_name": name,
            "redirect_uris": ["https://rp.example.test/cb"],
            "backchannel_logout_uri": f"https://{name}.example.test/out",
        }
        client = registry.create(context, db, metadata=metadata).client
        account = new_person(context, db)
        session, _ = sessions.start(context, db, account, Proof(3, ("pwd",)))
        for i in range(count):
            db.add(
                Delivery(
                    id=uuid4(), kind=KIND, client_id=client.id, account_id=account.id, session_id=session.id,
                    url=f"https://{name}.example.test/out", next_at=now - 10 + i % 10, give_up_at=now + 999,
                    created_at=now, updated_at=now,
                )
            )  # fmt: skip
        return client.id


def rows_of(context: Context, client_id: str) -> list[Delivery]:
    with context.database.session(write=False) as db:
        found = list(db.scalars(select(Delivery).where(Delivery.client_id == client_id).order_by(Delivery.id)))
        db.expunge_all()
    return found


def lane_of(context: Context, client_id: str) -> DeliveryLane:
    with context.database.session(write=False) as db:
        lane = db.get(DeliveryLane, client_id)
        assert lane is not None
        return lane


class Network:
    """Stands for all addresses: what each host does, and how many calls it has at once and in all."""

    def __init__(self, **hosts: Any) -> None:
        self.hosts, self.calls = hosts, dict.fromkeys(hosts, 0)
        self.now, self.most = dict.fromkeys(hosts, 0), dict.fromkeys(hosts, 0)

    async def request(self, method: str, url: str, **_: Any) -> Answer:
        host = url.split("/")[2].partition(".")[0]
        self.calls[host] += 1
        self.now[host] += 1
        self.most[host] = max(self.most[host], self.now[host])
        try:
            does = self.hosts[host]
            if isinstance(does, asyncio.Event):
                await does.wait()
                raise SILENT
            await asyncio.sleep(0)
            if isinstance(does, Exception):
                raise does
            return Answer(does, {}, b"")
        finally:
            self.now[host] -= 1


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network(good=200, silent=SILENT, broken=503, wrong=400, guarded=OutgoingRefused("not on the allow list"))
    monkeypatch.setattr(Outgoing, "request", lambda self, method, url, **rest: made.request(method, url, **rest))
    return made


def send(context: Context) -> int:
    return asyncio.run(sending.run_once(context, {KIND: build}))


@pytest.mark.parametrize(
    ("host", "state", "error", "failures"),
    [
        ("good", "done", None, 0),
        ("silent", "waiting", "timeout", 1),
        ("broken", "waiting", "status_5xx", 1),
        ("wrong", "failed", "status_4xx", 0),
        ("guarded", "failed", "refused", 0),
    ],
)
def test_attempt_is_settled_by_what_came_of_it(
    context: Context, network: Network, host: str, state: str, error: str | None, failures: int
) -> None:
    client_id = notices(context, host, 1)
    assert send(context) == 1
    row = rows_of(context, client_id)[0]
    assert (row.state, row.error_class, row.attempts, row.leased_until) == (state, error, 1, None)
    assert lane_of(context, client_id).failures == failures
    assert send(context) == 0, "a second attempt waits for its time"


def test_silent_client_slows_nobody(context: Context, network: Network) -> None:
    """While a hundred notices of one client hang, all of another's arrive."""
    hanging = notices(context, "hanging", 100)
    good = notices(context, "good", 100)

    async def scene() -> None:
        network.hosts["hanging"] = never = asyncio.Event()
        network.calls["hanging"] = network.now["hanging"] = network.most["hanging"] = 0
        sender = sending.Sender(context, {KIND: build})
        for _ in range(200):  # a bound against hanging, not a measure
            await sender.start_due()
            await sender.pause() if network.calls["good"] == 100 else await asyncio.sleep(0.01)
            if await asyncio.to_thread(arrived):
                break
        assert network.calls["hanging"] == network.most["hanging"] == lanes.PER_CLIENT
        never.set()
        await sender.finish()

    def arrived() -> bool:
        return all(row.state == "done" for row in rows_of(context, good))

    asyncio.run(scene())
    assert arrived()
    assert network.most["good"] <= lanes.PER_CLIENT
    assert lane_of(context, hanging).failures == lanes.PER_CLIENT
    assert lane_of(context, hanging).paused_until > context.now()
    assert sum(row.attempts for row in rows_of(context, hanging)) == lanes.PER_CLIENT, "a pause uses no attempts up"


def test_more_silent_clients_than_room_do_not_starve_the_next(context: Context, network: Network) -> None:
    for i in range(6):
        network.hosts[f"silent{i}"] = SILENT
        for count in (network.calls, network.now, network.most):
            count[f"silent{i}"] = 0
        notices(context, f"silent{i}", 20)
    good = notices(context, "good", 3)
    with context.database.session() as db:  # the good one came last
        db.execute(update(Delivery).where(Delivery.client_id == good).values(next_at=context.now()))
    for _ in range(4):
        with context.database.session() as db:
            claimed = rows.claim(context, db, 6)
        for one in claimed:
            outcome = asyncio.run(sending.attempt(context, one, build))
            with context.database.session() as db:
                rows.settle(context, db, one, outcome)
    for _ in range(6):
        send(context)
    assert [row.state for row in rows_of(context, good)] == ["done"] * 3
    assert max(network.calls[f"silent{i}"] for i in range(6)) <= lanes.PER_CLIENT + lanes.THRESHOLD


def test_paused_lane_opens_by_one_notice_and_closes_for_longer(context: Context, network: Network) -> None:
    client_id = notices(context, "broken", 30)
    pauses = []
    for _ in range(9):
        send(context)
        lane = lane_of(context, client_id)
        if lane.paused_until > context.now():
            pauses.append(lane.paused_until - lane.updated_at)
        with context.database.session() as db:
            db.execute(update(DeliveryLane).values(paused_until=0))
    assert network.most["broken"] <= lanes.PER_CLIENT
    assert pauses == sorted(pauses)
    assert pauses[-1] == lanes.PAUSES[-1]
    network.hosts["broken"] = 200
    assert send(context) == 1, "one goes first"
    assert lane_of(context, client_id).failures == 0
    assert send(context) == lanes.PER_CLIENT, "and then the lane is open"


def test_claims_of_two_workers_never_meet(context: Context, network: Network) -> None:
    client_id = notices(context, "good", 40)

    async def both() -> None:
        first, second = (sending.Sender(context, {KIND: build}) for _ in range(2))
        for _ in range(100):
            await asyncio.gather(first.start_due(), second.start_due())
            await asyncio.sleep(0.01)
            if network.calls["good"] >= 40:
                break
        await asyncio.gather(first.finish(), second.finish())

    asyncio.run(both())
    assert network.calls["good"] == 40
    assert network.most["good"] <= lanes.PER_CLIENT
    assert {row.state for row in rows_of(context, client_id)} == {"done"}


def test_lost_worker_loses_its_claim_and_its_late_word_counts_for_nothing(context: Context, network: Network) -> None:
    client_id = notices(context, "good", 1)
    with context.database.session() as db:
        (lost,) = rows.claim(context, db, 5)
        assert rows.claim(context, db, 5) == []
        past = context.now() - 1
        db.execute(update(Delivery).values(next_at=past, leased_until=past))
    assert send(context) == 1
    with context.database.session() as db:
        rows.settle(context, db, lost, rows.Outcome("late", "timeout", final=True, answered=False))
    row = rows_of(context, client_id)[0]
    assert (row.state, row.attempts, row.last_result) == ("done", 2, "status 200")


def test_delivery_is_given_up_after_its_attempts_or_its_time(context: Context, network: Network) -> None:
    client_id = notices(context, "broken", 1)
    for _ in range(len(rows.PAUSES) + 2):
        with context.database.session() as db:
            db.execute(update(DeliveryLane).values(paused_until=0))
            db.execute(update(Delivery).where(Delivery.state == "waiting").values(next_at=context.now() - 1))
        send(context)
    row = rows_of(context, client_id)[0]
    assert (row.state, row.attempts) == ("failed", len(rows.PAUSES) + 1)
    old = notices(context, "silent", 3)
    with context.database.session() as db:
        db.execute(update(Delivery).where(Delivery.client_id == old).values(give_up_at=context.now()))
        assert rows.give_up_old(context, db, limit=2) == 2
        assert rows.give_up_old(context, db, limit=2) == 1
    assert {row.error_class for row in rows_of(context, old)} == {"too_late"}


def test_notice_that_cannot_be_made_harms_no_lane(context: Context, network: Network) -> None:
    client_id = notices(context, "good", 1)

    def broken(context: Context, delivery: deliveries.Claimed) -> Mapping[str, str]:
        raise RuntimeError("no key")

    assert asyncio.run(sending.run_once(context, {KIND: broken})) == 1
    row = rows_of(context, client_id)[0]
    assert (row.state, row.error_class, row.last_result) == ("waiting", "build", "failed: RuntimeError")
    assert lane_of(context, client_id).failures == 0


# --- the board


def test_board_lists_in_pages_and_counts_by_client(context: Context, network: Network) -> None:
    good, silent = notices(context, "good", 7), notices(context, "silent", 5)
    for _ in range(4):
        send(context)
    with context.database.session(write=False) as db:
        seen, after = list[str](), ""
        for _ in range(9):
            found, after = board.listing(db, before=after, limit=5)
            seen += [str(row.id) for row in found]
            if not after:
                break
        assert len(seen) == len(set(seen)) == 12
        assert len(board.listing(db, client=silent)[0]) == 5
        assert {row.client_id for row in board.listing(db, state="delivered")[0]} == {good}
        for wrong in ({"state": "lost"}, {"before": "x"}, {"before": "1-x"}):
            with pytest.raises(InvalidInput):
                board.listing(db, **wrong)
        counted = {row["client_id"]: row for row in board.count_by_client(db, context.now())}
        assert (counted[good]["delivered"], counted[good]["waiting"]) == (7, 0)
        assert counted[silent]["waiting"] == 5
        assert counted[silent]["failures_in_a_row"] >= lanes.THRESHOLD
        assert counted[silent]["paused_until"] is not None
        described = json.dumps([board.describe(row) for row in board.listing(db)[0]])
    assert "made-up" not in described


def test_retry_sends_at_once_and_is_recorded(context: Context, network: Network) -> None:
    client_id = notices(context, "wrong", 2)
    send(context)
    network.hosts["wrong"] = 200
    first, second = rows_of(context, client_id)
    with context.database.session() as db:
        db.execute(update(DeliveryLane).values(failures=9, paused_until=context.now() + 900))
        assert board.describe(board.retry(context, db, first.id))["state"] == "waiting"
        assert board.retry_client(context, db, client_id) == 1
    while send(context):
        pass
    assert [row.state for row in rows_of(context, client_id)] == ["done", "done"]
    with context.database.session() as db:
        with pytest.raises(board.WrongState):
            board.retry(context, db, second.id)
        with pytest.raises(NotFound):
            board.retry(context, db, uuid4())
        with pytest.raises(NotFound):
            board.retry_client(context, db, "c0")
        records = db.scalars(select(AuditRecord).where(AuditRecord.event == "delivery:notice:retried")).all()
        assert sorted(json.loads(record.detail or "{}")["delivery"] for record in records) == sorted(
            [str(first.id), str(second.id)]
        )
        assert {record.client_id for record in records} == {client_id}


def test_cancel_is_final_even_while_it_is_being_sent(context: Context, network: Network) -> None:
    client_id = notices(context, "silent", 1)
    with context.database.session() as db:
        (claimed,) = rows.claim(context, db, 1)
        board.cancel(context, db, claimed.id, "switched off, call 17412345678")
        rows.settle(context, db, claimed, rows.Outcome("status 200", None, final=True, answered=True))
    row = rows_of(context, client_id)[0]
    assert (row.state, row.error_class) == ("failed", "cancelled")
    with context.database.session() as db:
        with pytest.raises(board.WrongState):
            board.cancel(context, db, row.id, "again")
        assert board.retry_client(context, db, client_id) == 0, "what was cancelled stays so, unless it is named"
        told = db.scalars(select(AuditRecord.detail).where(AuditRecord.event == "delivery:notice:cancelled")).one()
        assert "17412345678" not in str(told)


def test_commands_print_json_or_a_table(context: Context, network: Network) -> None:
    client_id = notices(context, "wrong", 2)
    send(context)
    network.hosts["wrong"] = 200
    opener = partial(nullcontext, dataclasses.replace(context, actor="command"))

    def call(*arguments: str, status: int = 0) -> Any:
        done = CliRunner().invoke(delivery_commands, arguments, obj=opener)
        assert done.exit_code == status, done.output
        return done.stdout if "--table" in arguments else json.loads(done.stdout)

    listed = call("list", "--state", "given_up", "--json")["deliveries"]
    assert [row["client_id"] for row in listed] == [client_id] * 2
    name = listed[0]["delivery"]
    shown = call("show", name)
    assert (shown["state"], shown["error_class"], shown["attempts"]) == ("given_up", "status_4xx", 1)
    assert call("clients")["clients"][0]["given_up"] == 2
    head, first, more = call("list", "--limit", "1", "--table").splitlines()
    assert head.split()[:3] == ["delivery", "client_id", "state"]
    assert first.split()[1:3] == [client_id, "given_up"]
    assert call("list", "--before", more.rpartition(" ")[2])["next"] is None
    assert client_id in call("clients", "--table")
    assert call("retry", name)["state"] == "waiting"
    assert call("cancel", name, "--reason", "x")["state"] == "given_up"
    assert call("retry", "--client", client_id)["retried"] == 1
    assert call("retry", status=1)["error"] == "invalid_request"
    assert call("show", str(uuid4()), status=1)["error"] == "not_found"
    with context.database.session(write=False) as db:
        actors = db.scalars(select(AuditRecord.actor).where(AuditRecord.event.like("delivery:%"))).all()
    assert set(actors) == {"command"}


@pytest.mark.parametrize("command", ["list", "clients", "show", "retry", "cancel"])
def test_help_of_each_command_tells_what_it_does(command: str) -> None:
    done = CliRunner().invoke(delivery_commands, [command, "--help"])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) > 5
