"""Metrics: closed labels, documented names, several workers in one answer."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from idp import metrics

ROOT = Path(__file__).parents[2]
OPERATION = ROOT / "docs" / "operation"
OURS = {
    family._name
    for family in vars(metrics).values()
    if isinstance(family, metrics.Counter | metrics.Gauge | metrics.Histogram)
}
_NAME = re.compile(r"\byimen_[a-z_]+")


def bare(name: str) -> str:
    return re.sub(r"_(total|bucket|sum|count)$", "", name)


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    documented = {bare(name) for name in _NAME.findall((OPERATION / "metrics.md").read_text())}
    assert documented == OURS


def test_dashboard_shows_every_metric_and_no_other() -> None:
    dashboard = json.loads((OPERATION / "dashboard.json").read_text())
    shown = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert {bare(name) for name in _NAME.findall(shown)} == OURS


def test_request_is_observed_with_closed_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.observe_request("/token", "POST", 200, 0.004)
    metrics.observe_request("-", "EXPLODE", 405, 0.1)
    text = metrics.render().decode()
    assert 'yimen_request_seconds_count{method="POST",route="/token",status="200"}' in text
    assert 'method="?"' in text
    assert "EXPLODE" not in text


WORKER = """
import sys
from idp import metrics
metrics.LOGINS.labels("password", "done").inc(int(sys.argv[1]))
metrics.QUEUES.labels("load").set(5)
if sys.argv[2:]:
    print(metrics.render().decode())
"""


def test_one_worker_answers_for_all_and_the_dead_leave_no_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts of a worker that ended stay; what waited in it does not."""
    folder = tmp_path / "metrics"
    (tmp_path / "metrics").mkdir()
    (folder / "counter_1.db").write_bytes(b"left over")
    monkeypatch.setenv(metrics.FOLDER, "")
    metrics.share(folder)
    environment = dict(os.environ)
    assert not list(folder.iterdir())
    subprocess.run([sys.executable, "-c", WORKER, "3"], check=True, env=environment, cwd=ROOT)
    answer = subprocess.run(
        [sys.executable, "-c", WORKER, "4", "show"],
        check=True,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    assert 'yimen_logins_total{method="password",result="done"} 7.0' in answer
    assert 'yimen_queue_depth{queue="load"} 5.0' in answer
