"""P-1: whatever may be used once is used once, though fifty clients reach all workers at the same moment.

Each function of ONE_TIME makes a fresh one-time thing, lets the clients loose on it and says what came of it. A new
kind of thing is one function and one line in the table.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest

from idp.http.response import SESSION_COOKIE
from tests.races.stage import AFTER_LOGOUT, Stage, codes_of
from tests.support.citizen import PASSWORD
from tests.support.wire import Answer

CLIENTS = 50
SHORT, LONG = 4, 200


class Outcome(NamedTuple):
    """How often the thing was used, and how those were answered who came too late."""

    used: int
    late: "Counter[tuple[int, str]]"


def late(answers: list[Answer], won: Callable[[Answer], bool]) -> "Counter[tuple[int, str]]":
    return Counter((answer.status, answer.error) for answer in answers if not won(answer))


def authorization_code(stage: Stage) -> Outcome:
    code = stage.code()
    answers = stage.barrier.release([stage.redeem(code)] * CLIENTS)
    return Outcome([answer.status for answer in answers].count(200), late(answers, lambda answer: answer.status == 200))


def code_with_wrong_verifiers(stage: Stage) -> Outcome:
    """Half of the clients do not know the verifier: they may burn the code, and never profit from it."""
    code = stage.code()
    right, wrong = stage.redeem(code), stage.redeem(code, "w" * 43)
    answers = stage.barrier.release([right, wrong] * (CLIENTS // 2))
    assert all(answer.status == 400 for answer in answers[1::2])
    assert stage.ask(right).error == "invalid_grant"
    used = [answer.status for answer in answers].count(200)
    return Outcome(max(used, 1), late(answers, lambda answer: answer.status == 200))


def refresh_generation(stage: Stage) -> Outcome:
    """All who come within ten seconds get the same child: one generation, however many ask."""
    parent = stage.tokens()["refresh_token"]
    answers = stage.barrier.release([stage.refresh(parent)] * CLIENTS)
    children = {answer.json["refresh_token"] for answer in answers if answer.status == 200}
    grandchild = stage.ask(stage.refresh(next(iter(children))))
    assert grandchild.status == 200
    assert stage.ask(stage.refresh(parent)).error == "invalid_grant", "a grandparent is theft"
    assert stage.ask(stage.refresh(grandchild.json["refresh_token"])).error == "invalid_grant"
    return Outcome(len(children), late(answers, lambda answer: answer.status == 200))


def revoked_refresh_token(stage: Stage) -> Outcome:
    """Refreshed and revoked at once: nothing of the family is left."""
    parent = stage.tokens()["refresh_token"]
    answers = stage.barrier.release([stage.refresh(parent), stage.revoke(parent)] * (CLIENTS // 2))
    assert all(answer.status == 200 for answer in answers[1::2])
    alive = [answer.json["refresh_token"] for answer in answers[::2] if answer.status == 200]
    assert len(set(alive)) <= 1
    for token in {*alive, parent}:
        assert stage.ask(stage.refresh(token)).error == "invalid_grant"
    return Outcome(1, late(answers[::2], lambda answer: answer.status == 200))


def paused_interaction(stage: Stage) -> Outcome:
    """One code for one paused request."""
    asked = stage.pause(prompt="consent")
    stage.ask(stage.post("/consent", asked, decision="approve", version=stage.terms))
    answers = stage.barrier.release([stage.get("/authorize/continue", interaction=asked)] * CLIENTS)
    return Outcome(len(codes_of(answers)), late(answers, lambda answer: "code" in answer.query))


def consent_form(stage: Stage) -> Outcome:
    """The form is sent again and again while the request goes on: a request that was used up never comes back."""
    asked = stage.pause(prompt="consent")
    form, go_on = (
        stage.post("/consent", asked, decision="approve", version=stage.terms),
        stage.get("/authorize/continue", interaction=asked),
    )
    stage.ask(form)
    answers = stage.barrier.release([form, go_on] * (CLIENTS // 2))
    answers += stage.barrier.release([go_on] * CLIENTS)
    return Outcome(len(codes_of(answers)), late(answers, lambda answer: answer.status == 303))


def login_form(stage: Stage) -> Outcome:
    """Four sign-ins for one paused request: each begins a session, all together get one code."""
    del stage.cookies[SESSION_COOKIE]
    asked = stage.pause()
    form = stage.post("/login", asked, identifier=stage.number, password=PASSWORD)
    logins = stage.barrier.release([form] * 4)
    handles = {answer.cookies[SESSION_COOKIE] for answer in logins}
    assert len(handles) == 4
    go_on = []
    for handle in handles:
        stage.cookies[SESSION_COOKIE] = handle
        go_on.append(stage.get("/authorize/continue", interaction=asked))
    answers = stage.barrier.release(go_on * (CLIENTS // 4))
    return Outcome(len(codes_of(answers)), late(answers, lambda answer: "code" in answer.query))


def sign_out(stage: Stage) -> Outcome:
    stage.code()
    answers = stage.barrier.release([stage.post("/logout", decision="logout")] * CLIENTS)
    return Outcome(stage.events("session:logout:ended"), late(answers, lambda answer: answer.status == 303))


def sign_out_by_client(stage: Stage) -> Outcome:
    hint = stage.tokens()["id_token"]
    leave = stage.get("/logout", id_token_hint=hint, post_logout_redirect_uri=AFTER_LOGOUT)
    answers = stage.barrier.release([leave] * CLIENTS)
    assert {answer.headers["location"] for answer in answers} == {AFTER_LOGOUT}
    return Outcome(stage.events("session:logout:ended"), late(answers, lambda answer: answer.status == 303))


def session_ended_by_person(stage: Stage) -> Outcome:
    mine = dict(stage.cookies)
    stage.sign_in()
    other = str(stage.session)
    stage.cookies = mine
    answers = stage.barrier.release([stage.post("/account/sessions", session=other)] * CLIENTS)
    return Outcome(stage.events("session:logout:ended"), late(answers, lambda answer: answer.status == 303))


NOBODY: set[tuple[int, str]] = set()
INVALID_GRANT = {(400, "invalid_grant")}
EXPIRED = {(400, "")}  # a page: the request was used up
ONE_TIME: list[tuple[Callable[[Stage], Outcome], set[tuple[int, str]]]] = [  # and how latecomers may be answered
    (authorization_code, INVALID_GRANT),
    (code_with_wrong_verifiers, INVALID_GRANT),
    (refresh_generation, INVALID_GRANT),
    (revoked_refresh_token, INVALID_GRANT),
    (paused_interaction, EXPIRED),
    (consent_form, EXPIRED),
    (login_form, EXPIRED | {(303, "")}),  # asked to sign in: it became another session's request
    (sign_out, NOBODY),
    (sign_out_by_client, NOBODY),
    (session_ended_by_person, NOBODY),
]
THINGS = pytest.mark.parametrize(("race", "allowed"), ONE_TIME, ids=[race.__name__ for race, _ in ONE_TIME])


def run(stage: Stage, race: Callable[[Stage], Outcome], allowed: set[tuple[int, str]], times: int) -> None:
    for _ in range(times):
        stage.renew()
        outcome = race(stage)
        assert outcome.used == 1
        assert set(outcome.late) <= allowed


@THINGS
def test_one_time_thing_is_used_once(
    stage: Stage, race: Callable[[Stage], Outcome], allowed: set[tuple[int, str]]
) -> None:
    run(stage, race, allowed, SHORT)


@pytest.mark.long
@THINGS
def test_one_time_thing_is_used_once_in_two_hundred_runs(
    stage: Stage, race: Callable[[Stage], Outcome], allowed: set[tuple[int, str]]
) -> None:
    run(stage, race, allowed, LONG)
