"""Installations to measure: private stores, the server as an operator starts it, its people and clients."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from tests.bench import meter
from tests.bench.target import Target
from tests.support.processes import bound_to_us, free_port, stop, wait_until
from tests.support.servers import ROOT, YimenServer
from tests.support.services import postgres, redis_server

SERVER_CORE, LOAD_CORE = 0, 1


@contextlib.contextmanager
def stores(kind: str, folder: Path, **settings: str) -> Iterator[dict[str, str]]:
    """The environment of a fresh installation on durable private stores; `settings` are PostgreSQL's."""
    common = {"YIMEN_DATA_DIR": str(folder / "data"), "YIMEN_RATE_LIMITS": "off"}
    if kind == "sqlite":
        yield common | {"YIMEN_DATABASE_URL": f"sqlite:///{folder}/data/yimen.db", "YIMEN_REDIS_URL": ""}
        return
    with postgres(folder, durable=True, **settings) as database, redis_server(folder) as redis_url:
        yield common | {"YIMEN_DATABASE_URL": database, "YIMEN_REDIS_URL": f"{redis_url}/0"}


@contextlib.contextmanager
def yimen(
    environment: dict[str, str], *, workers: int, people: int, others: tuple[int, int] = (0, 0)
) -> Iterator[Target]:
    """The product with one worker on a core of its own; several share both cores with the load.

    `others` are the numbers of accounts and clients that fill the tables and that nobody measures.
    """
    cores = (SERVER_CORE,) if workers == 1 else (SERVER_CORE, LOAD_CORE)
    server = YimenServer(environment, workers=workers)
    with meter.on_cores(*cores):
        server.start()
    try:
        with _everywhere(environment) if others[0] else contextlib.nullcontext():
            made = seed(server, people, *others)
        metadata = httpx2.get(f"{server.url}/.well-known/openid-configuration", trust_env=False).json()
        yield Target("yimen", server.url, server.pid, metadata, made["clients"], made["people"])
    finally:
        server.stop()


@contextlib.contextmanager
def _everywhere(environment: dict[str, str]) -> Iterator[None]:
    """What PostgreSQL starts inside runs on all cores, and nothing is vacuumed in between: to fill it in less time."""
    conninfo = environment["YIMEN_DATABASE_URL"].replace("+psycopg", "", 1)
    postmaster = Path(environment["YIMEN_DATA_DIR"]).parent / "postgres" / "data" / "postmaster.pid"
    pid, cores = int(postmaster.read_text().split()[0]), os.sched_getaffinity(0)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("alter system set autovacuum = off")
        connection.execute("select pg_reload_conf()")
        os.sched_setaffinity(pid, range(os.cpu_count() or 1))
        yield
        os.sched_setaffinity(pid, cores)
        connection.execute("alter system reset autovacuum")
        connection.execute("select pg_reload_conf()")


def seed(server: YimenServer, *counts: int) -> dict[str, Any]:
    """What `seed.py` made."""
    command = [sys.executable, "-m", "tests.bench.seed", *map(str, counts)]
    done = subprocess.run(command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE, text=True, check=True)
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@contextlib.contextmanager
def bare(folder: Path, *, workers: int) -> Iterator[tuple[int, int]]:
    """The bare application: its process and its port."""
    port, log = free_port(), folder / "bare.log"
    command = [*bound_to_us("TERM"), sys.executable, "-m", "tests.bench.bare", str(port), str(workers)]
    cores = (SERVER_CORE,) if workers == 1 else (SERVER_CORE, LOAD_CORE)
    with meter.on_cores(*cores), log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        wait_until(lambda: _answers(port), process, log, 30)
        yield process.pid, port
    finally:
        stop(process)


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False
