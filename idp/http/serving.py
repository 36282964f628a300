"""Serving: one worker on its own address or on sockets that systemd holds, and several workers under one parent.

A listening socket that outlives the workers is what makes a restart lose nothing: connections wait in its queue.
Protocols: sd_listen_fds(3) for the sockets, sd_notify(3) for the word that we are ready.
"""

import logging
import os
import resource
import socket
import sys
from typing import Any

import uvicorn
import uvicorn.supervisors
from starlette.applications import Starlette

from idp.errors import ConfigError
from idp.http.limits import CONNECTIONS_LIMIT
from idp.http.wire import GuardedProtocol

log = logging.getLogger("yimen.serving")

STOP_SECONDS = 10  # what is still under way then is cut off
START_SECONDS = 60  # a worker that is not ready by then counts as failed, and the one before it goes on
FIRST_FD = 3  # SD_LISTEN_FDS_START

OPTIONS: dict[str, Any] = {
    "loop": "uvloop",
    "http": GuardedProtocol,
    "ws": "none",
    "lifespan": "on",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "timeout_graceful_shutdown": STOP_SECONDS,
    "timeout_worker_healthcheck": START_SECONDS,
}


class Server(uvicorn.Server):
    """Tells systemd when it serves and when it ends."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify("STOPPING=1")
        await super().shutdown(sockets)


class Parent(uvicorn.supervisors.Multiprocess):
    """The parent of several workers; ready when all of them are."""

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(START_SECONDS, self.should_exit) for process in self.processes):
            notify("READY=1")

    def keep_subprocess_alive(self) -> None:
        """A worker that dies while it is asked whether it lives must not be waited for: the pipe ends with it only
        when this process has let go of the worker's end."""
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


def serve_one(application: Starlette, host: str, port: int, sockets: list[socket.socket]) -> None:
    """One worker in this process, on `sockets` when there are any."""
    server = Server(uvicorn.Config(application, host=host, port=port, **OPTIONS))
    server.run(sockets or None)
    if not server.started:
        sys.exit(1)


def serve_many(factory: str, host: str, port: int, workers: int, sockets: list[socket.socket]) -> None:
    """A parent with `workers` children. SIGHUP replaces them one by one, each when its successor is ready."""
    config = uvicorn.Config(factory, factory=True, host=host, port=port, workers=workers, **OPTIONS)
    Parent(config, sockets or [config.bind_socket()]).run()


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets that systemd passed to this process, none when it did not start us with a socket unit."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "")
    if not count.isdigit():
        raise ConfigError("LISTEN_FDS is not a number")
    found = [socket.socket(fileno=number) for number in range(FIRST_FD, FIRST_FD + int(count))]
    for each in found:
        each.set_inheritable(False)
    return found


def refuse_taken(host: str, port: int) -> None:
    """Raise ConfigError when somebody listens there: one clear line before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from None


def raise_open_files() -> None:
    """Allow as many descriptors as the connections need, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_LIMIT + 1_024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def notify(state: str) -> None:
    """One message to the service manager, when there is one (sd_notify). One that does not listen stops nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        log.warning("the service manager does not listen", extra={"fields": {"detail": str(error.strerror)}})
