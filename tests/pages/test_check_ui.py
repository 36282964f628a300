"""The careful visitor's tool finds nothing wrong on any page: axe, clipping, overlap, targets, weight, no scripts."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prerequisites import NODE_HOME
from tests.support.processes import bound_to_us, free_port, stop, wait_until
from tests.support.servers import ROOT

AXE = NODE_HOME / "ui" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def preview(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The picture book of all pages, with made-up data."""
    port = free_port()
    log = tmp_path_factory.mktemp("preview") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*bound_to_us("TERM"), sys.executable, "-m", "tests.ui.preview", str(port)],
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    wait_until(lambda: _answers(port), process, log, 30)
    yield f"http://127.0.0.1:{port}"
    stop(process)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("modes", "width"), [("zh", "1280"), ("care-en", "375"), ("care-dark", "320")])
def test_pages_have_no_findings(preview: str, modes: str, width: str) -> None:
    paths = (ROOT / "tests" / "ui" / "paths.txt").read_text().split()
    done = run_check(preview, *paths, modes=modes, widths=width)
    assert json.loads(done.stdout)["problems"] == {}
    assert done.returncode == 0


def run_check(base: str, *paths: str, modes: str, widths: str) -> "subprocess.CompletedProcess[str]":
    options = ["--axe", str(AXE), "--modes", modes, "--widths", widths, "--chromium", shutil.which("chromium") or ""]
    script = str(Path("tests") / "ui" / "check_ui.py")
    return subprocess.run([sys.executable, script, base, *paths, *options], cwd=ROOT, capture_output=True, text=True)
