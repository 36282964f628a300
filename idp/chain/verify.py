"""Verification of the chain: the first record that was tampered with, and how many, in constant memory.

What each kind means:
changed    the record or its hash is not what was sealed, or the chain is not the one that an anchor has seen
removed    records are missing between two others
inserted   a record stands in the chain that was never sealed, or that the product never wrote
reordered  whole records stand in the wrong place
cut_off    records at the end are missing: the head of the chain or an anchor has seen more
head       the row that tells where the chain ends was changed or removed
anchor     an anchor was changed, or contradicts another one
no_key     the root key that a record was sealed under is not known here, so it cannot be checked
"""

import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from idp.chain.evidence import Evidence, Reader, gather
from idp.chain.links import (
    GENESIS,
    START,
    Hasher,
    Place,
    Record,
    as_record,
    canonical,
    hasher,
    is_marked,
    select_records,
)
from idp.context import Context
from idp.encryption import MasterKeyError, Vault
from idp.models import AuditHead, AuditRecord

PAGE = 1_000
KEPT_FAULTS = 20  # shown, from the first on
KEPT_BREAKS = 10_000  # places where the chain is broken that are remembered to tell moved records from removed ones

Progress = Callable[[int, int], None]
"""Called after each page with the number of records checked and the number of all."""


class Fault(NamedTuple):
    """`records` from `sequence` on."""

    sequence: int
    kind: str
    records: int
    message: str


class Report(NamedTuple):
    """What verification found. `faults` are the first ones, `counts` all of them by kind."""

    records: int
    first: int | None
    last: int | None
    purged: int
    unsealed: int
    anchors: int
    unsigned_anchors: int
    counts: dict[str, int]
    faults: list[Fault]

    @property
    def intact(self) -> bool:
        return not self.counts


class Faults:
    """All faults counted, the first ones kept."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[Fault] = []

    def add(self, kind: str, sequence: int, count: int, message: str) -> None:
        self.counts[kind] += count
        self.first = sorted([*self.first, Fault(sequence, kind, count, message)])[:KEPT_FAULTS]

    def until(self, sequence: int) -> bool:
        """Whether there is a fault at or before this number."""
        return bool(self.first) and self.first[0].sequence <= sequence


class Break(NamedTuple):
    """At `sequence` stands a whole record that follows `wanted`, but before it stands `stood`."""

    sequence: int
    wanted: bytes
    stood: bytes


class Walk:
    """Goes along the chain record by record and knows nothing but the last one."""

    def __init__(self, vault: Vault, evidence: Evidence, faults: Faults, unmarked_until: int) -> None:
        """Records older than `unmarked_until` may be without a mark."""
        self._vault, self._evidence, self._faults = vault, evidence, faults
        self._unmarked_until = unmarked_until
        self._hashers: dict[int, Hasher | None] = {}
        self._last: bytes | None = GENESIS  # hash that the next record must follow; None when it is not known
        self._number = 0
        self._forged_from, self._forged = 0, 0  # a run of records that are not whole
        self._breaks: list[Break] = []
        self._agreed, self._differs = 0, 0  # last number at which an anchor agrees, first at which one differs
        self.records, self.first, self.last = 0, 0, 0

    def step(self, record: Record) -> None:
        """Take the next record in the order of numbers."""
        number = record.sequence or 0
        if not self.records:
            self._begin(number)
        self.records, self.last = self.records + 1, number
        gap, told = number - self._number - 1, canonical(record)
        if not self._is_whole(record, number, told):
            if gap > 0:
                self._missing(gap)
            self._forged_from = self._forged_from or number
            self._forged, self._number = self._forged + 1, number
            return
        linked = self._last is None or record.previous_hash == self._last
        if self._forged:
            self._judge_forged("inserted" if linked and self._last is not None else "changed")
            linked = True
        if gap > 0 and linked and self._last is not None:
            self._faults.add("reordered", number, 1, f"record {number} was numbered anew")
        elif gap > 0:
            self._missing(gap)
        elif not linked:
            self._break(Break(number, record.previous_hash or b"", self._last or b""))
        if not self._is_ours(record, number, told):
            said = f"record {number} was put into the audit, or changed, before it was sealed"
            self._faults.add("inserted", number, 1, said)
        self._last, self._number = record.hash, number
        self._compare(number, record.hash)

    def _begin(self, number: int) -> None:
        """Where the chain starts: at its first record, or after a checkpoint, of which a purge may have left some."""
        self.first = number
        checkpoint = self._evidence.checkpoint or START
        self._number, self._last = checkpoint
        if START.sequence < number <= checkpoint.sequence:
            self._number, self._last = number - 1, None

    def _is_whole(self, record: Record, number: int, told: bytes) -> bool:
        version = record.key_version
        if record.previous_hash is None or record.hash is None or version is None:
            return False
        if version not in self._hashers:
            self._hashers[version] = _hasher(self._vault, version)
        hash_after = self._hashers[version]
        if hash_after is None:
            self._lost(number, version)
            return True
        return hmac.compare_digest(hash_after(record.previous_hash, told), record.hash)

    def _is_ours(self, record: Record, number: int, told: bytes) -> bool:
        """Whether the product wrote this record."""
        if record.mark is None:
            return record.at < self._unmarked_until
        try:
            return is_marked(self._vault, record.mark, told)
        except MasterKeyError:
            if self._hashers.get(record.key_version or 0) is not None:  # else it is said already
                self._lost(number, int.from_bytes(record.mark[:2], "big"))
            return True

    def _lost(self, number: int, version: int) -> None:
        self._faults.add("no_key", number, 1, f"root key {version} is not known here")

    def _missing(self, gap: int) -> None:
        first = self._number + 1
        self._faults.add("removed", first, gap, f"{_records(first, gap)} removed")

    def _judge_forged(self, kind: str) -> None:
        said = f"{_records(self._forged_from, self._forged)} {kind}"
        self._faults.add(kind, self._forged_from, self._forged, said)
        if kind == "changed":
            self._last = None
        self._forged_from = self._forged = 0

    def _break(self, found: Break) -> None:
        if len(self._breaks) < KEPT_BREAKS:
            self._breaks.append(found)
        else:
            self._faults.add("reordered", found.sequence, 1, f"record {found.sequence} does not follow the one before")

    def _compare(self, number: int, found: bytes | None) -> None:
        seen = self._evidence.hashes.get(number)
        if seen is None:
            return
        if seen == found:
            self._agreed = number
        elif not self._differs:
            self._differs = number

    # --- the end

    def end(self, head: Place | None) -> None:
        """Compare the end with the head of the chain and with the anchors, and judge what was left open."""
        if not self.records:
            self._number, self._last = self._evidence.checkpoint or START
        if self._forged:
            beyond = head is not None and self._forged_from > head.sequence
            self._judge_forged("inserted" if beyond else "changed")
        if head is not None and self._number < head.sequence and self._last != head.hash:
            self._cut(head.sequence, "the head of the chain")
        elif head is not None and self._last not in (None, head.hash):
            self._break(Break(self._number + 1, head.hash, self._last or b""))
        self._judge_breaks()
        seen = max(self._evidence.hashes, default=0)
        if seen > max(self._number, head.sequence if head else 0) and self._evidence.hashes[seen] != self._last:
            self._cut(seen, "an anchor")
        if self._differs and not self._faults.until(self._differs):
            first = self._agreed + 1
            said = f"the chain is not the one that the anchor of record {self._differs} has seen"
            self._faults.add("changed", first, self._differs - first + 1, f"{said}; it agrees until {self._agreed}")

    def _cut(self, seen: int, witness: str) -> None:
        first = self._number + 1
        said = f"{_records(first, seen - self._number)} cut off; {witness} has seen record {seen}"
        self._faults.add("cut_off", first, seen - self._number, said)
        self._number = seen

    def _judge_breaks(self) -> None:
        stood = {found.stood for found in self._breaks}
        lost = [found for found in self._breaks if found.wanted not in stood]
        if self._breaks and not lost and not self._faults.counts["removed"]:
            for first, count in displaced(self._breaks, self.first, self._number):
                self._faults.add("reordered", first, count, f"{_records(first, count)} moved")
            return
        for found in self._breaks:
            if found in lost:
                said = f"record {found.sequence} was removed, or several, and the rest numbered anew"
                self._faults.add("removed", found.sequence, 1, said)
            else:
                said = f"record {found.sequence} does not follow the one before"
                self._faults.add("reordered", found.sequence, 1, said)


def displaced(breaks: Sequence[Break], start: int, end: int) -> Iterator[tuple[int, int]]:
    """First number and length of each run of records whose number is not the one that they were sealed with.

    The breaks cut the chain into runs. What each run follows gives the order in which they were sealed.
    """
    bounds = [start, *(found.sequence for found in breaks), end + 1]
    after = {found.wanted: i + 1 for i, found in enumerate(breaks)}
    run, true = 0, start
    for _ in bounds[1:]:
        length = bounds[run + 1] - bounds[run]
        if length > 0 and true != bounds[run]:
            yield bounds[run], length
        if run == len(breaks) or breaks[run].stood not in after:
            return
        true, run = true + length, after[breaks[run].stood]


def verify(
    context: Context, *, files: Iterable[Path] = (), through: int | None = None, progress: Progress | None = None
) -> Report:
    """Check every sealed record, up to the number `through` when it is given, on one snapshot of the database.

    Raises InvalidInput when a file of anchors cannot be read.
    """
    with context.database.session(write=False) as session:
        if session.get_bind().dialect.name == "postgresql":
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        reader, faults = Reader(context.vault, session), Faults()
        evidence = _until(through, gather(reader, session, files))
        found = session.get(AuditHead, 1)
        head = _head(reader, session, found, faults)
        walk = Walk(context.vault, evidence, faults, found.unmarked_until if found and head else 0)
        all_records = through or (head.sequence if head else 0)
        for page in _pages(session, through):
            for record in page:
                walk.step(record)
            if progress is not None:
                progress(walk.records, all_records - (evidence.checkpoint or START).sequence)
        walk.end(head if through is None else None)
        for message in evidence.bad:
            faults.add("anchor", walk.last, 1, message)
        unsealed = session.scalar(select(func.count()).where(AuditRecord.sequence.is_(None)).select_from(AuditRecord))
    return Report(
        records=walk.records,
        first=walk.first if walk.records else None,
        last=walk.last if walk.records else None,
        purged=(evidence.checkpoint or START).sequence,
        unsealed=unsealed or 0,
        anchors=evidence.read,
        unsigned_anchors=evidence.unsigned,
        counts=dict(faults.counts),
        faults=faults.first,
    )


def _until(through: int | None, evidence: Evidence) -> Evidence:
    if through is None:
        return evidence
    return evidence._replace(hashes={number: seen for number, seen in evidence.hashes.items() if number <= through})


def _head(reader: Reader, session: Session, row: AuditHead | None, faults: Faults) -> Place | None:
    """Where the chain ends by its own word, None when there is no word that can be believed."""
    if row is None:
        if session.scalar(select(AuditRecord.id).where(AuditRecord.sequence.is_not(None)).limit(1)) is not None:
            faults.add("head", 1, 1, "the head of the chain was removed")
        return None
    place = Place(row.sequence, row.hash)
    if not reader.proves(row.key_version, "head", place, row.at, row.mac, row.unmarked_until):
        faults.add("head", row.sequence, 1, "the head of the chain was changed or cannot be proven")
        return None
    return place


def _pages(session: Session, through: int | None) -> Iterator[list[Record]]:
    """Sealed records by number."""
    asked = select_records().where(AuditRecord.sequence.is_not(None)).order_by(AuditRecord.sequence).limit(PAGE)
    if through is not None:
        asked = asked.where(AuditRecord.sequence <= through)
    page = [as_record(row) for row in session.execute(asked)]
    while page:
        yield page
        page = [as_record(row) for row in session.execute(asked.where(AuditRecord.sequence > page[-1].sequence))]


def _records(first: int, count: int) -> str:
    return f"record {first} was" if count == 1 else f"records {first} to {first + count - 1} were"


def _hasher(vault: Vault, version: int) -> Hasher | None:
    try:
        return hasher(vault, version)
    except MasterKeyError:
        return None
