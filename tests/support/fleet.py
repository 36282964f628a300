"""Workers as systemd would run them by docs/operation/yimen@.service: one shared socket, ready by word, drained."""

import configparser
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.processes import bound_to_us
from tests.support.servers import YimenServer

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "docs" / "operation"
PROGRAM = "/opt/yimen/current/bin/yimen"
# What systemd does between fork and exec: the socket becomes descriptor 3, and the process is told that it is meant.
BECOME = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


def read_unit(name: str) -> dict[str, dict[str, str]]:
    """Sections and their settings; a setting that is repeated counts with its last value."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / name, encoding="utf-8")
    return {section: dict(parser[section]) for section in parser.sections()}


class Fleet(YimenServer):
    """Several workers on one socket that this object holds. `root` of a worker is the release that it runs."""

    def __init__(self, environment: dict[str, str], *, port: int = 0, workers: int = 2) -> None:
        super().__init__(environment)
        self._socket = socket.create_server(("127.0.0.1", port), backlog=4_096)
        self.port = self._socket.getsockname()[1]
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self._said: dict[int, socket.socket] = {}  # where a worker says what it is about (NOTIFY_SOCKET)
        self._count = workers
        self._unit = read_unit("yimen@.service")["Service"]

    def start(self) -> None:
        self.cli("upgrade")
        for number in range(1, self._count + 1):
            self.start_worker(number)

    def start_worker(self, number: int, root: Path = ROOT) -> None:
        """Return when the worker has said that it serves. RuntimeError with the end of its log when it does not."""
        words = self._unit["ExecStart"].split()
        assert words[0] == PROGRAM
        command = [sys.executable, "server.py", *words[1:]]
        address = str(self.data_dir / f"notify-{number}")
        Path(address).unlink(missing_ok=True)
        said = self._said[number] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        said.bind(address)
        said.settimeout(float(self._unit["TimeoutStartSec"]))
        with self.log.open("ab") as log:
            descriptor = self._socket.fileno()
            self.workers[number] = subprocess.Popen(
                [*bound_to_us("TERM"), sys.executable, "-S", "-c", BECOME, str(descriptor), *command],
                cwd=root,
                env=self.environment | {"LISTEN_FDS": "1", "NOTIFY_SOCKET": address},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[descriptor],
            )
        try:
            assert said.recv(100) == b"READY=1"
        except TimeoutError:
            tail = self.log.read_text(errors="replace")[-4_000:]
            raise RuntimeError(f"worker {number} was not ready:\n{tail}") from None

    def stop_worker(self, number: int) -> int:
        """Drain one worker as `systemctl stop` would; its exit status. A worker that needs a kill is a failure."""
        process, said = self.workers.pop(number), self._said.pop(number)
        process.send_signal(signal.Signals[self._unit["KillSignal"]])
        try:
            assert said.recv(100) == b"STOPPING=1"
            return process.wait(float(self._unit["TimeoutStopSec"]))
        except (subprocess.TimeoutExpired, TimeoutError):
            raise RuntimeError(f"worker {number} did not end by itself") from None
        finally:
            process.kill()
            said.close()

    def restart_worker(self, number: int, root: Path = ROOT) -> None:
        assert self.stop_worker(number) in (0, -signal.SIGTERM)
        self.start_worker(number, root)

    def stop(self) -> None:
        for number in list(self.workers):
            self.stop_worker(number)
        self._socket.close()

    def upgrade(self, root: Path) -> subprocess.Popen[bytes]:
        """`yimen upgrade` of another release, started."""
        return subprocess.Popen(
            [*bound_to_us("TERM"), sys.executable, "server.py", "upgrade"],
            cwd=root,
            env=self.environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
