"""The bench does not rot: a tiny run drives every workload, and a wrong answer is never a figure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import installation, load, meter, options
from tests.bench.load import Plan, WrongAnswer, raw
from tests.bench.workloads import NAMES
from tests.support.servers import ROOT


def bench(out: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A run as `make bench` starts it."""
    return subprocess.run(
        [sys.executable, "-m", "tests.bench.run"],
        cwd=ROOT,
        env=os.environ | {"OUT": str(out), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


TINY = {"STORE": "sqlite", "DURATION": "0.2", "WARM": "0", "PEOPLE": "2", "CONNECTIONS": "2"}


def test_bench_tiny_run_measures_what_was_asked_for(tmp_path: Path) -> None:
    asked = ["userinfo_full", "refresh", "login_flow"]
    done = bench(tmp_path / "out.json", ONLY=",".join(asked), **TINY)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["workload"] for row in rows] == ["bare", *asked]
    assert all(row["requests"] > 0 and row["per_second"] > 0 and row["memory_mb"] > 0 for row in rows)


@pytest.mark.long
def test_bench_tiny_run_measures_every_workload(tmp_path: Path) -> None:
    done = bench(tmp_path / "out.json", **{**TINY, "STORE": "postgresql"})
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {"bare", "argon2id", "token_in_flood", *NAMES} - {row["workload"] for row in rows} == set()


@pytest.mark.parametrize(
    "plan",
    [
        Plan(requests=[raw("GET", "/", "x")], needle="something else"),
        Plan(kind="refresh", tokens=["a", "b"], head=load.post_head("/", "x"), form=b"refresh_token="),
        Plan(kind="login", requests=[raw("GET", "/", "x")], head=load.post_head("/", "x"), form=b"code="),
    ],
    ids=["body", "refresh", "login"],
)
def test_load_wrong_answer_is_no_result(plan: Plan, bare_server: int, tmp_path: Path) -> None:
    with pytest.raises(WrongAnswer):
        load.run(plan, bare_server, connections=1, seconds=0, folder=tmp_path)


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> object:
    with installation.bare(tmp_path_factory.mktemp("bare"), workers=1) as (_, port):
        yield port


def test_load_says_who_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WrongAnswer):
        load.run(Plan(requests=[raw("GET", "/", "x")]), 1, connections=1, seconds=0, folder=tmp_path)


def test_meter_reads_the_work_of_children() -> None:
    worker = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint(flush=True)\n"
    script = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {worker + 'input()'!r}]).wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(meter.family(process.pid)) == 2
        assert meter.cpu_seconds(process.pid) >= 0.25
        assert meter.memory(process.pid) > 1_000_000
        process.communicate(b"\n")


@pytest.mark.parametrize(
    "variables",
    [{"ONLY": "nothing"}, {"CONNECTIONS": "x"}, {"STORE": "paper"}, {"STORE": "sqlite", "WORKERS": "2"}],
)
def test_options_mistyped_are_refused(variables: dict[str, str]) -> None:
    with pytest.raises(options.Usage):
        options.read(variables)
