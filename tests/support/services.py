"""A private PostgreSQL and a private Redis for one test run, in a temporary folder, on free ports."""

import contextlib
import getpass
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import redis

from tests.support.processes import bound_to_us, free_port, stop, wait_until

REDIS_DATABASES = 256
_TRIES = 3  # somebody else may take a free port first


def postgres_programs() -> Path | None:
    """The folder with `initdb` and `postgres` of the newest PostgreSQL here."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    found = str(debian[-1]) if debian else shutil.which("postgres")
    return Path(found).resolve().parent if found else None


@contextlib.contextmanager
def postgres(folder: Path, *, durable: bool = False, **more: str) -> Iterator[str]:
    """The URL of a superuser's database. Commits are honest, but only a `durable` one survives a power cut.

    `more` are further settings of PostgreSQL.
    """
    programs = postgres_programs()
    assert programs is not None, "PostgreSQL is not installed"
    user, as_user = unprivileged()
    home, password, data = folder / "postgres", secrets.token_hex(16), folder / "postgres" / "data"
    home.mkdir(mode=0o700)
    (home / "password").write_text(password)
    for path in (home, home / "password"):
        shutil.chown(path, user)
    initdb = [str(programs / "initdb"), "--pgdata", str(data), "--username=yimen", "--auth=scram-sha-256"]
    initdb += ["--pwfile", str(home / "password"), "--encoding=UTF8", "--no-locale", "--no-sync"]
    subprocess.run(["setpriv", *as_user, *initdb], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "300",
        "synchronous_commit": "on",
        "fsync": "on" if durable else "off",
        "full_page_writes": "on" if durable else "off",
        **more,
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def url(port: int) -> str:
        return f"postgresql://yimen:{password}@127.0.0.1:{port}/postgres"

    def command(port: int) -> list[str]:
        return [*as_user, str(programs / "postgres"), "-D", str(data), "-p", str(port), *options]

    with _running(command, lambda port: _answers_postgres(url(port)), folder / "postgres.log", "INT") as port:
        yield url(port).replace("postgresql:", "postgresql+psycopg:", 1)


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The URL of a Redis without its database number; it keeps nothing on disk."""
    home, password = folder / "redis", secrets.token_hex(16)
    home.mkdir(mode=0o700)

    def url(port: int) -> str:
        return f"redis://:{password}@127.0.0.1:{port}"

    def command(port: int) -> list[str]:
        options = {
            "port": port,
            "bind": "127.0.0.1",
            "requirepass": password,
            "databases": REDIS_DATABASES,
            "save": "",
            "appendonly": "no",
            "dir": home,
        }
        return ["redis-server", *(str(word) for name, value in options.items() for word in (f"--{name}", value))]

    with _running(command, lambda port: _answers_redis(url(port)), folder / "redis.log", "TERM") as port:
        yield url(port)


def unprivileged() -> tuple[str, list[str]]:
    """PostgreSQL refuses to run as root: the user it runs as, and the options of `setpriv` that bring this about."""
    if os.geteuid() != 0:
        return getpass.getuser(), []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    group = pwd.getpwnam(user).pw_gid
    return user, [f"--reuid={user}", f"--regid={group}", "--clear-groups"]


@contextlib.contextmanager
def _running(
    command: Callable[[int], list[str]], answers: Callable[[int], bool], log: Path, ending: str
) -> Iterator[int]:
    """Start `command(port)` under `setpriv` until it answers; the port. Ends the process on the way out."""
    for left in reversed(range(_TRIES)):
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*bound_to_us(ending), *command(port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                start_new_session=True,  # Ctrl-C is for the tests; the services outlive them
            )
        with contextlib.ExitStack() as stack:
            stack.callback(stop, process, signal.Signals["SIG" + ending])
            try:
                wait_until(partial(answers, port), process, log, 30)
            except RuntimeError:
                if not left:
                    raise
                continue
            yield port
            return


def _answers_postgres(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _answers_redis(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
