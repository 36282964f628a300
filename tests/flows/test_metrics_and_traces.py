"""/metrics of the running server: who may read it, what it counts; traces end to end."""

import json
import time

import httpx2

from tests.support.citizen import Citizen, add_citizen
from tests.support.gateway import Gateway
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, sign_in

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def get(server: YimenServer, path: str, **headers: str) -> httpx2.Response:
    return httpx2.get(server.url + path, headers=headers, trust_env=False, timeout=20)


def value(text: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def test_metrics_count_logins_tokens_and_requests(citizen: Citizen, rp: Rp) -> None:
    before = get(citizen.server, "/metrics").text
    code = sign_in(Visitor(citizen.server.url), rp.authorize_url(), citizen.number, citizen.password)["code"]
    rp.redeem(code)
    answer = get(citizen.server, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for name in (
        'yimen_logins_total{method="password",result="done"}',
        'yimen_token_answers_total{grant="authorization_code",result="done"}',
        'yimen_request_seconds_count{method="POST",route="/token",status="200"}',
        "yimen_batch_size_count",
    ):
        assert value(answer.text, name) > value(before, name), name
    assert citizen.number not in answer.text
    assert code not in answer.text


def test_metrics_are_refused_to_whoever_was_forwarded(server: YimenServer) -> None:
    assert get(server, "/metrics", **{"x-forwarded-for": "203.0.113.1"}).status_code == 403
    assert get(server, "/metrics", **{"x-forwarded-for": "127.0.0.1"}).status_code == 403
    assert get(server, "/metrics", forwarded="for=203.0.113.1").status_code == 403


def test_metrics_answer_to_the_allowed_networks_only(stores: dict[str, str]) -> None:
    settings = {"YIMEN_TRUSTED_PROXIES": "127.0.0.1", "YIMEN_METRICS_ALLOW": "10.1.0.0/16"}
    with YimenServer(stores | settings) as server:
        assert get(server, "/metrics").status_code == 403
        assert get(server, "/metrics", **{"x-forwarded-for": "10.1.2.3"}).status_code == 200
        assert get(server, "/metrics", **{"x-forwarded-for": "10.2.2.3"}).status_code == 403
        assert get(server, "/metrics", **{"x-forwarded-for": "10.1.2.3, 203.0.113.9"}).status_code == 403


def test_trace_of_a_relying_party_reaches_log_and_collector(stores: dict[str, str]) -> None:
    with Gateway() as collector, YimenServer(stores | {"YIMEN_TRACES": collector.url}) as server:
        add_citizen(server)
        get(server, "/.well-known/openid-configuration", traceparent=PARENT)
        wanted = "4bf92f3577b34da6a3ce929d0e0e4736"
        for _ in range(200):
            sent = json.dumps(collector.received)
            if wanted in sent:
                break
            time.sleep(0.1)
        assert wanted in sent
        assert any(json.loads(line).get("trace_id") == wanted for line in server.log.read_text().splitlines())
