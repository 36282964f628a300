"""The first page of the demo: where to click, and as whom.

python -m clients.examples.landing --port 8003 --data landing.json
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from clients.examples.look import render, static_files


def create_app(data: Mapping[str, Any]) -> Starlette:
    """A page that shows `data`: issuer, password, services and accounts.

    A service has name, name_en and url; an account login, name, note and note_en.
    """

    async def home(request: Request) -> Response:
        return render(request, "landing.html", name="一门 · Yimen", data=data)

    return Starlette(routes=[Route("/", home), Mount("/static", static_files())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    data = json.loads(given.data.read_text(encoding="utf-8"))
    uvicorn.run(create_app(data), host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
