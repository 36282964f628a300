"""People: one active person per number, found by what they type, locked at once, never shown unmasked."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from clients import registry
from idp import accounts, sessions, standard_claims
from idp.accounts import IdentifierTaken, WrongState
from idp.context import Context
from idp.errors import InvalidInput, NotFound
from idp.logs import mask_free_text
from idp.models import Account, AuditRecord, Contact, Grant, Identifier, Mention, SignOn
from idp.refusals import NumberRefused
from tests.support.context import citizen_number, events, new_person

NUMBER = "449901199001010013"


# --- register


def test_register_keeps_everything_sealed(context: Context, db: Session) -> None:
    account = new_person(
        context, db, name=" 买买提·例 ", number="449901 19900101 0013", phone="+86 174-0000-1628",
        email="Zhang@Example.Test", level=4, claims={"locale": "zh-CN", "address": {"country": "CN"}},
    )  # fmt: skip
    person = accounts.reveal(context, db, account)
    assert (person.name, person.number, person.type, person.level) == ("买买提·例", NUMBER, "cid", 4)
    assert (person.phone, person.phone_verified) == ("17400001628", False)
    assert person.email == "Zhang@Example.Test"
    assert person.claims == {"locale": "zh-CN", "address": {"country": "CN"}}
    rows = [account, *db.scalars(select(Identifier)), *db.scalars(select(Contact))]
    stored = b"".join(
        value.encode() if isinstance(value, str) else value
        for row in rows
        for value in vars(row).values()
        if isinstance(value, str | bytes)
    )
    for text in ("买买提", NUMBER, "17400001628", "Example.Test", "zh-CN"):
        assert text.encode() not in stored
    assert events(db) == ["account:person:created"]


def test_register_same_number_in_another_spelling_is_taken(context: Context, db: Session) -> None:
    old_form = "449901900101001"
    first = new_person(context, db, number=old_form)
    assert accounts.reveal(context, db, first).number.startswith("44990119900101001")
    with pytest.raises(IdentifierTaken) as caught:
        new_person(context, db, number=f" {accounts.reveal(context, db, first).number.lower()} ")
    assert (caught.value.code, caught.value.status) == ("identifier_taken", 409)


def test_register_same_digits_of_another_type_is_another_number(context: Context, db: Session) -> None:
    new_person(context, db, number="12345678", type="tw_permit")
    new_person(context, db, number="12345678", type="passport")
    with pytest.raises(IdentifierTaken):
        new_person(context, db, number="12345678", type="tw_permit")


def test_register_below_level_3_only_mentions(context: Context, db: Session) -> None:
    for level in (1, 2):
        squatter = new_person(context, db, number=NUMBER, level=level)
        assert accounts.reveal(context, db, squatter).number == NUMBER
    assert db.scalar(select(func.count()).select_from(Mention)) == 2
    assert db.scalar(select(func.count()).select_from(Identifier)) == 0
    assert accounts.find_for_login(context, db, NUMBER) is None
    rightful = new_person(context, db, number=NUMBER, level=3)
    found = accounts.find_for_login(context, db, NUMBER)
    assert found is not None
    assert found.id == rightful.id


def test_register_by_fifty_at_once_gives_one_person(context: Context) -> None:
    number = citizen_number()

    def attempt(_: int) -> str:
        try:
            with context.database.session() as session:
                return str(new_person(context, session, number=number).id)
        except IdentifierTaken:
            return "taken"

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(attempt, range(50)))
    with context.database.session(write=False) as session:
        holders = session.scalars(select(Identifier.account_id)).all()
        assert session.scalar(select(func.count()).select_from(Account)) == 1
    assert outcomes.count("taken") == 49
    assert [str(holder) for holder in holders] == [outcome for outcome in outcomes if outcome != "taken"]


@pytest.mark.parametrize("state", ["superseded", "contested", "sealed"])
def test_register_a_number_that_needs_a_review_is_refused(context: Context, db: Session, state: str) -> None:
    new_person(context, db, number=NUMBER)
    db.execute(update(Identifier).values(state=state))
    with pytest.raises(IdentifierTaken):
        new_person(context, db, number=NUMBER)


def test_register_a_revoked_number_is_free(context: Context, db: Session) -> None:
    new_person(context, db, number=NUMBER)
    db.execute(update(Identifier).values(state="revoked"))
    assert new_person(context, db, number=NUMBER).level == 3


REFUSED = [
    ({"number": "449901199001010014"}, "ID_CHECKSUM"),
    ({"number": "44990119900101001"}, "ID_LENGTH"),
    ({"number": "4499O1199001010013"}, "GUESS"),
    ({"number": ""}, "ID_EMPTY"),
    ({"number": "810000199001010013"}, "ID_CHECKSUM"),
    ({"number": "H1234567", "type": "hkmo_permit"}, "PERMIT_FORMAT"),
    ({"phone": "13800138000"}, "PHONE_PLACEHOLDER"),
    ({"phone": "12345"}, "PHONE_FORMAT"),
    ({"name": "  "}, "NAME_EMPTY"),
]


def test_register_what_cannot_be_is_refused_with_its_reason(context: Context, db: Session) -> None:
    for changes, reason in REFUSED:
        with pytest.raises(NumberRefused) as caught:
            new_person(context, db, **changes)
        assert caught.value.reason == reason
        assert caught.value.message.startswith(f"{reason}: ")
        assert "not accepted" not in caught.value.message
    assert db.scalar(select(func.count()).select_from(Account)) == 0


def test_register_bad_input_is_refused(context: Context, db: Session) -> None:
    for changes in ({"level": 0}, {"level": 6}, {"type": "uscc"}, {"email": "nobody"}, {"email": "a b@c.test"}):
        with pytest.raises(InvalidInput):
            new_person(context, db, **changes)


@pytest.mark.parametrize(
    ("claims", "named"),
    [
        ({"role": "admin"}, "role"),
        ({"sub": "1"}, "sub"),
        ({"name": "x"}, "name"),
        ({"email": "a@b.test"}, "email"),
        ({"given_name": 5}, "given_name"),
        ({"given_name": ""}, "given_name"),
        ({"birthdate": "1990-13-01"}, "birthdate"),
        ({"birthdate": "19900101"}, "birthdate"),
        ({"email_verified": "true"}, "email_verified"),
        ({"address": "Yunfu"}, "address"),
        ({"address": {"planet": "Earth"}}, "address"),
        ({"website": "javascript:alert(1)"}, "website"),
        ({"zoneinfo": "../etc"}, "zoneinfo"),
        ({"updated_at": True}, "updated_at"),
    ],
)
def test_unknown_or_mistyped_claim_is_refused_by_name(claims: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidInput, match=f"claim {named}"):
        standard_claims.check(claims)


def test_register_with_all_standard_claims(context: Context, db: Session) -> None:
    claims = {
        "given_name": "三", "family_name": "张", "middle_name": "x", "nickname": "老张", "preferred_username": "zs",
        "gender": "male", "birthdate": "0000-02-29", "zoneinfo": "Asia/Shanghai", "locale": "zh-CN",
        "website": "https://example.test/", "profile": "https://example.test/p", "picture": "https://example.test/i",
        "address": {"formatted": "云浮市\n罗定市"},
    }  # fmt: skip
    account = new_person(context, db, claims={**claims, "updated_at": 1_700_000_000})
    person = accounts.reveal(context, db, account)
    assert person.claims == claims
    assert person.updated_at == 1_700_000_000


# --- find


def test_find_by_every_spelling_of_the_number(context: Context, db: Session) -> None:
    account = new_person(context, db, number=NUMBER)
    for typed in (
        NUMBER,
        f" {NUMBER} ",
        "４４９９０１１９９００１０１００１３",
        "449901-19900101-0013",
        "449901900101001",
    ):
        found = accounts.find_for_login(context, db, typed)
        assert found is not None, typed
        assert found.id == account.id


@pytest.mark.parametrize(
    ("state", "found"),
    [("active", True), ("superseded", True), ("contested", False), ("revoked", False), ("sealed", False)],
)
def test_find_by_number_depends_on_its_state(context: Context, db: Session, state: str, found: bool) -> None:
    new_person(context, db, number=NUMBER)
    db.execute(update(Identifier).values(state=state))
    assert (accounts.find_for_login(context, db, NUMBER) is not None) is found


@pytest.mark.parametrize("typed", ["174 0000 1628", "ZHANG@example.test", "+8617400001628"])
def test_find_by_contact_needs_proof_and_one_holder(context: Context, db: Session, typed: str) -> None:
    contacts = {"phone": "17400001628", "email": "zhang@example.test"}
    proved = {"email_verified": True, "phone_number_verified": True}
    new_person(context, db, **contacts)
    assert accounts.find_for_login(context, db, typed) is None
    account = new_person(context, db, **contacts, claims=proved)
    found = accounts.find_for_login(context, db, typed)
    assert found is not None
    assert found.id == account.id
    new_person(context, db, **contacts, claims=proved)
    assert accounts.find_for_login(context, db, typed) is None


def test_find_text_that_means_two_people_finds_nobody(context: Context, db: Session) -> None:
    new_person(context, db, number="12345678", type="tw_permit")
    new_person(context, db, number="12345678", type="passport")
    assert accounts.find_for_login(context, db, "12345678") is None


def test_find_nonsense_finds_nobody(context: Context, db: Session) -> None:
    new_person(context, db)
    for typed in ("", " ", "%", "' or 1=1 --", "@", "\x00", "张三", "9" * 5_000, "a" * 100_000):
        assert accounts.find_for_login(context, db, typed) is None


def test_get_unknown_account_raises(db: Session) -> None:
    with pytest.raises(NotFound):
        accounts.get(db, uuid4())


# --- lock


def _sign_in(context: Context, db: Session, account: Account) -> None:
    """A session with a grant of offline access hanging on it."""
    session, _ = sessions.start(context, db, account, sessions.Proof(3, ("pwd",)))
    made = registry.create(context, db, metadata={"client_name": "x", "redirect_uris": ["https://rp.example.test/cb"]})
    now = int(time.time())
    db.add(
        Grant(
            client_id=made.client.id, account_id=account.id, session_id=session.id, scope="openid offline_access",
            code_hash=uuid4().bytes, code_expires_at=now, redirect_uri="x", auth_time=now, level=3, amr="pwd",
            channel="web_hall", created_at=now,
        )
    )  # fmt: skip
    db.flush()


def test_lock_ends_sessions_and_grants(context: Context, db: Session) -> None:
    account, other = new_person(context, db), new_person(context, db)
    _sign_in(context, db, account)
    _sign_in(context, db, other)
    accounts.lock(context, db, account, "stolen phone 13912345678 of 449901-19900101-0013")
    assert account.status == "locked"
    ended = db.execute(select(SignOn.account_id, SignOn.end_reason).where(SignOn.ended_at.is_not(None))).all()
    revoked = db.scalars(select(Grant.account_id).where(Grant.revoked_at.is_not(None))).all()
    assert [tuple(row) for row in ended] == [(account.id, "account_locked")]
    assert revoked == [account.id]
    detail = db.scalar(select(AuditRecord.detail).where(AuditRecord.event == "account:person:locked"))
    assert json.loads(str(detail))["reason"] == f"stolen phone {'*' * 11} of {'*' * 20}"


def test_lock_twice_or_unlock_what_is_active_is_refused(context: Context, db: Session) -> None:
    account = new_person(context, db)
    with pytest.raises(WrongState):
        accounts.unlock(context, db, account, "x")
    accounts.lock(context, db, account, "x")
    with pytest.raises(WrongState):
        accounts.lock(context, db, account, "x")
    accounts.unlock(context, db, account, "x")
    assert account.status == "active"


def test_describe_shows_nothing_whole(context: Context, db: Session) -> None:
    account = new_person(context, db, number=NUMBER, phone="17400001628", email="zhang@example.test")
    shown = json.dumps(accounts.describe(context, db, account), ensure_ascii=False)
    for text in ("张三", NUMBER, "19900101", "17400001628", "zhang@"):
        assert text not in shown
    assert "4****************3" in shown
    assert "174****1628" in shown


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("room 12345", "room 12345"),
        ("call 123456", "call ******"),
        ("number 44990119900101001X", "number ******************"),
        ("139 1234 5678", "*************"),
        ("４４９９０１", "******"),
    ],
)
def test_free_text_loses_its_numbers(text: str, masked: str) -> None:
    assert mask_free_text(text) == masked
