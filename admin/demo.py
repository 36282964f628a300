"""Demo: made-up people, organizations and two services on the person's own machine; for `run --demo` only.

Nothing here is real: the numbers have division codes that do not exist, the phones and addresses lead nowhere.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from sqlalchemy.orm import Session

from clients import registry
from idp import accounts, mandates, organizations
from idp.authn import password
from idp.context import Context
from idp.errors import ConfigError, NotFound
from idp.models import Account

PASSWORD = "open-the-door-26"
DAY = 86_400


class DemoPerson(NamedTuple):
    """`note` says in both languages what the person is there for."""

    name: str
    number: str
    type: str
    level: int
    phone: str
    note: str
    note_en: str


PEOPLE = (
    DemoPerson(
        "林晓舟", "449901199001010013", "cid", 4, "17400001628", "广州示例科技有限公司的法定代表人",
        "legal representative of Guangzhou Example Technology",
    ),
    DemoPerson(
        "陈立新", "449902198503152216", "cid", 3, "17400002836", "示例科技的办事人；另有一项已过期的授权",
        "agent of Example Technology; another mandate has run out",
    ),
    DemoPerson(
        "阿依古丽·买买提", "659901199203080027", "cid", 3, "17400003917", "姓名带间隔号",
        "a name with a middle dot",
    ),
    DemoPerson(
        "何家明", "H20990017", "hkmo_permit", 3, "17400004752", "港澳居民来往内地通行证",
        "travel permit of a Hong Kong resident",
    ),
    DemoPerson(
        "周小满", "449903200106180025", "cid", 2, "17400005281", "二级：号码未经核验，用手机号登录",
        "level 2: the number is not verified; signs in by phone",
    ),
)  # fmt: skip


class DemoOrganization(NamedTuple):
    uscc: str
    name: str


ORGANIZATIONS = (
    DemoOrganization("91449901MA990001X8", "广州示例科技有限公司"),
    DemoOrganization("91449901MA99000288", "云浮示例商贸有限公司"),
)


class Service(NamedTuple):
    """A relying party of the demo; it listens `offset` ports above the server."""

    key: str
    name: str
    name_en: str
    offset: int


SERVICES = (
    Service("housing_fund", "住房公积金", "Housing Fund", 1),
    Service("social_security", "社会保险", "Social Security", 2),
)
LANDING_OFFSET = 3
START_SECONDS = 30


# --- data


def prepare(context: Context, port: int) -> dict[str, Any]:
    """Make what is missing and describe the whole: what the landing page shows. Repeating it changes nothing."""
    with context.database.session() as session:
        people = [(person, _person(context, session, person)) for person in PEOPLE]
        _organizations(context, session, {person.name: account for person, account in people})
        services = [_service(context, session, service, port) for service in SERVICES]
    return {
        "issuer": context.config.issuer,
        "password": PASSWORD,
        "accounts": [
            {
                "name": person.name,
                "login": person.number if person.level >= accounts.IDENTIFIER_LEVEL else person.phone,
                "password": PASSWORD,
                "level": person.level,
                "note": person.note,
                "note_en": person.note_en,
            }
            for person in PEOPLE
        ],
        "services": services,
    }


def _person(context: Context, session: Session, person: DemoPerson) -> Account:
    for typed in (person.number, person.phone):
        known = accounts.find_for_login(context, session, typed)
        if known is not None:
            return known
    account = accounts.register(
        context,
        session,
        name=person.name,
        number=person.number,
        type=person.type,
        level=person.level,
        phone=person.phone,
        email=f"demo{person.phone[-4:]}@example.test",
        claims={"phone_number_verified": True, "email_verified": True, "locale": "zh-CN"},
    )
    password.set_password(context, session, account, PASSWORD)
    return account


def _organizations(context: Context, session: Session, people: Mapping[str, Account]) -> None:
    """Two organizations; an agent of the first, whose mandate of the second has run out."""
    representative, agent = people["林晓舟"], people["陈立新"]
    if organizations.find_by_uscc(context, session, ORGANIZATIONS[0].uscc) is not None:
        return
    first, second = (
        organizations.register(context, session, uscc=found.uscc, name=found.name) for found in ORGANIZATIONS
    )
    now = context.now()
    mandates.grant(context, session, first, representative, role="legal_representative", source="command")
    mandates.grant(
        context, session, first, agent, role="agent", source="command", valid_until=now + 180 * DAY,
        granted_by=representative.id,
    )  # fmt: skip
    mandates.grant(
        context, session, second, agent, role="agent", source="command", valid_from=now - 400 * DAY,
        valid_until=now - 10 * DAY,
    )  # fmt: skip


def _service(context: Context, session: Session, service: Service, port: int) -> dict[str, Any]:
    """The client of a service. Its id and secret are kept in a file that the service reads."""
    address = f"http://127.0.0.1:{port + service.offset}"
    metadata = {
        "client_name": service.name,
        "client_name#en": service.name_en,
        "redirect_uris": [f"{address}/callback"],
        "post_logout_redirect_uris": [f"{address}/signed-out"],
        "backchannel_logout_uri": f"{address}/backchannel-logout",
        "backchannel_logout_session_required": True,
        "grant_types": ["authorization_code", "refresh_token"],
    }
    folder = context.config.data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = folder / f"{service.key}.json"
    client_id = _kept_client(session, kept)
    if client_id is not None:
        registry.change(context, session, client_id, metadata=metadata)
    else:
        made = registry.create(context, session, metadata=metadata)
        client_id = made.client.id
        _write_private(folder / f"{service.key}.secret", made.secret or "")
        _write_private(kept, json.dumps({"client_id": client_id}))
    return {
        "name": service.name,
        "name_en": service.name_en,
        "url": f"{address}/",
        "port": port + service.offset,
        "client_id": client_id,
        "secret_file": str(folder / f"{service.key}.secret"),
    }


def _kept_client(session: Session, kept: Path) -> str | None:
    try:
        client_id = str(json.loads(kept.read_text(encoding="utf-8"))["client_id"])
        return registry.get(session, client_id).id
    except (OSError, ValueError, KeyError, NotFound):
        return None


def _write_private(path: Path, text: str) -> None:
    """A file that only its owner reads."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


# --- processes


@contextmanager
def running_demo(context: Context, host: str, port: int) -> Iterator[None]:
    """Prepare the demo, tell how to use it, and keep its services running for as long as the server does."""
    data = prepare(context, port)
    described = context.config.data_dir / "demo" / "landing.json"
    _write_private(described, json.dumps(data, ensure_ascii=False, indent=2))
    processes = [subprocess.Popen([*_bound(), *command]) for command in _commands(data, described, host, port)]
    try:
        for process, offset in zip(processes, [*(service.offset for service in SERVICES), LANDING_OFFSET], strict=True):
            _wait_for(process, host, port + offset)
        _tell(data, port)
        yield
    finally:
        _end(processes)


def _bound() -> list[str]:
    """Words before a command that let it end with us, even when we are killed; none where there is no setpriv."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


def _commands(data: Mapping[str, Any], described: Path, host: str, port: int) -> Iterator[list[str]]:
    """The services and the landing page, as anybody would start them."""
    for service in data["services"]:
        yield [
            sys.executable, "-m", "clients.examples.web_hall",
            "--issuer", data["issuer"], "--client-id", service["client_id"],
            "--client-secret-file", service["secret_file"],
            "--name", service["name"], "--name-en", service["name_en"],
            "--host", host, "--port", str(service["port"]),
        ]  # fmt: skip
    yield [
        sys.executable, "-m", "clients.examples.landing",
        "--host", host, "--port", str(port + LANDING_OFFSET), "--data", str(described),
    ]  # fmt: skip


def _wait_for(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    """Return when a service listens: nobody is told an address where nobody answers. Raises ConfigError."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.05)
    raise ConfigError(f"the demo service on port {port} did not start; is the port taken?")


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    end = time.monotonic() + 5
    for process in processes:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tell(data: Mapping[str, Any], port: int) -> None:
    """Addresses and accounts, on standard output for whoever started it by hand."""
    addresses = [("从这里开始 · Start here", f"http://127.0.0.1:{port + LANDING_OFFSET}/")]
    addresses += [("一门 · Yimen", f"{data['issuer']}/")]
    addresses += [(f"{service['name']} · {service['name_en']}", service["url"]) for service in data["services"]]
    lines = ["", *(f"  {address:<28} {name}" for name, address in addresses)]
    lines += ["", f"  Everybody's password: {data['password']}"]
    lines += [f"  {account['login']:<18}  {account['name']}  ({account['note_en']})" for account in data["accounts"]]
    click.echo("\n".join([*lines, ""]))
    sys.stdout.flush()
