"""A PostgreSQL of a test's own: honest to the disk, to be stopped, filled up, copied and replaced as the test likes."""

import contextlib
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import psycopg

from tests.support.processes import bound_to_us, free_port, stop, wait_until
from tests.support.services import postgres_programs, unprivileged

BASE = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "120",
    "synchronous_commit": "on",
    "shared_buffers": "16MB",
    "wal_writer_delay": "1s",  # what is not flushed by a commit stays unflushed for long
}


_starter = ThreadPoolExecutor(1, thread_name_prefix="starter")  # processes end with the thread that started them


def start_process(command: list[str], folder: Path, output: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start a process that lives as long as the tests, from whichever thread this is called."""
    return _starter.submit(
        subprocess.Popen,
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,
        start_new_session=True,
    ).result()


class Cluster:
    """One data folder and the server on it. `start` and `stop` may be called again and again."""

    def __init__(self, folder: Path, *, password: str = "") -> None:
        programs = postgres_programs()
        assert programs is not None, "PostgreSQL is not installed"
        self._programs, self.folder, self.data = programs, folder, folder / "data"
        self.password, self.port = password or secrets.token_hex(16), free_port()
        self.settings: dict[str, str] = {}
        self._user, self._as_user = unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.chown(folder, self._user)

    def _run(self, program: str, *arguments: str, password: bool = False) -> None:
        environ = {"PGPASSWORD": self.password} if password else {}
        command = ["setpriv", *self._as_user, str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, env={"PATH": "/usr/bin:/bin", **environ}, capture_output=True)
        assert done.returncode == 0, (program, done.stderr.decode()[-2000:])

    def init(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        shutil.chown(secret, self._user)
        self._run(
            "initdb", "--pgdata", str(self.data), "--username=yimen", "--auth=scram-sha-256", "--pwfile", str(secret),
            "--encoding=UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        with (self.data / "pg_hba.conf").open("a") as lines:
            lines.write("host replication yimen 127.0.0.1/32 scram-sha-256\n")

    def start(self, *, wait: bool = True) -> None:
        settings = {**BASE, **self.settings}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = self.folder / "postgres.log"
        with log.open("ab") as output:
            program = [str(self._programs / "postgres"), "-D", str(self.data), "-p", str(self.port)]
            self._process = start_process(
                [*bound_to_us("INT"), *self._as_user, *program, *options], self.folder, output
            )
        if wait:
            wait_until(self.answers, self._process, log, 30)

    def stop(self, mode: str = "fast") -> None:
        """`immediate`: every process quits at once, as after a crash (pg_ctl -m immediate)."""
        if self._process is not None:
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", mode, "-s")
            stop(self._process, seconds=30)
            self._process = None

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-D", str(self.data), "-s", "-w")

    def answers(self) -> bool:
        """Whether it takes connections."""
        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        return False

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.uri(database), autocommit=True, connect_timeout=2)

    def execute(self, statement: str, database: str = "postgres") -> None:
        with self.connect(database) as connection:
            connection.execute(statement.encode())

    def uri(self, database: str = "postgres", port: int = 0) -> str:
        return f"postgresql://yimen:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def url(self, database: str, port: int = 0) -> str:
        """The address as Yimen takes it; `port` is that of a proxy."""
        return self.uri(database, port).replace("postgresql:", "postgresql+psycopg:", 1)

    def standby(self, folder: Path) -> "Cluster":
        """A copy that follows by streaming, started, under the name `standby`."""
        copy = self.copy(folder, "--write-recovery-conf")
        copy.start()
        return copy

    def copy(self, folder: Path, *options: str) -> "Cluster":
        """A base backup on another place, not started."""
        copy = Cluster(folder, password=self.password)
        source = f"host=127.0.0.1 port={self.port} user=yimen password={self.password} application_name=standby"
        self._run(
            "pg_basebackup", "-D", str(copy.data), "-d", source, "--checkpoint=fast", "--no-sync", *options,
            password=True,
        )  # fmt: skip
        return copy

    def program(self, name: str) -> str:
        return str(self._programs / name)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A fresh PostgreSQL, running."""
    made = Cluster(folder)
    made.init()
    made.start()
    try:
        yield made
    finally:
        made.stop("immediate")


def children(pid: int) -> dict[int, float]:
    """Living child processes of a server with the time at which each started (seconds since boot)."""
    found: dict[int, float] = {}
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in map(int, listed):
        with contextlib.suppress(OSError):
            fields = re.sub(r".*\) ", "", Path(f"/proc/{child}/stat").read_text()).split()
            if fields[0] != "Z":
                found[child] = int(fields[19]) / 100
    return found


def wait_for(condition: "object", seconds: float, what: str) -> float:
    """Seconds until `condition()` is true; AssertionError naming `what` when it never is (a hang guard)."""
    assert callable(condition)
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        if condition():
            return time.monotonic() - begin
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s")
