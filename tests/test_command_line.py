"""The command line as an operator meets it: one JSON document, exit statuses, refusals in one clear line."""

import base64
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.context import citizen_number, credit_code

ROOT = Path(__file__).parents[1]


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """The one document on standard output."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Yimen = Callable[..., Done]


def runner(data_dir: Path) -> Yimen:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("YIMEN_")}

    def run(*arguments: str, stdin: str = "", **settings: str) -> Done:
        """`yimen ARGUMENTS` with the data folder and further settings, warnings being errors."""
        done = subprocess.run(
            [sys.executable, "-W", "error", str(ROOT / "server.py"), *arguments],
            env=inherited | {"YIMEN_DATA_DIR": str(data_dir)} | settings,
            cwd=data_dir.parent,
            input=stdin.encode(),
            capture_output=True,
            timeout=120,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def yimen(tmp_path: Path) -> Yimen:
    """The command on the embedded default in an empty data folder."""
    return runner(tmp_path / "data")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Yimen:
    """The command on an installation that the tests of this file share."""
    return runner(tmp_path_factory.mktemp("used") / "data")


def test_first_command_of_several_at_once_makes_the_installation(yimen: Yimen, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: yimen("keys", "list"), range(4)))
    assert [done.status for done in found] == [0] * 4, found
    assert len({done.out for done in found}) == 1
    assert sorted(key["state"] for key in found[0].answer["keys"]) == ["active", "active", "next", "next"]
    for path in (tmp_path / "data", tmp_path / "data" / "master.key", tmp_path / "data" / "yimen.db"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_person_is_added_shown_locked_and_unlocked(used: Yimen, tmp_path: Path) -> None:
    number, claims = citizen_number(), tmp_path / "claims.json"
    claims.write_text('{"locale": "zh-CN", "phone_number_verified": true}')
    added = used(
        "person", "add", "--id-number", number, "--name", "张三例", "--phone", "17400001628", "--level", "4",
        "--claims", str(claims), "--password-stdin", stdin="correct horse 电池 staple\n",
    )  # fmt: skip
    assert added.status == 0, added.err
    person = added.answer
    assert (person["level"], person["status"], person["has_password"]) == (4, "active", True)
    assert person["identifiers"] == [{"type": "cid", "number": f"4{'*' * 16}{number[-1]}", "state": "active"}]
    assert (person["phone"], person["phone_verified"], person["claims"]) == ("174****1628", True, ["locale"])
    for text in (number, "张三", "17400001628", "correct horse"):
        assert text not in added.out + added.err
    shown = used("person", "show", person["account"])
    assert shown.answer == person
    locked = used("person", "lock", person["account"], "--reason", "test")
    assert locked.answer["status"] == "locked"
    again = used("person", "lock", person["account"], "--reason", "test")
    assert (again.status, again.answer["error"]) == (1, "wrong_state")
    assert used("person", "unlock", person["account"], "--reason", "test").answer["status"] == "active"
    changed = used("person", "password", person["account"], "--password-stdin", stdin="password123")
    assert (changed.status, changed.answer["error"], changed.answer["reason"]) == (1, "password_refused", "common")


def test_person_twice_is_refused(used: Yimen) -> None:
    arguments = ("person", "add", "--id-number", citizen_number(), "--name", "李四例")
    assert used(*arguments).status == 0
    refused = used(*arguments)
    assert refused.status == 1
    assert refused.answer == {"error": "identifier_taken", "message": "this number belongs to another account"}
    assert refused.err == "yimen: this number belongs to another account\n"


def test_person_with_a_bad_number_is_refused_with_its_reason(used: Yimen) -> None:
    refused = used("person", "add", "--id-number", "449901199001010014", "--name", "李四例")
    assert refused.status == 1
    assert (refused.answer["error"], refused.answer["reason"]) == ("number_refused", "ID_CHECKSUM")
    assert "449901199001010014" not in refused.out + refused.err


def test_organization_is_added_with_its_representative(used: Yimen) -> None:
    account = used("person", "add", "--id-number", citizen_number(), "--name", "王五例").answer["account"]
    code = credit_code()
    added = used("organization", "add", "--uscc", code, "--name", "示例公司", "--legal-representative", account)
    assert added.status == 0, added.err
    assert (added.answer["uscc"], added.answer["mandates"][0]["account"]) == (code, account)
    assert used("organization", "show", added.answer["organization"]).answer == added.answer


def test_client_is_added_shown_rotated_granted_and_suspended(used: Yimen, tmp_path: Path) -> None:
    metadata = tmp_path / "metadata.json"
    metadata.write_text('{"client_name#en": "Fund", "scope": "openid identity_number"}')
    added = used(
        "client", "add", "--name", "公积金", "--redirect-uri", "https://rp.example.test/cb",
        "https://rp.example.test/cb2", "--metadata", str(metadata),
    )  # fmt: skip
    assert added.status == 0, added.err
    registration = added.answer
    client_id, secret = registration.pop("client_id"), registration.pop("client_secret")
    assert registration["redirect_uris"] == ["https://rp.example.test/cb", "https://rp.example.test/cb2"]
    assert registration["grant_types"] == ["authorization_code", "refresh_token"]
    assert (registration["profile"], registration["client_name#en"]) == ("baseline", "Fund")
    shown = used("client", "show", client_id)
    assert secret not in shown.out
    assert [found["last_four"] for found in shown.answer["secrets"]] == [secret[-4:]]
    rotated = used("client", "rotate-secret", client_id)
    assert rotated.answer["client_secret"] != secret
    assert len(rotated.answer["secrets"]) == 2
    granted = used("client", "grant", client_id, "--scope", "identity_number", "--legal-basis", "社会保险法")
    assert granted.answer["legal_bases"] == {"identity_number": "社会保险法"}
    assert used("client", "suspend", client_id).answer["status"] == "suspended"
    assert client_id in [found["client_id"] for found in used("client", "list").answer["clients"]]


def test_client_with_an_unknown_member_or_profile_is_refused(used: Yimen, tmp_path: Path) -> None:
    metadata = tmp_path / "metadata.json"
    arguments = ("client", "add", "--name", "x", "--redirect-uri", "https://rp.example.test/cb")
    for text, error in (
        ('{"colour": 1}', "invalid_client_metadata"),
        ("[]", "invalid_request"),
        ("{", "invalid_request"),
    ):
        metadata.write_text(text)
        refused = used(*arguments, "--metadata", str(metadata))
        assert (refused.status, refused.answer["error"]) == (1, error)
    refused = used(*arguments, "--profile", "fapi2")
    assert (refused.status, refused.answer["error"]) == (1, "invalid_client_metadata")


def test_keys_rotate_moves_every_key_on(used: Yimen) -> None:
    before = {key["kid"]: key["state"] for key in used("keys", "list").answer["keys"]}
    rotated = used("keys", "rotate").answer
    after = {key["kid"]: key["state"] for key in rotated["keys"]}
    moved = {"next": "active", "active": "retired", "retired": "retired"}
    assert {kid: after[kid] for kid in before} == {kid: moved[state] for kid, state in before.items()}
    assert sorted(rotated["active"]) == sorted(kid for kid, state in after.items() if state == "active")


def test_doctor_tells_what_is_unsafe(used: Yimen) -> None:
    report = used("doctor")
    assert report.status == 0, report.err
    states = {check["name"]: check["state"] for check in report.answer["checks"]}
    assert states | {"schema": "ok", "keys": "ok", "master_key": "ok", "production": "warning"} == states
    assert report.answer["ok"]
    assert not report.answer["production_ready"]


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["person", "add"], ["person", "show", "x"], ["run", "--port", "0"]]
)
def test_wrong_usage_has_status_2(yimen: Yimen, arguments: list[str]) -> None:
    done = yimen(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "Usage: yimen" in done.err


def test_help_has_examples(yimen: Yimen) -> None:
    for arguments in (["--help"], ["person", "add", "-h"], ["client", "add", "--help"], ["run", "--help"]):
        done = yimen(*arguments)
        assert done.status == 0
        assert "Example" in done.out


REFUSED_STARTS = [
    ({"YIMEN_ISUER": "https://x.cn"}, "unknown setting YIMEN_ISUER; the nearest known one is YIMEN_ISSUER"),
    ({"YIMEN_ENV": "production"}, "unsafe in production: YIMEN_ISSUER must be an https address"),
    ({"YIMEN_ISSUER": "http://login.example.cn"}, "YIMEN_ISSUER: http is for loopback only; use https"),
    ({"YIMEN_OUTBOUND_ALLOW": "a b/c"}, "YIMEN_OUTBOUND_ALLOW"),
    ({"YIMEN_DATABASE_URL": "postgresql+psycopg://x@127.0.0.1:1/x"}, "the database does not answer"),
]


@pytest.mark.parametrize(("settings", "said"), REFUSED_STARTS)
def test_bad_setting_stops_every_command_with_one_line(yimen: Yimen, settings: dict[str, str], said: str) -> None:
    for arguments in (["run"], ["client", "list"]):
        done = yimen(*arguments, **settings)
        assert done.status == 1
        assert done.err.startswith(f"yimen: {said}"), done.err
        assert done.err.count("\n") == 1, done.err
        if arguments != ["run"]:
            assert said in done.answer["message"]


def test_run_with_workers_needs_shared_stores(yimen: Yimen) -> None:
    done = yimen("run", "--workers", "2")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "needs PostgreSQL (YIMEN_DATABASE_URL) and Redis (YIMEN_REDIS_URL)" in done.err


def test_wrong_missing_or_open_master_key_is_refused(yimen: Yimen, tmp_path: Path) -> None:
    assert yimen("keys", "list").status == 0
    key = tmp_path / "data" / "master.key"
    right = key.read_text()
    key.write_text(f"1 {base64.b64encode(bytes(32)).decode()}\n")
    wrong = yimen("keys", "list")
    assert wrong.status == 1
    assert "does not fit this database" in wrong.answer["message"]
    key.unlink()
    missing = yimen("keys", "list")
    assert missing.status == 1
    assert "is missing" in missing.answer["message"]
    assert not key.exists(), "a new key would hide that the old one is lost"
    key.write_text(right)
    key.chmod(0o644)
    assert "may be read by others" in yimen("keys", "list").answer["message"]
    key.chmod(0o600)
    assert yimen("keys", "list").status == 0


def test_database_of_a_newer_version_is_refused(yimen: Yimen, tmp_path: Path) -> None:
    assert yimen("keys", "list").status == 0
    with sqlite3.connect(tmp_path / "data" / "yimen.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    done = yimen("keys", "list")
    assert (done.status, done.answer["error"]) == (1, "schema_outdated")


def test_postgres_with_outdated_schema_names_the_command(yimen: Yimen, postgres_url: Callable[[], str]) -> None:
    settings = {"YIMEN_DATABASE_URL": postgres_url()}
    for arguments in (["run"], ["client", "list"]):
        done = yimen(*arguments, **settings)
        assert done.status == 1
        assert "run: yimen upgrade" in done.err
    first = yimen("upgrade", **settings)
    assert (first.status, first.answer["from"]) == (0, None)
    assert yimen("upgrade", **settings).answer["from"] == first.answer["to"]
    assert yimen("client", "list", **settings).answer == {"clients": []}


def test_person_takes_contacts_from_the_claims_and_no_contradiction(used: Yimen, tmp_path: Path) -> None:
    claims = tmp_path / "claims.json"
    claims.write_text(json.dumps({"email": "a@example.test", "email_verified": True, "phone_number": "+8617412345678"}))
    options = ("--name", "张三例", "--claims", str(claims))
    made = used("person", "add", "--id-number", citizen_number(), *options)
    assert made.status == 0
    assert made.answer["email_verified"] is True
    other = used("person", "add", "--id-number", citizen_number(), *options, "--email", "b@example.test")
    assert (other.status, other.answer["error"]) == (1, "invalid_request")
