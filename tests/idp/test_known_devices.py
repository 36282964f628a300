"""Known devices: remembered for a few people, forgotten after a new password, worth nothing when forged."""

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from idp import known_devices
from idp.context import Context
from idp.known_devices import LIFETIME_SECONDS, PEOPLE
from tests.support.context import context

__all__ = ["context"]


def test_device_is_known_after_a_sign_in_and_stays_the_same(context: Context) -> None:
    person = uuid4()
    first = known_devices.remember(context, "", person)
    again = known_devices.remember(context, first, person)
    device = known_devices.find(context, first, person, 0)
    assert isinstance(device, UUID)
    assert known_devices.find(context, again, person, 0) == device


def test_device_is_a_stranger_to_others_and_after_a_new_password(context: Context) -> None:
    person = uuid4()
    cookie = known_devices.remember(context, "", person)
    assert known_devices.find(context, cookie, uuid4(), 0) is None
    assert known_devices.find(context, cookie, person, context.now() + 1) is None


def test_device_knows_the_last_few_people(context: Context) -> None:
    people, cookie = [uuid4() for _ in range(PEOPLE + 1)], ""
    for person in people:
        cookie = known_devices.remember(context, cookie, person)
    found = [known_devices.find(context, cookie, person, 0) is not None for person in people]
    assert found == [False, *[True] * PEOPLE]
    assert len(cookie) < 1_024


def test_old_device_is_a_stranger(context: Context) -> None:
    person = uuid4()
    cookie = known_devices.remember(context, "", person)
    context.database._offset += LIFETIME_SECONDS + 1
    assert known_devices.find(context, cookie, person, 0) is None


def test_forged_cookie_counts_for_nothing(context: Context) -> None:
    person = uuid4()
    good = known_devices.remember(context, "", person)

    @given(
        st.one_of(st.text(max_size=300), st.integers(0, len(good) - 1).map(lambda i: good[:i] + "A" + good[i + 1 :]))
    )
    def forged(cookie: str) -> None:
        found = known_devices.find(context, cookie, person, 0)
        assert found is None or cookie == good

    forged()
