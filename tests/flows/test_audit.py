"""Each security act of a login story leaves one record, written with the act, and no record tells a secret."""

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from idp.models import AuditRecord
from tests.support.citizen import Citizen
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, sign_in


def records_of(server: YimenServer, account: str) -> list[AuditRecord]:
    engine = create_engine(server.environment["YIMEN_DATABASE_URL"])
    with Session(engine) as session:
        found = session.scalars(select(AuditRecord).order_by(AuditRecord.at, AuditRecord.id)).all()
        session.expunge_all()
    engine.dispose()
    return [record for record in found if str(record.account_id) == account]


def test_story_leaves_one_record_for_each_act(server: YimenServer, new_citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(server.url)
    answer = sign_in(visitor, rp.authorize_url(), new_citizen.number, new_citizen.password)
    tokens = rp.redeem(answer["code"]).json()
    renewed = rp.refresh(tokens["refresh_token"]).json()
    rp.refresh(tokens["refresh_token"])
    rp.post("/revoke", {"token": renewed["access_token"]})
    rp.redeem(answer["code"])
    visitor.walk("/logout")
    visitor.submit("logout-form", "logout-confirm")
    found = records_of(server, new_citizen.account)
    events = [record.event for record in found]
    for event in (
        "person:created",
        "session:login:started",
        "consent:scope:granted",
        "grant:code:issued",
        "grant:code:redeemed",
        "grant:token:refreshed",
        "grant:token:repeated",
        "grant:token:revoked",
        "grant:code_replay:revoked",
        "session:logout:ended",
    ):
        assert sum(name.endswith(event) for name in events) == 1, (event, events)
    for record in found:
        told = f"{record.actor} {record.detail} {record.event}"
        for secret in (new_citizen.number, new_citizen.name, answer["code"], tokens["access_token"]):
            assert secret not in told
        assert record.request_id
        assert record.channel


def test_failed_login_is_recorded_without_what_was_typed(server: YimenServer, new_citizen: Citizen) -> None:
    visitor = Visitor(server.url)
    visitor.walk("/login")
    visitor.submit("login-form", identifier=new_citizen.number, password="wrong password")
    found = [record for record in records_of(server, new_citizen.account) if record.event == "session:login:refused"]
    assert len(found) == 1
    assert (found[0].result, found[0].address) == ("refused", "127.0.0.1")
