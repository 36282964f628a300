"""`make test`: brings what is missing, starts private services, runs pytest and stops what it started."""

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


def main(arguments: list[str]) -> int:
    """The exit status of pytest, or 1 when something has to be installed by hand."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell had told us to ignore it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        install_missing()
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="yimen-test-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o711)  # PostgreSQL may be another user
        services = {
            "TEST_POSTGRES": stack.enter_context(postgres(folder)),
            "TEST_REDIS_URL": stack.enter_context(redis_server(folder)),
        }
        return run_pytest([*arguments, f"--basetemp={folder}/tests"], os.environ | services)


def run_pytest(arguments: list[str], environ: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    process = subprocess.Popen([*bound_to_us("INT"), *command], cwd=ROOT, env=environ)
    try:
        return process.wait()
    except KeyboardInterrupt:  # it reached pytest too, which now stops its servers
        return process.wait(60)
    except SystemExit:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        raise
    finally:
        process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
