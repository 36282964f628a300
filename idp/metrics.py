"""Metrics for Prometheus: every name and every label value is of a closed set, and none can tell a person.

Several workers of one host write to files of one folder (`share`), and whichever is asked answers for all.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library's own name for it
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

REQUESTS = Histogram(
    "yimen_request_seconds",
    "Time from the first byte of a request to its answer, by route, method and status.",
    ["route", "method", "status"],
    buckets=_SECONDS,
)
LOGINS = Counter("yimen_logins", "Attempts to sign in, by method and result.", ["method", "result"])
TOKENS = Counter("yimen_token_answers", "Answers of the token endpoint, by grant type and result.", ["grant", "result"])
BATCHES = Histogram(
    "yimen_batch_size",
    "Requests that shared one trip to the database, by direction.",
    ["direction"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
QUEUES = Gauge("yimen_queue_depth", "What waits for its turn, by queue.", ["queue"], multiprocess_mode="livesum")
POOL = Gauge("yimen_pool_in_use", "Threads and connections in use, by pool.", ["pool"], multiprocess_mode="livesum")
TURNED_AWAY = Counter(
    "yimen_turned_away", "Connections and requests that were slow, greedy or one too many.", ["reason"]
)
ATTEMPTS = Counter("yimen_delivery_attempts", "Attempts to reach others, by kind and result.", ["kind", "result"])
BACKLOG = Gauge("yimen_deliveries", "Deliveries by state.", ["state"], multiprocess_mode="mostrecent")

_requests: dict[tuple[str, str, int], Histogram] = {}  # the label look-up costs more than the observation


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """One answered request. `route` is of the table of routes, never an address as it was typed."""
    key = (route, method if method in _METHODS else "?", status)
    found = _requests.get(key)
    if found is None:
        found = _requests[key] = REQUESTS.labels(*key)
    found.observe(seconds)


def sample(queues: Mapping[str, int], pools: Mapping[str, int]) -> None:
    """What waits and what is in use at this moment in this worker."""
    for name, depth in queues.items():
        QUEUES.labels(name).set(depth)
    for name, used in pools.items():
        POOL.labels(name).set(used)


def share(folder: Path) -> None:
    """Before the workers are started: give them one folder to write to, emptied of an earlier run's files."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left_over in folder.glob("*.db"):
        left_over.unlink()
    os.environ[FOLDER] = str(folder)


def render() -> bytes:
    """All metrics of all workers of this host in Prometheus' text format."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return generate_latest(REGISTRY)
    for pid in {path.stem.rpartition("_")[2] for path in Path(folder).glob("gauge_live*_*.db")}:
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(int(pid), folder)  # type: ignore[no-untyped-call]  # a killed worker's depths go with it
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
