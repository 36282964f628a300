"""`make test`: brings what is missing, starts private services, runs pytest (all tests: in two halves at once)
and stops what it started."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.prerequisites import ROOT, Missing, install_missing
from tests.support.processes import bound_to_us
from tests.support.services import postgres, redis_server

HALF = ["tests/flows"]  # takes as long as all the rest; both run at once, since a test waits more than it works
LOOK_BACK = "tests/flows/test_nothing_spilt.py"


def main(arguments: list[str]) -> int:
    """The exit status of pytest, or 1 when something has to be installed by hand."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell had told us to ignore it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        install_missing()
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    halves = [arguments] if arguments else [HALF, other_half()]
    with contextlib.ExitStack() as stack:
        runs = [Run(stack, half, shown=half is halves[0]) for half in halves]
        return wait(runs)


def other_half() -> list[str]:
    """All that HALF leaves, and the look back at the own run, which each half takes."""
    rest = [path for path in (ROOT / "tests").iterdir() if path.is_dir() or path.name.startswith("test_")]
    named = sorted(str(path.relative_to(ROOT)) for path in rest if not path.name.startswith(("_", ".")))
    return [*(name for name in named if name not in HALF), LOOK_BACK]


class Run:
    """One pytest with services of its own. What it prints is shown at once, or all together at its end."""

    def __init__(self, stack: contextlib.ExitStack, arguments: list[str], *, shown: bool) -> None:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="yimen-test-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o711)  # PostgreSQL may be another user
        services = {
            "TEST_POSTGRES": stack.enter_context(postgres(folder)),
            "TEST_REDIS_URL": stack.enter_context(redis_server(folder)),
        }
        self._printed = None if shown else folder / "printed"
        command = [sys.executable, "-m", "pytest", *arguments, f"--basetemp={folder}/tests"]
        command, environ = [*bound_to_us("INT"), *command], os.environ | services
        if self._printed is None:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ)
        else:
            with self._printed.open("wb") as printed:
                self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=printed)
        stack.callback(self.process.kill)

    def wait(self, seconds: float | None = None) -> int:
        status = self.process.wait(seconds)
        if self._printed is not None:
            sys.stdout.buffer.write(self._printed.read_bytes())
            sys.stdout.flush()
        return status


def first_failure(statuses: list[int]) -> int:
    return next((status for status in statuses if status), 0)


def wait(runs: list[Run]) -> int:
    """The first exit status that is not 0, once all have ended. An interrupt reaches all, which stop their servers."""
    try:
        return first_failure([run.wait() for run in runs])
    except KeyboardInterrupt:
        return first_failure([run.wait(60) for run in runs])
    except SystemExit:
        for run in runs:
            run.process.send_signal(signal.SIGINT)
        for run in runs:
            run.wait(60)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
