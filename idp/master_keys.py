"""Versions of the master key in the database: which one seals, which must still open, which may leave the file.

    announced → sealing → opening → retired

`announced`: every process looks whether it has the version, and says so when it has not. `sealing`: what is sealed,
is sealed under this one. `opening`: values are left under it. `retired`: none is, its line may leave the file.
A start is refused, by name, when a version that is sealing or opening is missing in the file or is another key.
"""

import logging
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from idp import audit, sealed
from idp.config import Config
from idp.context import Context
from idp.database import Database, insert_into
from idp.encryption import MasterKeyError, Vault
from idp.errors import Conflict
from idp.models import DataKey, Fact, MasterKey

log = logging.getLogger(__name__)

FINGERPRINT = "master_key_fingerprint"  # of the root key; its name is older than the root key
ROOT = "root"
ANNOUNCE_SECONDS = 6  # every process reads the table at least three times meanwhile


class NoNewVersion(Conflict):
    """The master key file holds nothing to change over to."""

    code = "no_new_version"


class NotEverywhere(Conflict):
    """A process does not have the announced version."""

    code = "version_not_everywhere"


# --- start


def open_vault(config: Config, database: Database) -> Vault:
    """The vault, when its master key is the one that this database has known from its first start.

    Raises MasterKeyError with one line that says what is missing and what to do.
    """
    path = config.master_key_file
    with database.session(write=False) as session:
        known, rows, root = _known(session)
    used = known is not None or bool(rows)
    if used and not path.exists():
        raise MasterKeyError(
            f"the master key file {path} is missing; put it back from your backup: "
            f"what is sealed in this database opens with nothing else"
        )
    vault = Vault.open(path, create=not used and not config.production)
    if root is None:
        known, rows, root = _first_start(database, vault, known, path)
    for row in rows:
        _require(vault, row, path)
    vault.adopt(bytes.fromhex(vault.unseal("data_keys", "sealed_key", root.id, root.sealed_key)))
    if vault.fingerprint() != known:
        raise MasterKeyError(f"the master key in {path} does not fit this database: its root key is another one")
    vault.confirm(_sealing(rows))
    vault.ask = lambda: refresh(database, vault)
    return vault


def _known(session: Session) -> tuple[str | None, Sequence[MasterKey], DataKey | None]:
    """Fingerprint of the root key, versions that are in use, the sealed root key."""
    return (
        session.scalar(select(Fact.value).where(Fact.name == FINGERPRINT)),
        versions_in_use(session),
        session.scalar(select(DataKey).where(DataKey.name == ROOT)),
    )


def versions_in_use(session: Session) -> Sequence[MasterKey]:
    """The versions that seal or open, rising."""
    found = select(MasterKey).where(MasterKey.state.in_(("sealing", "opening"))).order_by(MasterKey.version)
    return session.scalars(found).all()


def _sealing(rows: Sequence[MasterKey]) -> int:
    return next(row.version for row in rows if row.state == "sealing")


def _first_start(
    database: Database, vault: Vault, known: str | None, path: Path
) -> tuple[str | None, Sequence[MasterKey], DataKey]:
    """Write down the versions and the root key. Of two first starts at once one does, the other takes what it made.

    An installation from before there was a root key keeps the one that its lowest version stood for; there every
    version of the file may be needed.
    """
    now, row, newest = database.now(), uuid4(), max(vault.versions)
    root = secrets.token_bytes(32) if known is None else vault.root_of_lowest()
    vault.adopt(root)
    if known is not None and vault.fingerprint() != known:
        raise MasterKeyError(f"the master key in {path} does not fit this database; put back the one it was made with")
    with database.session() as session:
        for version in vault.versions if known is not None else [newest]:
            state = "sealing" if version == newest else "opening"
            values = {"version": version, "fingerprint": vault.version_fingerprint(version), "state": state}
            _insert(session, MasterKey, **values, created_at=now, sealing_since=now if version == newest else None)
        sealed = vault.seal("data_keys", "sealed_key", row, root.hex())
        _insert(session, DataKey, id=row, name=ROOT, sealed_key=sealed, created_at=now)
        _insert(session, Fact, name=FINGERPRINT, value=vault.fingerprint())
    with database.session(write=False) as session:
        known, rows, found = _known(session)
    if found is None:
        raise MasterKeyError("the root key was not written")
    return known, rows, found


def _insert(session: Session, table: type[Fact] | type[MasterKey] | type[DataKey], **values: object) -> None:
    session.execute(insert_into(session, table.__table__).values(**values).on_conflict_do_nothing())


def _require(vault: Vault, row: MasterKey, path: Path | str) -> None:
    """Raise MasterKeyError unless this process has the version, and the right one."""
    if not vault.knows(row.version):
        raise MasterKeyError(
            f"version {row.version} of the master key is missing in {path} and values are still sealed under it; "
            "put its line back, or finish `yimen keys rotate --master` before you remove it"
        )
    if vault.version_fingerprint(row.version) != row.fingerprint:
        raise MasterKeyError(
            f"version {row.version} of the master key in {path} does not fit this database: "
            "it is another key; put back the right line"
        )


# --- while a process runs


def refresh(database: Database, vault: Vault) -> None:
    """Learn which version seals, and object to an announced one that this process does not have.

    Raises MasterKeyError when a version in use is missing, Unavailable.
    """
    with database.session(write=False) as session:
        rows = session.scalars(select(MasterKey).where(MasterKey.state != "retired")).all()
    for row in rows:
        if row.state != "announced":
            _require(vault, row, "the master key file")
        elif not _has(vault, row):
            log.error("an announced version of the master key is missing", extra={"fields": {"version": row.version}})
            with database.session() as session:
                session.execute(
                    update(MasterKey)
                    .where(MasterKey.version == row.version, MasterKey.state == "announced")
                    .values(missing_at=database.now())
                )
    vault.confirm(_sealing(rows))


def _has(vault: Vault, row: MasterKey) -> bool:
    return vault.knows(row.version) and vault.version_fingerprint(row.version) == row.fingerprint


# --- changing over


def prepare(context: Context, *, announce_seconds: float = ANNOUNCE_SECONDS) -> int:
    """Change over to the newest version of the file where that is not done; the version that seals now.

    Values that turn up under a retired version bring that one back. Raises NoNewVersion when there is nothing to do
    at all, NotEverywhere when a running process lacks the version.
    """
    newest = max(context.vault.versions)
    with context.database.session(write=False) as session:
        highest = max(session.scalars(select(MasterKey.version).where(MasterKey.state != "announced")))
        rows = versions_in_use(session)
    if newest > highest:
        _announce(context, newest, announce_seconds)
        time.sleep(announce_seconds)
        _change_over(context, newest)
    elif len(rows) == 1 and not _reopen(context, highest):
        raise NoNewVersion(
            f"version {highest} already seals everything; add a line with a higher version "
            f"to the master key file on every host first: {highest + 1}, a blank, 32 random bytes in Base64"
        )
    refresh(context.database, context.vault)
    return context.vault.sealing


def _reopen(context: Context, sealing: int) -> bool:
    """Take versions back into use when values are under them after all; False when there are none."""
    with context.database.session() as session:
        left = [version for version in sealed.count_versions(session) if version != sealing]
        session.execute(update(MasterKey).where(MasterKey.version.in_(left)).values(state="opening", retired_at=None))
    return bool(left)


def _announce(context: Context, version: int, seconds: float) -> None:
    """Ask every process; what a command that is no more had announced goes."""
    now = context.now()
    with context.database.session() as session:
        session.execute(
            delete(MasterKey).where(
                MasterKey.state == "announced", (MasterKey.version != version) | (MasterKey.created_at < now - seconds)
            )
        )
        fingerprint = context.vault.version_fingerprint(version)
        _insert(session, MasterKey, version=version, fingerprint=fingerprint, state="announced", created_at=now)


def _change_over(context: Context, version: int) -> None:
    with context.database.session() as session:
        missing = session.scalar(
            delete(MasterKey)
            .where(MasterKey.version == version, MasterKey.state == "announced", MasterKey.missing_at.is_not(None))
            .returning(MasterKey.version)
        )
        if missing is None:
            session.execute(update(MasterKey).where(MasterKey.state == "sealing").values(state="opening"))
            done = session.scalar(
                update(MasterKey)
                .where(MasterKey.version == version, MasterKey.state == "announced")
                .values(state="sealing", sealing_since=context.now())
                .returning(MasterKey.version)
            )
            if done is None:
                raise Conflict("another command changes the master key")
            audit.record(context, session, "keys:master:changed", detail={"version": version})
    if missing is not None:
        raise NotEverywhere(
            f"a running server does not have version {version} of the master key, or has another key under that "
            "number; bring the line to the master key file of every host, and try again"
        )


def retire(context: Context, version: int) -> list[int]:
    """No value is left under any version but this one: the others may leave the file. Which they are."""
    with context.database.session() as session:
        retired = session.scalars(
            update(MasterKey)
            .where(MasterKey.state == "opening", MasterKey.version < version)
            .values(state="retired", retired_at=context.now())
            .returning(MasterKey.version)
        ).all()
        if retired:
            audit.record(context, session, "keys:master:retired", detail={"versions": sorted(retired)})
    return sorted(retired)
