"""What a client of the protocol was told: every request, every one-time thing, every acknowledged write.

The four numbers of a run (`Numbers`) come from it together with what `reckoning` then finds at the server: successes
for each one-time thing, living refresh tokens for each family, acknowledged writes that are missing, and writes that
are there although nobody was told.
"""

import hashlib
import itertools
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

UNANSWERED = 0  # the status of a request whose answer never came


def digest(text: str | bytes) -> str:
    """How tokens, codes and answers are named here; a failed test shows no secret."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


@dataclass(slots=True)
class Entry:
    """One request. `thing` is the one-time thing that it presents; times are of the monotonic clock."""

    id: int
    flow: int
    kind: str
    thing: str
    start: float
    end: float = 0.0
    status: int = UNANSWERED
    hash: str = ""
    retry_after: str = ""

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(slots=True)
class Login:
    """A signed-in browser. `state`: live, ending (asked, no answer), ended (acknowledged)."""

    cookies: dict[str, str]
    state: str = "live"


@dataclass(slots=True)
class Code:
    """An authorization code that was acknowledged. `state`: fresh, sent (no answer), spent (acknowledged)."""

    value: str
    verifier: str
    at: float
    state: str = "fresh"


@dataclass(slots=True)
class Family:
    """One grant as its client knows it. `state`: live, revoking (asked, no answer), revoked (acknowledged)."""

    code: Code
    access: list[str]
    refresh: list[str]
    state: str = "live"
    doubtful: bool = False  # the last refresh got no answer: the server may be one step ahead


@dataclass(frozen=True)
class Numbers:
    """The figures of one run; `most_successes` and `most_living` are at most 1, `missing` is empty."""

    most_successes: int
    most_living: int
    missing: tuple[str, ...]
    unacknowledged: int
    requests: int

    def __str__(self) -> str:
        return (
            f"{self.requests} requests: {self.most_successes} success(es) for a one-time thing, {self.most_living} "
            f"living refresh token(s) in a family, {len(self.missing)} acknowledged writes missing, "
            f"{self.unacknowledged} present without acknowledgement"
        )


@dataclass
class Ledger:
    """Written by the load, read by the reckoning."""

    entries: list[Entry] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)
    codes: list[Code] = field(default_factory=list)
    families: list[Family] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unacknowledged: int = 0
    living: Counter[int] = field(default_factory=Counter)
    _successes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def begin(self, flow: int, kind: str, thing: str = "") -> Entry:
        entry = Entry(next(self._ids), flow, kind, digest(thing) if thing else "", time.monotonic())
        self.entries.append(entry)
        return entry

    @staticmethod
    def finish(entry: Entry, status: int, body: bytes = b"", retry_after: str = "") -> None:
        entry.end, entry.status, entry.retry_after = time.monotonic(), status, retry_after
        entry.hash = digest(body)

    def used(self, thing: str, result: str) -> None:
        """A one-time thing was used with success. A refresh token that gives the very same child again counts once."""
        self._successes[digest(thing)].add(digest(result))

    def numbers(self) -> Numbers:
        return Numbers(
            max((len(results) for results in self._successes.values()), default=0),
            max(self.living.values(), default=0),
            tuple(self.missing),
            self.unacknowledged,
            len(self.entries),
        )

    # --- what happened

    def wrong(self) -> list[str]:
        """Server errors other than an honest 503 that says when to come again."""
        return [
            f"{entry.kind}: {entry.status}"
            for entry in self.entries
            if entry.status >= 500 and (entry.status != 503 or not entry.retry_after.isdigit())
        ]

    def statuses(self, since: float = 0.0) -> Counter[int]:
        """How often each status came to the load (the reckoning afterwards is left out)."""
        return Counter(entry.status for entry in self.entries if entry.start >= since and entry.flow >= 0)

    def slowest(self, status: int) -> float:
        """Seconds that the slowest request with this status took; 0 without one."""
        return max((entry.seconds for entry in self.entries if entry.status == status), default=0.0)

    def recovered(self, since: float) -> float:
        """Seconds from `since` until the last request begun after it and refused had ended; 0 without one."""
        failed = [
            entry.end
            for entry in self.entries
            if entry.start >= since and entry.end and (entry.status == UNANSWERED or entry.status >= 500)
        ]
        return max(failed) - since if failed else 0.0
