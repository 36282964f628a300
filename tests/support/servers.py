"""A Yimen server in a process of its own, as an operator would start it, and its command line."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.processes import bound_to_us, free_port, stop, wait_until

ROOT = Path(__file__).parents[2]


class YimenServer:
    """`server.py run` in the given environment; a context manager that starts and stops it.

    The environment is the one of the fixture `stores`, changed or not. `options` go to `server.py run`. The
    server ends with the thread that started it.
    """

    def __init__(self, environment: dict[str, str], *options: str, workers: int = 1) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = Path(environment["YIMEN_DATA_DIR"])
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log = self.data_dir / "server.log"
        self._options = ["--port", str(self.port), "--workers", str(workers), *options]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("YIMEN_")}
        self.environment = inherited | {"YIMEN_ISSUER": self.url} | environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when the server answers. RuntimeError with the end of its log when it does not."""
        if self.environment.get("YIMEN_DATABASE_URL", "").startswith("postgresql"):
            self.cli("upgrade")
        command = [*bound_to_us("TERM"), sys.executable, "server.py", "run", *self._options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_until(self.is_ready, self._process, self.log, 60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server gracefully; nothing happens when it is not running."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    @property
    def process(self) -> "subprocess.Popen[bytes] | None":
        """The process that was started, None when the server is not running."""
        return self._process

    @property
    def pid(self) -> int:
        """The number of the process that was started; workers are its children."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def cli(self, *arguments: str, stdin: str | None = None, status: int = 0) -> dict[str, Any]:
        """Run `server.py arguments` beside the server; the JSON document that it prints.

        `status` is the exit status to expect: with 1 the answer holds `error` and `message`.
        """
        done = subprocess.run(
            [sys.executable, "server.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == status, f"{arguments}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
