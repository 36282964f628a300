"""The systemd units of docs/operation: sound, sandboxed, and in step with what the server does."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from idp.http.limits import DRAIN_SECONDS, PROXY_IDLE_SECONDS
from idp.http.serving import START_SECONDS, STOP_SECONDS
from idp.metrics import FOLDER
from tests.support.fleet import PROGRAM, UNITS, read_unit
from tests.support.front import CONFIG

NAMES = ["yimen.socket", "yimen@.service", "yimen.service"]


def verify(folder: Path, name: str, text: str | None = None) -> str:
    """What `systemd-analyze verify` has to say about a unit of docs/operation, or about another text of it."""
    for each in NAMES:
        told = (UNITS / each).read_text(encoding="utf-8") if each != name or text is None else text
        (folder / each).write_text(told.replace(PROGRAM, "/bin/true"))
    path = folder / name.replace("@.", "@1.")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_unit_is_sound(tmp_path: Path, name: str) -> None:
    assert shutil.which("systemd-analyze")
    assert verify(tmp_path, name) == ""


def test_unit_that_is_not_sound_is_noticed(tmp_path: Path) -> None:
    broken = (UNITS / "yimen.socket").read_text(encoding="utf-8").replace("Backlog=", "Bakclog=")
    assert "Bakclog" in verify(tmp_path, "yimen.socket", broken)


@pytest.mark.parametrize("name", ["yimen@.service", "yimen.service"])
def test_unit_is_sandboxed(tmp_path: Path, name: str) -> None:
    verify(tmp_path, name)
    path = tmp_path / name.replace("@.", "@1.")
    if "@" in name:
        (tmp_path / name).rename(path)
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-500:]


@pytest.mark.parametrize("name", ["yimen@.service", "yimen.service"])
def test_unit_gives_the_server_the_time_it_takes(name: str) -> None:
    service = read_unit(name)["Service"]
    assert DRAIN_SECONDS < STOP_SECONDS < int(service["TimeoutStopSec"])
    assert int(service["TimeoutStartSec"]) > START_SECONDS
    assert service["KillSignal"] == "SIGTERM"
    assert service["Type"] == "notify"


def test_nginx_forgets_a_connection_before_the_server_does() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    upstream = re.search(r"upstream yimen \{.*?keepalive_timeout (\d+)s;", text, re.DOTALL)
    assert upstream is not None
    assert int(upstream[1]) < DRAIN_SECONDS < PROXY_IDLE_SECONDS


def test_socket_nginx_and_port_name_the_same_address() -> None:
    address = read_unit("yimen.socket")["Socket"]["ListenStream"]
    assert f"server {address} " in CONFIG.read_text(encoding="utf-8")
    assert f"--port {address.partition(':')[2]} " in read_unit("yimen.service")["Service"]["ExecStart"]


def test_workers_of_separate_units_share_one_folder_of_metrics() -> None:
    """So that whichever answers /metrics tells of all."""
    service = read_unit("yimen@.service")["Service"]
    text = (UNITS / "yimen@.service").read_text(encoding="utf-8")
    assert f"Environment={FOLDER}=/run/{service['RuntimeDirectory']}\n" in text
    assert service["RuntimeDirectoryPreserve"] == "yes"
