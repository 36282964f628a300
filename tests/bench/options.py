"""Options of a run, from the environment: `make bench NAME=value` puts them there."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.workloads import NAMES


class Usage(Exception):
    """A value that means nothing; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """docs/benchmarks.md says what each means. Times are in seconds."""

    connections: tuple[int, ...]
    workers: tuple[int, ...]
    store: str
    only: frozenset[str]  # workload names; empty means all
    seconds: float
    warm: float
    people: int
    peer: bool
    growth: bool
    accounts: int  # of a growth run
    out: Path | None

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only


def read(environ: Mapping[str, str] = os.environ) -> Options:
    """Raises Usage."""
    try:
        options = Options(
            connections=_numbers(environ.get("CONNECTIONS", "16")),
            workers=_numbers(environ.get("WORKERS", "1")),
            store=environ.get("STORE", "postgresql"),
            only=frozenset(environ.get("ONLY", "").replace(",", " ").split()),
            seconds=float(environ.get("DURATION", "5")),
            warm=float(environ.get("WARM", "2")),
            people=int(environ.get("PEOPLE", "128")),
            peer=environ.get("PEER", "") not in ("", "0"),
            growth=environ.get("GROWTH", "") not in ("", "0"),
            accounts=int(environ.get("ACCOUNTS", "10_000_000")),
            out=Path(environ["OUT"]) if environ.get("OUT") else None,
        )
    except ValueError as error:
        raise Usage(f"not a number: {error}") from None
    unknown = options.only - NAMES.keys() - {"bare", "token_in_flood", "argon2id"}
    if unknown:
        raise Usage(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.store not in ("postgresql", "sqlite"):
        raise Usage("STORE is postgresql or sqlite")
    if options.growth and options.store != "postgresql":
        raise Usage("a growth run needs PostgreSQL")
    if options.store == "sqlite" and options.workers != (1,):
        raise Usage("the embedded default has one worker")
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.replace(",", " ").split())
