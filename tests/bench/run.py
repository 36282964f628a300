"""`make bench`: starts the server like production, drives each workload, prints a table, writes JSON."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import growth, installation, load, meter, options, peer, report
from tests.bench.load import Plan, WrongAnswer
from tests.bench.options import Options
from tests.bench.target import Target
from tests.bench.workloads import NAMES, WORKLOADS, Workload
from tests.support.prerequisites import ROOT, Missing, install_missing

Row = dict[str, Any]
FLOOD_CONNECTIONS, BESIDE_CONNECTIONS = 32, 2
GROWN = {"shared_buffers": "1GB", "max_wal_size": "8GB"}  # settings of PostgreSQL, small installation or large
SMALL, GROWN_CLIENTS = (10_000, 10), 20_000  # accounts and clients that growth starts from; clients that it reaches


def main() -> int:
    """The exit status: 0 measured, 1 wrong answers or something missing, 2 wrong usage."""
    try:
        chosen = options.read()
        install_missing()
        with tempfile.TemporaryDirectory(prefix="yimen-bench-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            folder.chmod(0o711)
            with meter.on_cores(installation.LOAD_CORE):
                rows = measure(chosen, folder)
    except options.Usage as error:
        print(error, file=sys.stderr)
        return 2
    except (Missing, WrongAnswer, growth.TooLittleDisk) as error:
        print(error, file=sys.stderr)
        return 1
    report.compare(rows)
    print(report.table(rows))
    if chosen.out is not None:
        report.write(chosen.out, chosen, rows)
    wrong = [row for row in rows if "wrong" in row]
    for row in wrong:
        print(f"{row['server']} {row['workload']} at {row['connections']}: {row['wrong']}", file=sys.stderr)
    return 1 if wrong else 0


def measure(chosen: Options, folder: Path) -> list[Row]:
    """All rows that were asked for, told on standard error as they come."""
    rows = []
    if chosen.growth:
        growth.require_disk(str(folder), chosen.accounts)
    sizes = [SMALL, (chosen.accounts, GROWN_CLIENTS)] if chosen.growth else [(0, 0)]
    for others in sizes:
        for workers in chosen.workers:
            for row in _of_installation(chosen, folder, workers, others):
                print(report.line(row), file=sys.stderr, flush=True)
                rows.append(row)
    if chosen.peer:
        for row in _of_peer(chosen, folder):
            print(report.line(row), file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def _of_peer(chosen: Options, folder: Path) -> Iterator[Row]:
    """The peer's rows, for the workloads that it has too."""
    with peer.running(folder, people=chosen.people) as target:
        for connections in chosen.connections:
            for workload in WORKLOADS:
                if chosen.wants(workload.name) and workload.offered(target) and not workload.ours_only:
                    row = of_workload(chosen, folder, target, workload, connections)
                    yield {"server": target.name, "workers": 1, "store": "redis"} | row


def _of_installation(chosen: Options, folder: Path, workers: int, others: tuple[int, int]) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True)))
        home.chmod(0o711)  # PostgreSQL may be another user
        environment = stack.enter_context(installation.stores(chosen.store, home, **(GROWN if others[0] else {})))
        pid, port = stack.enter_context(installation.bare(home, workers=workers))
        ours = stack.enter_context(
            installation.yimen(environment, workers=workers, people=chosen.people, others=others)
        )
        common = {"server": ours.name, "workers": workers, "store": chosen.store, "accounts": others[0]}
        for connections in chosen.connections:
            plan = Plan(requests=[load.raw("GET", "/", f"127.0.0.1:{port}")], needle='"ok"')
            bare = common | {"workload": "bare", "connections": connections}
            bare |= _measured(chosen, home, pid, port, plan, plan, connections, 1)
            yield bare
            for workload in WORKLOADS:
                if chosen.wants(workload.name) and workload.offered(ours):
                    row = common | of_workload(chosen, home, ours, workload, connections)
                    yield row | ({"times_bare": row["cpu_us"] / bare["cpu_us"]} if "cpu_us" in row else {})
        yield from _passwords(chosen, home, ours, common)


def of_workload(chosen: Options, folder: Path, target: Target, workload: Workload, connections: int) -> Row:
    """One row, of a warm server. Where an answer is wrong it has no figure but says what was `wrong`."""
    row: Row = {"workload": workload.name, "connections": connections}
    try:
        warm = workload.plan(target, connections)
        plan = workload.plan(target, connections) if warm.kind == "refresh" else warm  # spent tokens are no load
        return row | _measured(chosen, folder, target.pid, target.port, warm, plan, connections, workload.unit)
    except WrongAnswer as error:
        return row | {"wrong": str(error)}


def _measured(
    chosen: Options, folder: Path, pid: int, port: int, warm: Plan, plan: Plan, connections: int, unit: int
) -> Row:
    """CPU microseconds and rate of one unit, latency of its single requests in milliseconds, memory in MB."""
    if chosen.warm:
        load.run(warm, port, connections=connections, seconds=chosen.warm, folder=folder, at_least=0)
    before = meter.cpu_seconds(pid)
    result = load.run(plan, port, connections=connections, seconds=chosen.seconds, folder=folder)
    used = meter.cpu_seconds(pid) - before
    return {
        "cpu_us": used / result.requests * unit * 1e6,
        "per_second": result.rate / unit,
        "p50_ms": result.p50 * 1e3,
        "p99_ms": result.p99 * 1e3,
        "memory_mb": meter.memory(pid) / 1e6,
        "requests": result.requests,
    }


def _passwords(chosen: Options, folder: Path, target: Target, common: Row) -> Iterator[Row]:
    """Bare argon2id on the server's core, and the token endpoint while a flood of passwords comes in."""
    if chosen.wants("argon2id"):
        command = [sys.executable, "-m", "tests.bench.argon", str(chosen.seconds)]
        with meter.on_cores(installation.SERVER_CORE):
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        cpu = float(done.stdout)
        yield common | {"workload": "argon2id", "connections": 1, "cpu_us": cpu * 1e6, "per_second": 1 / cpu}
    if chosen.wants("token_in_flood"):
        flood = NAMES["password_login"].plan(target, FLOOD_CONNECTIONS)
        beside = NAMES["refresh"].plan(target, BESIDE_CONNECTIONS)
        running = load.start(
            flood, target.port, connections=FLOOD_CONNECTIONS, seconds=chosen.seconds + 1, folder=folder
        )
        result = load.run(beside, target.port, connections=BESIDE_CONNECTIONS, seconds=chosen.seconds, folder=folder)
        logins = load.finish(running)
        yield common | {
            "workload": "token_in_flood",
            "connections": BESIDE_CONNECTIONS,
            "per_second": result.rate,
            "p50_ms": result.p50 * 1e3,
            "p99_ms": result.p99 * 1e3,
            "logins_per_second": logins.rate,
            "requests": result.requests,
        }


if __name__ == "__main__":
    sys.exit(main())
