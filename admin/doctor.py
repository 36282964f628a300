"""Doctor: looks at configuration, schema, keys and stores, and says what is unsafe for production."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from sqlalchemy import func, or_, select, text

from idp import keys, master_keys, outgoing, sealed
from idp.config import Config, unsafe_for_production
from idp.context import Context
from idp.ephemeral import open_ephemeral
from idp.errors import YimenError
from idp.models import AuditAnchor, AuditHead, AuditRecord, Delivery, SigningKey

OLD_KEY_SECONDS = 400 * 86_400
UNSEALED_SECONDS = 300
SQLITE_NEEDED = (3, 35, 0)


class Finding(NamedTuple):
    """One check; `state` is ok, warning (unsafe for production) or failed (the server does not work)."""

    name: str
    state: str
    message: str


def examine(
    config: Config, opener: Callable[[], AbstractContextManager[Context]], explicit: set[str] | None
) -> list[Finding]:
    """Every finding. `explicit` names the settings that were given, None when that cannot be told."""
    found = [*_configuration(config, explicit)]
    try:
        with opener() as context:
            found.append(Finding("database", "ok", _database(context)))
            found.append(Finding("schema", "ok", context.database.schema_head))
            found += [_master_key(context), _keys(context), *_each_key(context)]
            found += [_ephemeral(context), _deliveries(context), _audit(context)]
    except YimenError as error:
        detail = f" ({error.detail})" if error.detail else ""
        found.append(Finding("start", "failed", error.message + detail))
    return found


def _configuration(config: Config, explicit: set[str] | None) -> Iterator[Finding]:
    yield Finding("environment", "ok", config.env)
    yield Finding("passwords", "ok", "profile standard")
    for sentence in unsafe_for_production(config, explicit):
        yield Finding("production", "warning", sentence)
    if config.data_dir.exists() and config.data_dir.stat().st_mode & 0o022:
        yield Finding("data_dir", "warning", f"others may write in {config.data_dir}; run: chmod go-w")
    if config.embedded and sqlite3.sqlite_version_info < SQLITE_NEEDED:
        yield Finding("sqlite", "failed", f"SQLite {sqlite3.sqlite_version} is too old")
    if config.outbound_ca is not None and not config.outbound_ca.is_file():
        yield Finding("outbound_ca", "failed", "YIMEN_OUTBOUND_CA names no file")
    try:
        outgoing.parse_allow(config.outbound_allow)
    except YimenError as error:
        yield Finding("outbound_allow", "failed", error.message)


def _database(context: Context) -> str:
    with context.database.session(write=False) as session:
        postgres = session.get_bind().dialect.name == "postgresql"
        version = session.scalar(text("show server_version" if postgres else "select sqlite_version()"))
    away = abs(context.now() - int(time.time()))
    return f"{'PostgreSQL' if postgres else 'SQLite'} {version}, its clock {away} s from ours"


def _keys(context: Context) -> Finding:
    with context.database.session(write=False) as session:
        active = session.scalars(select(SigningKey).where(SigningKey.state == "active")).all()
    if not active:
        return Finding("keys", "failed", "no key signs; run: yimen keys rotate")
    if min(key.activated_at or 0 for key in active) < context.now() - OLD_KEY_SECONDS:
        return Finding("keys", "warning", "a signing key is older than 400 days; run: yimen keys rotate")
    return Finding("keys", "ok", ", ".join(sorted(key.algorithm for key in active)))


def _each_key(context: Context) -> Iterator[Finding]:
    """Age and use of each signing key that is not gone."""
    now = context.now()
    with context.database.session(write=False) as session:
        listed = keys.listing(session)
    for key in listed:
        since = {"next": "created_at", "active": "activated_at", "retired": "retired_at"}[key["state"]]
        used = "never used" if key["last_signed_at"] is None else f"last {_span(now - key['last_signed_at'])} ago"
        message = (
            f"{key['algorithm']} {key['kid'][:8]}: {key['state']} for {_span(now - key[since])}, "
            f"made {_span(now - key['created_at'])} ago, signed {key['signatures']} tokens, {used}"
        )
        yield Finding("signing_key", "ok", message)


def _master_key(context: Context) -> Finding:
    """Age of each version in use, and what is sealed under each."""
    now = context.now()
    with context.database.session(write=False) as session:
        rows = master_keys.versions_in_use(session)
        counts = sealed.count_versions(session)
    told = [f"{counts.get(row.version, 0)} values under version {row.version} ({row.state})" for row in rows]
    told += [
        f"{number} values under version {version} (retired: put its line back and run yimen keys rotate --master)"
        for version, number in counts.items()
        if version not in {row.version for row in rows}
    ]
    sealing = next(row for row in rows if row.state == "sealing")
    age = now - (sealing.sealing_since or sealing.created_at)
    message = f"fits the database; version {sealing.version} seals for {_span(age)} now; {', '.join(told)}"
    if len(rows) > 1:
        message += "; finish the change: yimen keys rotate --master"
    return Finding("master_key", "ok" if len(told) == 1 else "warning", message)


def _span(seconds: int) -> str:
    """A span of time as people say it."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{max(0, seconds)} seconds"


def _ephemeral(context: Context) -> Finding:
    kind = "Redis" if context.config.redis_url else "in this process"
    try:
        asyncio.run(_ping(context.config.redis_url))
    except YimenError as error:
        return Finding("ephemeral", "failed", error.detail or error.message)
    return Finding("ephemeral", "ok", kind)


async def _ping(url: str) -> None:
    """With a connection of its own: one that is shared would be closed in another event loop."""
    store = open_ephemeral(url)
    try:
        await store.ping()
    finally:
        await store.close()


def _deliveries(context: Context) -> Finding:
    with context.database.session(write=False) as session:
        lost = (Delivery.state == "failed") & Delivery.error_class.is_distinct_from("cancelled")
        failed = session.scalar(select(func.count()).where(lost).select_from(Delivery))
    if failed:
        return Finding("deliveries", "warning", f"{failed} notices never arrived")
    return Finding("deliveries", "ok", "none failed")


def _audit(context: Context) -> Finding:
    """Whether the sealer keeps up and anchors reach the outside; `yimen audit verify` looks at the chain itself."""
    late = context.now() - UNSEALED_SECONDS
    with context.database.session(write=False) as session:
        head = session.get(AuditHead, 1)
        unsealed = session.scalar(
            select(func.count()).where(AuditRecord.sequence.is_(None), AuditRecord.at < late).select_from(AuditRecord)
        )
        places = [AuditAnchor.filed_at, *([AuditAnchor.stored_at] if context.config.audit_store_url else [])]
        waiting = or_(*(place.is_(None) for place in places))
        inside = session.scalar(select(func.count()).where(waiting, AuditAnchor.at < late).select_from(AuditAnchor))
    if unsealed:
        return Finding("audit", "warning", f"{unsealed} records wait to be sealed; is a server running?")
    if inside:
        return Finding("audit", "warning", f"{inside} anchors have not reached the file or the outside store")
    place = "an outside store" if context.config.audit_store_url else str(context.config.audit_anchor_file)
    return Finding("audit", "ok", f"{head.sequence if head else 0} records sealed, anchored in {place}")


def report(findings: list[Finding]) -> dict[str, Any]:
    """The findings as one document. `error` and `message` are there when something does not work."""
    failed = [finding for finding in findings if finding.state == "failed"]
    document: dict[str, Any] = {
        "ok": not failed,
        "production_ready": all(finding.state == "ok" for finding in findings),
        "checks": [finding._asdict() for finding in findings],
    }
    return {"error": "unhealthy", "message": failed[0].message, **document} if failed else document
