"""Load and commit of the hot path: every statement of the protocol endpoints, each state change exactly once.

The same statements serve pages, through `Statement.run` on their session.
"""

import functools
from typing import Any, NamedTuple
from uuid import UUID

from idp import audit
from idp.statements import Change, Done, Gated, Load


class ClientRow(NamedTuple):
    id: str
    version: int
    status: str
    profile: str
    sector: str
    metadata_json: str
    secret_hash: bytes | None
    secret_expires_at: int | None
    identity_number_basis: int
    permissions: int = 0  # a bit for each of profiles.PERMISSIONS


CLIENT = Load(
    "client",
    wanted={"client": "text"},
    row=ClientRow,
    sql="""
    select {ordinal}, clients.id, clients.version, clients.status, clients.profile, clients.sector,
           clients.metadata_json, client_secrets.hash, client_secrets.expires_at,
           (select count(*) from legal_bases
             where legal_bases.client_id = clients.id and legal_bases.scope = 'identity_number'),
           (select coalesce(sum(case permission when 'introspection' then 1 else 2 end), 0) from client_permissions
             where client_permissions.client_id = clients.id)
      from wanted join clients on clients.id = wanted.client
      left join client_secrets on client_secrets.client_id = clients.id""",
)


class SessionRow(NamedTuple):
    id: UUID
    account_id: UUID
    auth_time: int
    level: int
    amr: str
    last_seen_at: int
    expires_at: int
    ended_at: int | None
    account_status: str
    account_level: int


SESSION = Load(
    "session",
    wanted={"handle": "bytea"},
    row=SessionRow,
    sql="""
    select {ordinal}, sessions.id, sessions.account_id, sessions.auth_time, sessions.level, sessions.amr,
           sessions.last_seen_at, sessions.expires_at, sessions.ended_at, accounts.status, accounts.level
      from wanted join sessions on sessions.handle_hash = wanted.handle
      join accounts on accounts.id = sessions.account_id""",
)

TOUCH = Change(
    "session touched",
    wanted={"session": "uuid", "seen": "bigint"},
    row=Done,
    sql="""
    update sessions set last_seen_at = wanted.seen from wanted
     where sessions.id = wanted.session and sessions.ended_at is null and sessions.last_seen_at < wanted.seen
    returning {ordinal}""",
)


class ConsentRow(NamedTuple):
    scope: str
    expires_at: int  # 0 once withdrawn
    version: bytes | None = None  # of the terms that were shown


_CONSENT_END = "case when consents.withdrawn_at >= consents.granted_at then 0 else consents.expires_at end"

CONSENT = Load(
    "consent",
    wanted={"account": "uuid", "client": "text"},
    row=ConsentRow,
    sql=f"""
    select {{ordinal}}, consents.scope,
           {_CONSENT_END}, consents.version
      from wanted join consents
        on consents.account_id = wanted.account and consents.client_id = wanted.client""",
)


class MandateRow(NamedTuple):
    id: UUID


MANDATES = Load(
    "mandates in force",
    wanted={"account": "uuid", "at": "bigint"},
    row=MandateRow,
    sql="""
    select {ordinal}, mandates.id from wanted
      join mandates on mandates.account_id = wanted.account
      join organizations on organizations.id = mandates.organization_id
     where mandates.state = 'active' and organizations.status = 'active' and mandates.valid_from <= wanted.at
       and (mandates.valid_until is null or mandates.valid_until > wanted.at)""",
)


class LastActingRow(NamedTuple):
    mandate_id: UUID | None


LAST_ACTING = Load(
    "capacity last chosen in this session at this client",
    wanted={"session": "uuid", "client": "text", "pattern": "text"},
    row=LastActingRow,
    sql="""
    select {ordinal}, grants.mandate_id from wanted
      join grants on grants.session_id = wanted.session and grants.client_id = wanted.client
     where ' ' || grants.scope || ' ' like wanted.pattern and grants.revoked_at is null
     order by grants.created_at desc, grants.id""",
)

ISSUE_CODE = Change(
    "code issued",
    wanted={
        "id": "uuid",
        "client_id": "text",
        "account_id": "uuid",
        "session_id": "uuid",
        "scope": "text",
        "code_hash": "bytea",
        "code_expires_at": "bigint",
        "redirect_uri": "text",
        "code_challenge": "text",
        "nonce": "text",
        "auth_time": "bigint",
        "level": "bigint",
        "amr": "text",
        "channel": "text",
        "mandate_id": "uuid",
        "claims": "text",
        "created_at": "bigint",
    },
    row=Done,
    then=(audit.RECORD,),
    sql="""
    insert into grants (id, client_id, account_id, session_id, scope, code_hash, code_expires_at, redirect_uri,
                        code_challenge, nonce, auth_time, level, amr, channel, mandate_id, claims,
                        generation, created_at)
    select wanted.id, wanted.client_id, wanted.account_id, wanted.session_id, wanted.scope, wanted.code_hash,
           wanted.code_expires_at, wanted.redirect_uri, wanted.code_challenge, wanted.nonce, wanted.auth_time,
           wanted.level, wanted.amr, wanted.channel, wanted.mandate_id, wanted.claims, 0, wanted.created_at
      from wanted
     where exists (select 1 from accounts where accounts.id = wanted.account_id and accounts.status = 'active')
       and exists (select 1 from sessions
                    where sessions.id = wanted.session_id and sessions.ended_at is null {share})
       and exists (select 1 from consents
                    where consents.account_id = wanted.account_id and consents.client_id = wanted.client_id
                      and consents.expires_at > wanted.created_at
                      and (consents.withdrawn_at is null or consents.withdrawn_at < consents.granted_at) {share})
    returning id""",
)


class GrantRow(NamedTuple):
    id: UUID
    client_id: str
    account_id: UUID
    session_id: UUID
    scope: str
    code_expires_at: int
    code_spent_at: int | None
    redirect_uri: str
    code_challenge: str | None
    nonce: str | None
    auth_time: int
    level: int
    amr: str
    channel: str
    mandate_id: UUID | None
    claims: str | None  # named one by one in the request, see requested.py
    generation: int
    rotated_at: int | None
    refresh_expires_at: int | None
    revoked_at: int | None
    account_status: str
    session_ended_at: int | None
    client_status: str
    token_revoked: int
    consent_expires_at: int | None = None  # 0 once withdrawn, also for a grant that was made beside the withdrawal


_GRANT_COLUMNS = """
    grants.id, grants.client_id, grants.account_id, grants.session_id, grants.scope, grants.code_expires_at,
    grants.code_spent_at, grants.redirect_uri, grants.code_challenge, grants.nonce, grants.auth_time, grants.level,
    grants.amr, grants.channel, grants.mandate_id, grants.claims, grants.generation, grants.rotated_at,
    grants.refresh_expires_at, grants.revoked_at, accounts.status, sessions.ended_at, clients.status"""
_GRANT_JOINS = """
      join clients on clients.id = grants.client_id
      join accounts on accounts.id = grants.account_id
      join sessions on sessions.id = grants.session_id
      left join consents on consents.account_id = grants.account_id and consents.client_id = grants.client_id"""

GRANT_BY_CODE = Load(
    "grant by code",
    wanted={"code": "bytea"},
    row=GrantRow,
    sql=f"""
    select {{ordinal}}, {_GRANT_COLUMNS}, 0, {_CONSENT_END}
      from wanted join grants on grants.code_hash = wanted.code {_GRANT_JOINS}""",
)

GRANT_BY_TOKEN = Load(
    "grant by token",
    wanted={"grant_id": "uuid", "token": "uuid"},
    row=GrantRow,
    sql=f"""
    select {{ordinal}}, {_GRANT_COLUMNS},
           (select count(*) from revoked_tokens where revoked_tokens.token_id = wanted.token),
           {_CONSENT_END}
      from wanted join grants on grants.id = wanted.grant_id {_GRANT_JOINS}""",
)

SPEND_CODE = Change(
    "code spent",
    wanted={"id": "uuid", "at": "bigint", "generation": "bigint", "refresh_expires_at": "bigint"},
    row=Done,
    then=(audit.RECORD,),
    sql="""
    update grants
       set code_spent_at = wanted.at, generation = wanted.generation,
           refresh_expires_at = wanted.refresh_expires_at
      from wanted
     where grants.id = wanted.id and grants.code_spent_at is null and grants.revoked_at is null
       and grants.code_expires_at > wanted.at
       and exists (select 1 from accounts where accounts.id = grants.account_id and accounts.status = 'active')
       and (wanted.refresh_expires_at is not null
            or exists (select 1 from sessions
                        where sessions.id = grants.session_id and sessions.ended_at is null {share}))
    returning {ordinal}""",
)

ROTATE = Change(
    "refresh token rotated",
    wanted={"id": "uuid", "at": "bigint", "old": "bigint"},
    row=Done,
    then=(audit.RECORD,),
    sql="""
    update grants set generation = wanted.old + 1, rotated_at = wanted.at
      from wanted
     where grants.id = wanted.id and grants.generation = wanted.old and grants.revoked_at is null
       and grants.refresh_expires_at > wanted.at
       and exists (select 1 from accounts where accounts.id = grants.account_id and accounts.status = 'active')
    returning {ordinal}""",
)

CONFIRM = Change(
    "child given again",
    wanted={"id": "uuid", "generation": "bigint"},
    row=Done,
    then=(audit.RECORD,),
    sql="""
    select {ordinal} from wanted join grants
        on grants.id = wanted.id and grants.generation = wanted.generation and grants.revoked_at is null {share}""",
)

REVOKE_GRANT = Change(
    "grant revoked",
    wanted={"id": "uuid", "at": "bigint", "reason": "text"},
    row=Done,
    then=(audit.RECORD,),
    sql="""
    update grants set revoked_at = wanted.at, revoke_reason = wanted.reason from wanted
     where grants.id = wanted.id and grants.revoked_at is null
    returning {ordinal}""",
)

BURN_CODE = Change(
    "code burnt",
    wanted={"id": "uuid", "at": "bigint"},
    row=Done,
    then=(audit.RECORD,),
    sql="""
    update grants set code_spent_at = wanted.at, revoked_at = wanted.at, revoke_reason = 'code_verifier'
      from wanted
     where grants.id = wanted.id and grants.code_spent_at is null
    returning {ordinal}""",
)

REVOKE_TOKEN = Change(
    "access token revoked",
    wanted={"token": "uuid", "grant_id": "uuid", "expires_at": "bigint"},
    row=Done,
    then=(audit.RECORD,),
    key="token",
    sql="""
    insert into revoked_tokens (token_id, grant_id, expires_at)
    select wanted.token, wanted.grant_id, wanted.expires_at from wanted where true
    on conflict (token_id) do nothing returning token_id as token""",
)


class ServiceRow(NamedTuple):
    client_status: str
    token_revoked: int


SERVICE_TOKEN = Load(
    "what a client's own token hangs on",
    wanted={"client": "text", "token": "uuid"},
    row=ServiceRow,
    sql="""
    select {ordinal}, clients.status,
           (select count(*) from revoked_tokens where revoked_tokens.token_id = wanted.token)
      from wanted join clients on clients.id = wanted.client""",
)

SPEND = Change(
    "spent",
    wanted={"mark_key": "bytea", "mark_use": "uuid", "mark_expires_at": "bigint"},
    row=Done,
    key="mark_use",
    sql="""
    insert into spent (key, use_id, expires_at)
    select wanted.mark_key, wanted.mark_use, wanted.mark_expires_at from wanted where true order by wanted.mark_key
    on conflict (key) do nothing returning use_id as mark_use""",
)


@functools.cache
def once(change: Change[Any]) -> Gated:
    """The change for a request that also spends a mark: of several requests with one mark one is heard."""
    return Gated(SPEND, change)


class KeySetRow(NamedTuple):
    keys_json: str | None
    fetched_at: int | None
    fresh_until: int
    tried_at: int
    fetch_id: UUID | None


KEY_SET = Load(
    "keys fetched from a client",
    wanted={"client": "text"},
    row=KeySetRow,
    sql="""
    select {ordinal}, client_key_sets.keys_json, client_key_sets.fetched_at, client_key_sets.fresh_until,
           client_key_sets.tried_at, client_key_sets.fetch_id
      from wanted join client_key_sets on client_key_sets.client_id = wanted.client""",
)

CLAIM_FETCH = Change(
    "fetch of keys begun",
    wanted={
        "client": "text",
        "uri": "text",
        "attempt": "uuid",
        "at": "bigint",
        "tried": "bigint",
        "searched": "bigint",
    },
    row=Done,
    sql="""
    update client_key_sets
       set tried_at = wanted.at, fetch_id = wanted.attempt,
           searched_at = case when wanted.searched is null then client_key_sets.searched_at else wanted.at end
      from wanted
     where client_key_sets.client_id = wanted.client and client_key_sets.uri = wanted.uri
       and (client_key_sets.fetch_id is null or client_key_sets.tried_at <= wanted.tried)
       and (wanted.searched is not null or client_key_sets.tried_at <= wanted.tried)
       and (wanted.searched is null or client_key_sets.searched_at <= wanted.searched)
    returning {ordinal}""",
)

KEEP_KEYS = Change(
    "keys of a client fetched",
    wanted={
        "client": "text",
        "attempt": "uuid",
        "keys": "text",
        "at": "bigint",
        "fresh_until": "bigint",
        "result": "text",
    },
    row=Done,
    sql="""
    update client_key_sets
       set keys_json = wanted.keys, fetched_at = wanted.at, fresh_until = wanted.fresh_until, fetch_id = null,
           result = wanted.result
      from wanted where client_key_sets.client_id = wanted.client and client_key_sets.fetch_id = wanted.attempt
    returning {ordinal}""",
)

GIVE_UP_FETCH = Change(
    "fetch of keys failed",
    wanted={"client": "text", "attempt": "uuid", "result": "text"},
    row=Done,
    sql="""
    update client_key_sets set fetch_id = null, result = wanted.result
      from wanted where client_key_sets.client_id = wanted.client and client_key_sets.fetch_id = wanted.attempt
    returning {ordinal}""",
)


class SubjectRow(NamedTuple):
    account_id: UUID
    sealed_name: bytes
    sealed_claims: bytes | None
    level: int
    updated_at: int
    kind: str | None
    type: str | None
    row_id: UUID | None
    sealed_value: bytes | None
    verified_at: int | None


# Each branch joins `wanted` itself: PostgreSQL would read the whole tables to join them afterwards.
SUBJECT = Load(
    "what is known about a person",
    wanted={"account": "uuid"},
    row=SubjectRow,
    sql="""
    select {ordinal}, accounts.id, accounts.sealed_name, accounts.sealed_claims, accounts.level,
           accounts.updated_at, facts.kind, facts.type, facts.id, facts.sealed, facts.verified_at
      from wanted join accounts on accounts.id = wanted.account
      left join (select {ordinal} as place, 'identifiers' as kind, type, id, sealed_number as sealed, created_at,
                   created_at as verified_at
              from wanted join identifiers on account_id = wanted.account where state = 'active'
            union all
            select {ordinal}, 'contacts', type, id, sealed_value, created_at, verified_at
              from wanted join contacts on account_id = wanted.account
            union all
            select {ordinal}, 'mentions', type, id, sealed_number, created_at, created_at
              from wanted join mentions on account_id = wanted.account) as facts
        on facts.place = {ordinal}
     order by case when facts.verified_at is null then 1 else 0 end, facts.created_at, facts.id""",
)


class ActingRow(NamedTuple):
    mandate_id: UUID
    role: str
    scope: str
    valid_until: int | None
    organization_id: UUID
    sealed_uscc: bytes
    sealed_name: bytes


ACTING = Load(
    "whom a mandate lets act for",
    wanted={"mandate": "uuid", "account": "uuid", "at": "bigint"},
    row=ActingRow,
    sql="""
    select {ordinal}, mandates.id, mandates.role, mandates.scope, mandates.valid_until, organizations.id,
           organizations.sealed_uscc, organizations.sealed_name
      from wanted join mandates on mandates.id = wanted.mandate and mandates.account_id = wanted.account
      join organizations on organizations.id = mandates.organization_id
     where mandates.state = 'active' and organizations.status = 'active' and mandates.valid_from <= wanted.at
       and (mandates.valid_until is null or mandates.valid_until > wanted.at)""",
)
