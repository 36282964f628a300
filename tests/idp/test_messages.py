"""Messages: to proved contacts only, sent once, tried again, given up; the gateway's interface."""

import asyncio
import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from idp import messages
from idp.context import Context
from idp.models import Account, Message
from idp.senders import OUTBOX, Outgone, open_sender
from tests.support.context import context, new_person, opened
from tests.support.gateway import Gateway

__all__ = ["context"]
DETAIL = {"until": 1_800_000_000}


def person(context: Context, *, proved: bool = True) -> Account:
    with context.database.session() as db:
        claims = {"phone_number_verified": proved, "email_verified": proved}
        return new_person(context, db, phone="17412345678", email="li@example.test", claims=claims)


def queue(context: Context, account: Account, **options: int) -> bool:
    with context.database.session() as db:
        return messages.queue(context, db, account.id, "login_locked", DETAIL, **options)


def states(db: Session) -> list[tuple[str, int, str | None]]:
    return [(row.state, row.attempts, row.last_result) for row in db.scalars(select(Message))]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as running:
        yield running


def test_outbox_gets_one_line_with_the_contract_s_fields(context: Context) -> None:
    queue(context, person(context))
    assert asyncio.run(messages.run_once(context, open_sender(context))) == 1
    assert asyncio.run(messages.run_once(context, open_sender(context))) == 0
    path = context.config.data_dir / OUTBOX
    [line] = path.read_text().splitlines()
    sent = json.loads(line)
    assert set(sent) == {"to", "channel", "purpose", "code", "text", "at"}
    assert (sent["channel"], sent["purpose"], sent["code"]) == ("sms", "login_locked", "")
    assert sent["to"].endswith("17412345678")
    assert path.stat().st_mode & 0o077 == 0
    with context.database.session() as db:
        assert states(db) == [("done", 1, "written")]


def test_contact_without_proof_gets_nothing(context: Context) -> None:
    queue(context, person(context, proved=False))
    asyncio.run(messages.run_once(context, open_sender(context)))
    assert not (context.config.data_dir / OUTBOX).exists()
    with context.database.session() as db:
        assert states(db) == [("failed", 1, "no proved contact")]


def test_same_message_within_the_pause_is_not_queued(context: Context) -> None:
    account = person(context)
    assert queue(context, account, pause=60)
    assert not queue(context, account, pause=60)
    context.database._offset += 61
    assert queue(context, account, pause=60)


def test_two_workers_never_send_the_same_message(context: Context) -> None:
    account = person(context)
    for _ in range(30):
        queue(context, account)
    with context.database.session() as db:
        first = messages.claim(context, db)
    with context.database.session() as db:
        second = messages.claim(context, db)
    assert len({message.id for message in [*first, *second]}) == 30


def test_gateway_gets_the_documented_request(stores: dict[str, str], gateway: Gateway) -> None:
    with opened(stores | {"YIMEN_CODE_SENDER": gateway.url}) as context:
        queue(context, person(context))
        asyncio.run(messages.run_once(context, open_sender(context)))
        [sent] = gateway.received
        assert set(sent) == {"id", "to", "channel", "purpose", "code", "text", "at"}
        with context.database.session() as db:
            assert states(db) == [("done", 1, "status 200")]


def test_gateway_in_trouble_is_tried_again_and_given_up(stores: dict[str, str], gateway: Gateway) -> None:
    gateway.status = 500
    with opened(stores | {"YIMEN_CODE_SENDER": gateway.url}) as context:
        queue(context, person(context))
        for pause in (*messages.PAUSES, 0):
            assert asyncio.run(messages.run_once(context, open_sender(context))) == 1
            assert asyncio.run(messages.run_once(context, open_sender(context))) == 0
            context.database._offset += pause
        assert len({sent["id"] for sent in gateway.received}) == 1
        with context.database.session() as db:
            assert states(db) == [("failed", 4, "status 500")]


def test_gateway_that_refuses_is_not_asked_again(stores: dict[str, str], gateway: Gateway) -> None:
    gateway.status = 422
    with opened(stores | {"YIMEN_CODE_SENDER": gateway.url}) as context:
        queue(context, person(context))
        asyncio.run(messages.run_once(context, open_sender(context)))
        with context.database.session() as db:
            assert states(db) == [("failed", 1, "status 422")]


def test_late_answer_of_a_lost_claim_changes_nothing(context: Context) -> None:
    queue(context, person(context))
    with context.database.session() as db:
        [claimed] = messages.claim(context, db)
    context.database._offset += messages.LEASE_SECONDS
    with context.database.session() as db:
        [again] = messages.claim(context, db)
        messages.settle(context, db, claimed, Outgone("late", done=False, final=True))
        assert states(db) == [("waiting", 2, None)]
        messages.settle(context, db, again, Outgone("ok", done=True, final=True))
        assert states(db) == [("done", 2, "ok")]


def test_every_purpose_has_its_text() -> None:
    for purpose, words in messages.WORDS.items():
        assert "【一门】" in words(DETAIL), purpose
    assert uuid4().hex not in messages.WORDS["login_locked"](DETAIL)
