"""Workloads: what is measured, each with the requests it sends and what a right answer looks like."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.bench.load import Plan, WrongAnswer, post_head, raw
from tests.bench.target import Target
from tests.support.visitor import Forms

SPARE = 8  # refresh families beyond one for each connection: wrk throws one request away


@dataclass(frozen=True, slots=True)
class Workload:
    """`plan(target, connections)` prepares the requests; `unit` is how many requests make one of what is counted."""

    name: str
    plan: Callable[[Target, int], Plan]
    offered: Callable[[Target], bool] = lambda _: True
    unit: int = 1
    ours_only: bool = False  # the peer has nothing like it


def _get(path: str, needle: str) -> Callable[[Target, int], Plan]:
    return lambda target, _: Plan(requests=[raw("GET", path, target.host)], needle=needle)


def _at(endpoint: str, needle: str) -> Callable[[Target, int], Plan]:
    return lambda target, _: Plan(requests=[raw("GET", target.path(endpoint), target.host)], needle=needle)


def discovery(target: Target, _: int) -> Plan:
    if target.get("/.well-known/openid-configuration").json()["issuer"] != target.url:
        raise WrongAnswer("discovery names another issuer")
    return Plan(requests=[raw("GET", "/.well-known/openid-configuration", target.host)], needle='"jwks_uri"')


def client_credentials(target: Target, _: int) -> Plan:
    form = {"grant_type": "client_credentials"}
    _expect(target.post(target.path("token_endpoint"), form, authorization=target.basic("ES256")), "access_token")
    body = urlencode(form).encode()
    request = raw("POST", target.path("token_endpoint"), target.host, body=body, Authorization=target.basic("ES256"))
    return Plan(requests=[request], needle='"access_token"')


def introspection(target: Target, _: int) -> Plan:
    path, basic = target.path("introspection_endpoint"), target.basic("ES256")
    made = [target.tokens(person["cookie"], "ES256")["access_token"] for person in target.people]
    if _expect(target.post(path, {"token": made[0]}, authorization=basic), "active")["active"] is not True:
        raise WrongAnswer("introspection says that a fresh token is not active")
    bodies = [urlencode({"token": token}).encode() for token in made]
    requests = [raw("POST", path, target.host, body=body, Authorization=basic) for body in bodies]
    return Plan(requests=requests, needle='"client_id"')


def userinfo(scope: str, member: str) -> Callable[[Target, int], Plan]:
    def plan(target: Target, _: int) -> Plan:
        path = target.path("userinfo_endpoint")
        made = [target.tokens(person["cookie"], "ES256", scope)["access_token"] for person in target.people]
        known = _expect(target.get(path, authorization=f"Bearer {made[0]}"), "sub")
        if member not in known:
            raise WrongAnswer(f"userinfo lacks {member}: {known}")
        requests = [raw("GET", path, target.host, Authorization=f"Bearer {token}") for token in made]
        return Plan(requests=requests, needle=f'"{member}"')

    return plan


def refresh(algorithm: str) -> Callable[[Target, int], Plan]:
    def plan(target: Target, connections: int) -> Plan:
        people = itertools.islice(itertools.cycle(target.people), connections + SPARE)
        made = [target.tokens(person["cookie"], algorithm)["refresh_token"] for person in people]
        form = {"grant_type": "refresh_token", "refresh_token": made.pop()}
        path, basic = target.path("token_endpoint"), target.basic(algorithm)
        first = _expect(target.post(path, form, authorization=basic), "id_token")
        target.check_id_token(first["id_token"], algorithm)
        if first["refresh_token"] == form["refresh_token"]:
            raise WrongAnswer("the refresh token did not rotate")
        return Plan(
            kind="refresh",
            tokens=made,
            head=post_head(path, target.host, Authorization=basic),
            form=b"grant_type=refresh_token&refresh_token=",
        )

    return plan


def login_flow(algorithm: str) -> Callable[[Target, int], Plan]:
    def plan(target: Target, _: int) -> Plan:
        target.tokens(target.people[0]["cookie"], algorithm)
        return Plan(
            kind="login",
            requests=_authorizations(target, algorithm),
            head=post_head(target.path("token_endpoint"), target.host, Authorization=target.basic(algorithm)),
            form=urlencode(target.code_form()).encode() + b"&code=",
        )

    return plan


def authorize(target: Target, _: int) -> Plan:
    target.authorize(target.people[0]["cookie"], "ES256")
    return Plan(requests=_authorizations(target, "ES256"), status=303, location="code=")


def _authorizations(target: Target, algorithm: str) -> list[bytes]:
    path = target.authorize_path(algorithm)
    return [raw("GET", path, target.host, Cookie=person["cookie"]) for person in target.people]


def login_page(target: Target, _: int) -> Plan:
    return Plan(requests=[raw("GET", "/login", target.host)], needle='id="login-form"')


def password_login(target: Target, _: int) -> Plan:
    """The form of the sign-in page, sent by one browser for each person; the answer starts a session."""
    page = target.get("/login")
    browser = page.headers["set-cookie"].partition(";")[0]
    form = Forms(page.text).forms["login-form"]
    fields = [
        {**form.fields, "identifier": person["number"], "password": person["password"]} for person in target.people
    ]
    sample = target.post(form.action or "/login", fields[0], cookie=browser)
    if sample.status_code != 303 or "yimen_session=" not in sample.headers.get("set-cookie", ""):
        raise WrongAnswer(f"password login: {sample.status_code} {sample.text[:300]}")
    bodies = [urlencode(values).encode() for values in fields]
    requests = [raw("POST", "/login", target.host, body=body, Cookie=browser) for body in bodies]
    return Plan(requests=requests, status=303, location="/account")


def _expect(answer: Any, member: str) -> dict[str, Any]:
    """The JSON object of a 200 that has the member."""
    try:
        document = answer.json()
    except json.JSONDecodeError:
        document = {}
    if answer.status_code != 200 or member not in document:
        raise WrongAnswer(f"{answer.request.url.path}: {answer.status_code} {answer.text[:300]}")
    return dict(document)


def _grants(grant_type: str) -> Callable[[Target], bool]:
    return lambda target: grant_type in target.metadata.get("grant_types_supported", ())


WORKLOADS = (
    Workload("health", _get("/healthz", '"ok"'), ours_only=True),
    Workload("discovery", discovery),
    Workload("jwks", _at("jwks_uri", '"keys"')),
    Workload("client_credentials", client_credentials, _grants("client_credentials")),
    Workload("introspection", introspection, lambda target: "introspection_endpoint" in target.metadata),
    Workload("userinfo", userinfo("openid", "sub")),
    Workload("userinfo_full", userinfo("", "phone_number")),
    Workload("refresh", refresh("ES256")),
    Workload("refresh_rs256", refresh("RS256")),
    Workload("authorize", authorize),
    Workload("login_flow", login_flow("ES256"), unit=2),
    Workload("login_flow_rs256", login_flow("RS256"), unit=2),
    Workload("login_page", login_page, ours_only=True),
    Workload("password_login", password_login, ours_only=True),
)
NAMES: Mapping[str, Workload] = {workload.name: workload for workload in WORKLOADS}
