"""Organizations and mandates: one per credit code, one legal representative, and who may act when."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from idp import accounts, mandates, organizations
from idp.context import Context
from idp.errors import Conflict, InvalidInput, NotFound
from idp.mandates import RepresentativeExists
from idp.models import Mandate, Organization
from idp.organizations import OrganizationExists
from idp.refusals import NumberRefused
from tests.support.context import credit_code, events, new_organization, new_person

DAY = 86_400


def test_register_with_its_legal_representative(context: Context, db: Session) -> None:
    account, code = new_person(context, db), credit_code()
    made = new_organization(context, db, uscc=f" {code.lower()} ", legal_representative=account.id)
    found = organizations.find_by_uscc(context, db, code)
    assert found is not None
    assert found.id == made.id
    described = organizations.describe(context, db, made)
    assert (described["uscc"], described["name"]) == (code, "示例科技有限公司")
    assert [(held["account"], held["role"], held["source"]) for held in described["mandates"]] == [
        (str(account.id), "legal_representative", "command")
    ]
    assert events(db)[-2:] == ["organization:registration:created", "mandate:holder:granted"]
    assert code.encode() not in made.sealed_uscc


def test_register_same_code_by_twenty_at_once_gives_one(context: Context) -> None:
    code = credit_code()

    def attempt(_: int) -> bool:
        try:
            with context.database.session() as session:
                new_organization(context, session, uscc=code)
        except OrganizationExists:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 1
    with context.database.session(write=False) as session:
        assert session.scalar(select(func.count()).select_from(Organization)) == 1


def test_register_what_cannot_be_is_refused(context: Context, db: Session) -> None:
    for changes, reason in (
        ({"uscc": "91449901MA99000280"}, "USCC_CHECKSUM"),
        ({"uscc": "91449901"}, "USCC_LENGTH"),
        ({"uscc": "91449901MV99000288"}, "USCC_CHARSET"),
        ({"uscc": ""}, "USCC_EMPTY"),
        ({"name": " "}, "NAME_EMPTY"),
        ({"name": "公" * 201}, "NAME_LENGTH"),
    ):
        with pytest.raises(NumberRefused) as caught:
            new_organization(context, db, **changes)
        assert caught.value.reason == reason


def test_register_for_an_unknown_or_locked_person_is_refused(context: Context, db: Session) -> None:
    with pytest.raises(NotFound):
        new_organization(context, db, legal_representative=uuid4())
    locked = new_person(context, db)
    accounts.lock(context, db, locked, "x")
    with pytest.raises(Conflict):
        new_organization(context, db, legal_representative=locked.id)


def test_second_legal_representative_is_refused(context: Context, db: Session) -> None:
    first, second = new_person(context, db), new_person(context, db)
    made = new_organization(context, db, legal_representative=first.id)
    with pytest.raises(RepresentativeExists):
        mandates.grant(context, db, made, second, role="legal_representative", source="command")
    assert len(mandates.in_force(db, first.id, context.now())) == 1
    assert mandates.in_force(db, second.id, context.now()) == []


def test_mandate_is_in_force_between_its_times(context: Context, db: Session) -> None:
    account, made, now = new_person(context, db), new_organization(context, db), context.now()
    mandate = mandates.grant(
        context, db, made, account, role="agent", source="command", scope=["gjj", "sb"],
        valid_from=now + DAY, valid_until=now + 3 * DAY,
    )  # fmt: skip
    assert mandate.scope == "gjj sb"
    at = {offset: mandates.get_in_force(db, mandate.id, account.id, now + offset * DAY) for offset in range(5)}
    assert [offset for offset, found in at.items() if found is not None] == [1, 2]
    assert mandates.get_in_force(db, mandate.id, uuid4(), now + DAY) is None
    with pytest.raises(InvalidInput):
        mandates.grant(context, db, made, account, role="agent", source="command", valid_until=now)
    with pytest.raises(InvalidInput):
        mandates.grant(context, db, made, account, role="boss", source="command")


@pytest.mark.parametrize("spoil", ["mandate", "organization"])
def test_mandate_ends_with_its_state_or_its_organization(context: Context, db: Session, spoil: str) -> None:
    account, made = new_person(context, db), new_organization(context, db)
    mandates.grant(context, db, made, account, role="agent", source="command")
    if spoil == "mandate":
        db.execute(update(Mandate).values(state="revoked"))
    else:
        db.execute(update(Organization).values(status="suspended"))
    assert mandates.in_force(db, account.id, context.now()) == []
    assert mandates.choices(context, db, account.id) == []


def test_choices_show_what_ran_out_lately_last(context: Context, db: Session) -> None:
    account, now = new_person(context, db), context.now()
    ends = {"old": now - 100 * DAY, "late": now - DAY, "living": now + DAY}
    for name, end in ends.items():
        made = new_organization(context, db, name=name)
        mandates.grant(
            context, db, made, account, role="agent", source="command", valid_from=now - 200 * DAY, valid_until=end
        )
    choices = mandates.choices(context, db, account.id)
    assert [(choice.name, choice.expired) for choice in choices] == [("living", False), ("late", True)]
    assert choices[0].valid_until == now + DAY
    assert isinstance(choices[0].mandate_id, UUID)
