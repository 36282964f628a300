"""S04: what is taken away is gone at once. Nothing is issued after the commit of a lock, a new password, the end of a
session or the withdrawal of a consent, however the requests were on their way when it came."""

import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from idp import accounts, consents, sessions
from idp.authn import password
from idp.http.response import SESSION_COOKIE
from tests.races.stage import Stage, codes_of
from tests.support.citizen import PASSWORD
from tests.support.wire import Answer

NEW_PASSWORD = PASSWORD[::-1]
UNDER_WAY_SECONDS = 0.3  # so long a request is given to come to the point where it waits
SHORT, LONG = 3, 250  # runs; two kinds of taking away make the 500 of the catalogue


# --- what takes away, in an open transaction


def lock(stage: Stage, db: Any) -> None:
    accounts.lock(stage.context, db, stage.account_in(db), "test")


def new_password(stage: Stage, db: Any) -> None:
    password.set_password(stage.context, db, stage.account_in(db), NEW_PASSWORD)


def end_session(stage: Stage, db: Any) -> None:
    sessions.end(stage.context, db, stage.session, reason="test")


def withdraw_consent(stage: Stage, db: Any) -> None:
    assert consents.withdraw(stage.context, db, stage.account, stage.client_id)


# --- what would issue: prepares everything, and returns the last request


class Last(NamedTuple):
    """The request that would issue something, and whether an answer to it did."""

    raw: bytes
    issued: Callable[[Answer], bool]


def has_code(answer: Answer) -> bool:
    return "code" in answer.query


def has_token(answer: Answer) -> bool:
    assert answer.status == 200 or (answer.status, answer.error) == (400, "invalid_grant"), answer
    return answer.status == 200


def code(stage: Stage) -> Last:
    return Last(stage.authorize(), has_code)


def code_after_pages(stage: Stage) -> Last:
    asked = stage.pause(prompt="consent")
    stage.ask(stage.post("/consent", asked, decision="approve", version=stage.terms))
    return Last(stage.get("/authorize/continue", interaction=asked), has_code)


def tokens(stage: Stage) -> Last:
    return Last(stage.redeem(stage.code()), has_token)


def tokens_of_the_session(stage: Stage) -> Last:
    """Without offline access they live no longer than the session."""
    return Last(stage.redeem(stage.ask(stage.authorize(scope="openid")).query["code"]), has_token)


def child(stage: Stage) -> Last:
    return Last(stage.refresh(stage.tokens()["refresh_token"]), has_token)


def same_child_again(stage: Stage) -> Last:
    again = stage.refresh(stage.tokens()["refresh_token"])
    assert stage.ask(again).status == 200
    return Last(again, has_token)


def session(stage: Stage) -> Last:
    form = stage.post("/login", identifier=stage.number, password=PASSWORD)
    return Last(form, lambda answer: bool(answer.cookies.get(SESSION_COOKIE)))


PAIRS = [
    *((lock, issue) for issue in (code, code_after_pages, tokens, child, same_child_again, session)),
    *((new_password, issue) for issue in (code, code_after_pages, tokens, child, same_child_again, session)),
    *((end_session, issue) for issue in (code, code_after_pages, tokens_of_the_session)),
    *((withdraw_consent, issue) for issue in (code, code_after_pages, tokens, child, same_child_again)),
]


@pytest.mark.parametrize(("take", "issue"), PAIRS, ids=[f"{a.__name__}-{b.__name__}" for a, b in PAIRS])
def test_request_under_way_when_rights_are_taken_gets_nothing(
    stage: Stage, take: Callable[[Stage, Any], None], issue: Callable[[Stage], Last]
) -> None:
    """The request is judged by what it read before; its commit meets the other one's, which is not yet visible."""
    last = issue(stage)
    with stage.context.database.session() as db:
        take(stage, db)
        db.flush()
        [line] = stage.barrier.send([last.raw])
        time.sleep(UNDER_WAY_SECONDS)
    answer = line.receive()
    assert not last.issued(answer), answer


def test_same_requests_get_something_when_nothing_is_taken(stage: Stage) -> None:
    """So that the refusals above mean something."""
    for issue in (code, code_after_pages, tokens, tokens_of_the_session, child, same_child_again, session):
        stage.sign_in()
        last = issue(stage)
        assert last.issued(stage.ask(last.raw)), issue.__name__


# --- at random moments


def at_random(stage: Stage, take: Callable[[Stage, Any], None], chance: random.Random) -> None:
    """Forty requests and one taking away at once: afterwards nothing of the person is in force."""
    families = [stage.tokens() for _ in range(12)]
    unspent = [stage.code() for _ in range(12)]
    requests = [stage.authorize() for _ in range(12)]
    requests += [stage.redeem(code) for code in unspent]
    requests += [stage.refresh(family["refresh_token"]) for family in families]
    requests += [stage.post("/login", identifier=stage.number, password=PASSWORD) for _ in range(4)]
    chance.shuffle(requests)

    def take_away(delay: float) -> None:
        time.sleep(delay)
        with stage.context.database.session() as db:
            take(stage, db)

    taker = threading.Thread(target=take_away, args=(chance.uniform(0, 0.05),))
    taker.start()
    answers = stage.barrier.release(requests)
    taker.join()
    assert {answer.status for answer in answers} <= {200, 303, 400}, answers
    assert stage.living() == (0, 0)
    left = [stage.redeem(code) for code in codes_of(answers)]
    given = [answer.json for answer in answers if "access_token" in answer.json]
    left += [stage.refresh(tokens["refresh_token"]) for tokens in given]
    assert all(answer.error == "invalid_grant" for answer in stage.barrier.release(left))
    seen = stage.barrier.release([stage.userinfo(tokens["access_token"]) for tokens in given])
    assert all(answer.status == 401 for answer in seen)


TAKERS = pytest.mark.parametrize("take", [lock, new_password], ids=["lock", "new_password"])


@TAKERS
def test_rights_taken_at_a_random_moment_leave_nothing_in_force(
    stage: Stage, take: Callable[[Stage, Any], None]
) -> None:
    chance = random.Random(4)
    for _ in range(SHORT):
        stage.renew()
        at_random(stage, take, chance)


@pytest.mark.long
@TAKERS
def test_rights_taken_at_random_moments_again_and_again_leave_nothing_in_force(
    stage: Stage, take: Callable[[Stage, Any], None]
) -> None:
    chance = random.Random(404)
    for _ in range(LONG):
        stage.renew()
        at_random(stage, take, chance)
