"""Audit: each security act is a row, written by the same commit as the act.

Events are named subject:object:action. A record never holds a number, a name, a token or a secret.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from idp.chain.links import mark
from idp.context import Context
from idp.models import AuditRecord
from idp.statements import Change, Done

RECORD = Change(
    "audit",
    wanted={
        "audit_id": "uuid",
        "audit_at": "bigint",
        "audit_event": "text",
        "audit_result": "text",
        "audit_actor": "text",
        "audit_account": "uuid",
        "audit_client": "text",
        "audit_channel": "text",
        "audit_address": "text",
        "audit_request": "text",
        "audit_detail": "text",
        "audit_mark": "bytea",
    },
    row=Done,
    key="audit_id",
    sql="""
    insert into audit (id, at, event, result, actor, account_id, client_id, channel, address, request_id, detail,
                       mark)
    select audit_id, audit_at, audit_event, audit_result, audit_actor, audit_account, audit_client, audit_channel,
           audit_address, audit_request, audit_detail, audit_mark
      from wanted {when} where true on conflict (id) do nothing returning id as audit_id""",
)


def values(
    context: Context,
    event: str,
    *,
    account: UUID | None = None,
    client: str | None = None,
    actor: str | None = None,
    result: str = "done",
    detail: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The values of RECORD for a change that names it as an effect, with the mark that this process wrote them."""
    given = {
        "audit_id": uuid4(),
        "audit_at": context.now(),
        "audit_event": event,
        "audit_result": result,
        "audit_actor": actor or context.actor or (str(account) if account else client),
        "audit_account": account,
        "audit_client": client,
        "audit_channel": context.channel,
        "audit_address": context.address,
        "audit_request": context.request_id,
        "audit_detail": json.dumps(detail, sort_keys=True) if detail else None,
    }
    return {**given, "audit_mark": mark(context.vault, tuple(given.values()))}


def record(
    context: Context,
    session: Session,
    event: str,
    *,
    account: UUID | None = None,
    client: str | None = None,
    actor: str | None = None,
    result: str = "done",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write a record in the transaction of `session`."""
    given = values(context, event, account=account, client=client, actor=actor, result=result, detail=detail)
    named = {name.removeprefix("audit_"): value for name, value in given.items()}
    named["account_id"], named["client_id"] = named.pop("account"), named.pop("client")
    named["request_id"] = named.pop("request")
    session.add(AuditRecord(**named))
