"""T26: a wrong configuration never serves: one clear line, a status that is not 0. All are started at once.

More of them, one by one and without a process, are in tests/idp/test_config.py and tests/test_command_line.py.
"""

import base64
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.processes import free_port
from tests.support.servers import ROOT

PRODUCTION = {
    "YIMEN_ENV": "production",
    "YIMEN_ISSUER": "https://login.example.cn",
    "YIMEN_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nothing",
    "YIMEN_REDIS_URL": "redis://127.0.0.1:1/0",
    "YIMEN_CODE_SENDER": "https://sms.example.cn/send",
}


def key_file(folder: Path, name: str, *, size: int = 32, mode: int = 0o600) -> str:
    path = folder / name
    path.write_text(f"1:{base64.b64encode(bytes(size)).decode()}\n")
    path.chmod(mode)
    return str(path)


def damaged(folder: Path) -> Path:
    path = folder / "damaged.db"
    path.write_bytes(os.urandom(5_000))
    return path


def cases(folder: Path, taken: int) -> list[tuple[dict[str, str], list[str], str]]:
    """Settings, options of `run`, and what the line says."""
    good = {**PRODUCTION, "YIMEN_MASTER_KEY_FILE": key_file(folder, "good")}
    return [
        ({**good, "YIMEN_ISSUER": "http://127.0.0.1:8000"}, [], "YIMEN_ISSUER must be an https address"),
        ({**good, "YIMEN_MASTER_KEY_FILE": ""}, [], "YIMEN_MASTER_KEY_FILE must be set"),
        ({**good, "YIMEN_RATE_LIMITS": "off"}, [], "YIMEN_RATE_LIMITS=off is for tests only"),
        ({**good, "YIMEN_DATABASE_URL": ""}, [], "YIMEN_DATABASE_URL must name PostgreSQL"),
        ({**good, "YIMEN_DEBUG": "on"}, [], "unknown setting YIMEN_DEBUG"),
        (good, ["--demo"], "--demo is not for production"),
        (good, [], "the database does not answer"),
        ({"YIMEN_MASTER_KEY_FILE": key_file(folder, "weak", size=16)}, [], "malformed in line 1"),
        ({"YIMEN_MASTER_KEY_FILE": key_file(folder, "open", mode=0o644)}, [], "may be read by others"),
        ({"YIMEN_REDIS_URL": "localhost:6379"}, [], "YIMEN_REDIS_URL: must begin with redis://"),
        ({}, ["--port", str(taken)], f"cannot listen on 127.0.0.1 port {taken}"),
        ({"YIMEN_DATA_DIR": "/dev/null/nowhere"}, [], "cannot make the folder /dev/null/nowhere of the database"),
        ({"YIMEN_DATABASE_URL": f"sqlite:///{damaged(folder)}"}, [], "the database cannot be read"),
    ]


def test_wrong_configuration_never_serves(tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("YIMEN_")}
    with socket.socket() as neighbour:
        neighbour.bind(("127.0.0.1", 0))
        neighbour.listen()
        wrong = cases(tmp_path, neighbour.getsockname()[1])
        started = []
        for number, (settings, options, _) in enumerate(wrong):
            environment = {"YIMEN_DATA_DIR": str(tmp_path / str(number)), **settings}
            command = [sys.executable, "server.py", "run", "--port", str(free_port()), *options]
            started.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=inherited | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            )
        for process, (settings, _, said) in zip(started, wrong, strict=True):
            _, told = process.communicate(timeout=120)
            text = told.decode()
            assert process.returncode == 1, (settings, text)
            assert text.startswith("yimen: "), (settings, text)
            assert text.count("\n") == 1, (settings, text)
            assert said in text, (settings, text)
