"""The sign-in history tells failures in a row as one line, whatever order one second's records come in."""

from itertools import permutations
from uuid import uuid4

from idp.models import AuditRecord
from idp.pages.history import _place_of, _runs

STARTED, REFUSED, SET = "session:login:started", "session:login:refused", "account:password:set"


def record(event: str, at: int, address: str = "198.51.100.7") -> AuditRecord:
    result = "refused" if event == REFUSED else "done"
    return AuditRecord(id=uuid4(), at=at, event=event, result=result, channel="web_hall", address=address)


def test_failures_of_one_second_stand_between_what_came_before_and_the_sign_in() -> None:
    given = [record(SET, 100), record(REFUSED, 100), record(REFUSED, 100), record(REFUSED, 101), record(STARTED, 101)]
    for order in permutations(given):
        runs = [(run[0].event, len(run)) for run in _runs(sorted(order, key=_place_of))]
        assert runs == [(STARTED, 1), (REFUSED, 3), (SET, 1)]


def test_failures_from_two_places_are_two_lines() -> None:
    given = [record(REFUSED, 102), record(REFUSED, 101, "203.0.113.9"), record(REFUSED, 100)]
    assert [len(run) for run in _runs(sorted(given, key=_place_of))] == [1, 1, 1]
