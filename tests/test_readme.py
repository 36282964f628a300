"""The ten lines of the README connect a client: they are taken from it, run, and signed in at."""

import asyncio
import json
import re
import secrets
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.support.citizen import Citizen, add_citizen, add_client
from tests.support.processes import free_port
from tests.support.servers import ROOT, YimenServer
from tests.support.visitor import Visitor


@pytest.fixture
def readme_client(server: YimenServer) -> Iterator[str]:
    """The README's client on a port of its own; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    rp = add_client(server, "公积金", redirect_uri=f"{address}/cb")
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert found is not None
    text = found[1].replace("http://127.0.0.1:7000", address).replace("http://127.0.0.1:8000", server.url)
    names = {
        "CLIENT_ID": rp.client_id,
        "CLIENT_SECRET": rp.client_secret,
        "JSONResponse": JSONResponse,
        "Middleware": Middleware,
        "OAuth": OAuth,
        "Route": Route,
        "SessionMiddleware": SessionMiddleware,
        "Starlette": Starlette,
        "secrets": secrets,
    }
    exec(text, names)  # the text under test
    running = uvicorn.Server(uvicorn.Config(names["app"], port=port, log_level="error"))  # type: ignore[arg-type]
    thread = threading.Thread(target=lambda: asyncio.run(running.serve()))
    thread.start()
    yield address
    running.should_exit = True
    thread.join(10)


def test_readme_client_signs_a_person_in(server: YimenServer, readme_client: str) -> None:
    citizen: Citizen = add_citizen(server)
    visitor = Visitor(server.url)
    start = visitor.send("GET", readme_client + "/")
    for _ in range(50):
        if start.status_code == 302:
            break
        start = visitor.send("GET", readme_client + "/")
    visitor.walk(start.headers["location"])
    visitor.submit("login-form", identifier=citizen.number, password=citizen.password)
    back = visitor.submit("consent-form", "consent-approve").headers["location"]
    answer = visitor.send("GET", back)
    assert json.loads(answer.text)["name"] == citizen.name
