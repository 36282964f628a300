"""The peer: Node's oidc-provider with Redis, prepared to take the same workloads."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2

from tests.bench import meter
from tests.bench.installation import SERVER_CORE
from tests.bench.load import WrongAnswer
from tests.bench.target import REDIRECT_URI, Target
from tests.support.prerequisites import NODE_HOME, find_node, install_node, install_node_packages
from tests.support.processes import bound_to_us, free_port, stop, wait_until
from tests.support.services import redis_server

PACKAGES = "bench/peer"  # below tests/, and below the folder of Node packages
ALGORITHMS = ("ES256", "RS256")
NODE_AT_LEAST = 22  # older ones are not supported by this version of the peer


@contextlib.contextmanager
def running(folder: Path, *, people: int) -> Iterator[Target]:
    """The peer with one process on the server's core, its own Redis beside the load. Raises Missing."""
    node, program = _install()
    home = folder / "peer"
    home.mkdir(mode=0o711)
    clients = {algorithm: {"id": algorithm.lower(), "secret": secrets.token_hex(16)} for algorithm in ALGORITHMS}
    with redis_server(home) as redis_url:
        port, log = free_port(), home / "peer.log"
        settings = {"port": port, "redis": f"{redis_url}/0", "clients": _registered(clients)}
        environ = os.environ | {"PEER_SETTINGS": json.dumps(settings), "NODE_ENV": "production"}
        with meter.on_cores(SERVER_CORE), log.open("wb") as output:
            process = subprocess.Popen(
                [*bound_to_us("TERM"), node, program], cwd=program.parent, env=environ, stdout=output, stderr=output
            )
        try:
            wait_until(lambda: _metadata(port) is not None, process, log, 30)
            metadata = _metadata(port) or {}
            target = Target("peer", f"http://127.0.0.1:{port}", process.pid, metadata, clients, [])
            target.people.extend({"cookie": _sign_in(target, f"person{order}")} for order in range(people))
            yield target
        finally:
            stop(process)


def _install() -> tuple[str, Path]:
    """A Node that the peer supports, and the program beside its packages, which are the ones that the lock names."""
    found = find_node()
    if found is None or _version(found[0]) < NODE_AT_LEAST:
        found = install_node()
    node, npm = found
    install_node_packages(PACKAGES, npm)
    return node, Path(shutil.copy(Path(__file__).with_name("peer") / "server.mjs", NODE_HOME / PACKAGES))


def _version(node: str) -> int:
    told = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return int(told.lstrip("v").partition(".")[0])


def _registered(clients: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "client_id": client["id"],
            "client_secret": client["secret"],
            "redirect_uris": [REDIRECT_URI],
            "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
            "id_token_signed_response_alg": algorithm,
        }
        for algorithm, client in clients.items()
    ]


def _metadata(port: int) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = httpx2.get(
            f"http://127.0.0.1:{port}/.well-known/openid-configuration", trust_env=False, timeout=2
        ).json()
    except httpx2.HTTPError:
        return None
    return found


def _sign_in(target: Target, name: str) -> str:
    """Sign in and grant everything to both clients; the cookies of the session."""
    cookies: dict[str, str] = {}
    for algorithm in ALGORITHMS:
        where = f"{target.authorize_path(algorithm)}&login_hint={name}"
        for _ in range(6):
            header = "; ".join(f"{key}={value}" for key, value in cookies.items())
            answer = httpx2.get(urljoin(target.url, where), headers={"cookie": header}, trust_env=False, timeout=20)
            for line in answer.headers.get_list("set-cookie"):
                key, _, value = line.partition(";")[0].partition("=")
                cookies[key] = value
            where = answer.headers.get("location", "")
            if where.startswith(REDIRECT_URI):
                break
        if "code=" not in where:
            raise WrongAnswer(f"the peer signed nobody in: {answer.status_code} {where} {answer.text[:300]}")
    return "; ".join(f"{key}={value}" for key, value in cookies.items() if key.startswith("_session") and value)
