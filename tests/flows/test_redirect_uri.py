"""Cases A: where an answer may go, over HTTP. Whatever is not registered byte for byte gets a page and no redirect."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.idp.oidc.test_client import VARIANTS
from tests.support.citizen import add_client
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI, Rp
from tests.support.wire import Answer, Line, request

OWN = "https://rp1.test/cb"
RAW = ["%09https://rp1.test/cb", "https://rp1.test/cb%0a", "https://rp1.test/%00cb", "https://rp1.test/cb%20",
       "https://rp1.t%D0%B5st/cb", "https%3A%2F%2Frp1.test%2Fcb%5C", "https%3A%2F%2Frp1.test%2Fcb%C0%80"]  # fmt: skip


@pytest.fixture
def line(server: YimenServer) -> Iterator[Line]:
    made = Line(server.url)
    yield made
    made.close()


def ask(line: Line, rp: Rp, query: str) -> Answer:
    return line.ask(request("GET", f"{rp.server}/authorize?{query}"))


def query_of(rp: Rp, **changes: str | None) -> str:
    return rp.authorize_url(**changes).partition("?")[2]


def is_page_of_refusal(answer: Answer) -> bool:
    return answer.status == 400 and "location" not in answer.headers and b'id="error-page"' in answer.body


def test_any_other_address_than_the_registered_one_gets_a_page(server: YimenServer, line: Line) -> None:
    rp = add_client(server, "一", redirect_uri=OWN)
    rest = query_of(rp, redirect_uri=None)
    for variant in [*(quote(variant, safe="") for variant in VARIANTS), *RAW]:
        assert is_page_of_refusal(ask(line, rp, f"{rest}&redirect_uri={variant}")), variant
    assert ask(line, rp, f"{rest}&redirect_uri={quote(OWN, safe='')}").status == 303


def test_unknown_suspended_and_mistaken_get_one_page(server: YimenServer, line: Line, rp: Rp) -> None:
    suspended = add_client(server, "停")
    server.cli("client", "suspend", suspended.client_id, "--reason", "test")
    pages = []
    for answer in (
        ask(line, rp, query_of(rp, client_id="unknown")),
        ask(line, suspended, query_of(suspended)),
        ask(line, rp, query_of(rp, redirect_uri="https://evil.test/cb")),
    ):
        assert is_page_of_refusal(answer)
        shown = answer.body.partition(b'id="error-trace-id"')
        pages.append(shown[0] + shown[2].partition(b"<")[2])
    assert pages[0] == pages[1] == pages[2]


@pytest.mark.parametrize("name", ["redirect_uri", "client_id", "state", "scope", "response_mode"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_parameter_sent_twice_in_either_order_is_refused(line: Line, rp: Rp, name: str, method: str) -> None:
    good, evil = {"redirect_uri": REDIRECT_URI, "client_id": rp.client_id}.get(name, "query"), "https://evil.test/"
    rest = query_of(rp, **{name: None})
    for pair in ((good, evil), (evil, good)):
        query = rest + "".join(f"&{name}={quote(value, safe='')}" for value in pair)
        if method == "GET":
            answer = ask(line, rp, query)
        else:
            body = query.encode()
            head = request("POST", f"{rp.server}/authorize", form={}).partition(b"Content-Length")[0]
            answer = line.ask(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert is_page_of_refusal(answer)


def test_registered_addresses_are_never_chosen_for_the_client(server: YimenServer, line: Line, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"redirect_uris": [REDIRECT_URI, f"{REDIRECT_URI}/2"]}))
    two = add_client(server, "二", "--metadata", str(tmp_path / "m.json"))
    assert is_page_of_refusal(ask(line, two, query_of(two, redirect_uri=None)))


def test_loopback_port_may_vary_for_who_registered_loopback(
    server: YimenServer, line: Line, rp: Rp, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"application_type": "native"}))
    native = add_client(server, "本机", "--metadata", str(tmp_path / "m.json"), redirect_uri="http://127.0.0.1/cb")
    asked = ask(line, native, query_of(native, redirect_uri="http://127.0.0.1:51004/cb"))
    assert asked.headers["location"].startswith(f"{server.url}/login")
    for other in ("http://127.0.0.1:51004/cb2", "http://127.0.0.1:51004/cb?x=1", "http://localhost:51004/cb"):
        assert is_page_of_refusal(ask(line, native, query_of(native, redirect_uri=other)))
    for other in ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", "http://[::1]/cb"):
        assert is_page_of_refusal(ask(line, rp, query_of(rp, redirect_uri=other)))


def test_own_scheme_is_compared_like_any_address(server: YimenServer, line: Line, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"application_type": "native", "token_endpoint_auth_method": "none"}))
    arguments = ("--name", "应用", "--redirect-uri", "gov.gd.app:/cb", "--metadata", str(tmp_path / "m.json"))
    made = server.cli("client", "add", *arguments)
    rp = Rp(server.url, made["client_id"], "", "gov.gd.app:/cb")
    assert ask(line, rp, query_of(rp)).status == 303
    for other in ("gov.gd.app://evil/cb", "GOV.GD.APP:/cb", "gov.gd.app:/cb/", "gov.gd.app:cb", "gov.gd.app:///cb"):
        assert is_page_of_refusal(ask(line, rp, urlencode({"redirect_uri": other, "client_id": rp.client_id})))
