"""P-10 and Q15: after the whole run no log, metric, address or error holds what was used in it."""

import base64
from urllib.parse import quote

import httpx2
import pytest

from tests.support import spill
from tests.support.citizen import Citizen, synthetic_number
from tests.support.servers import YimenServer

NEVER_SHOWN = ("number", "credit code", "password", "contact", "secret", "cookie", "token")


@pytest.mark.last
def test_no_log_of_the_run_holds_a_number_password_or_token(
    citizen: Citizen, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All servers of the run wrote below one folder. `citizen` sees to it that something was used."""
    used, logs = spill.used(), list(spill.logs(tmp_path_factory.getbasetemp()))
    assert citizen.number in used["number"]
    assert any(content for _, content in logs)
    assert spill.search(used, logs) == []


@pytest.mark.last
def test_no_address_and_no_error_of_the_run_holds_a_number_password_or_token(citizen: Citizen) -> None:
    """A code travels in the address of its relying party, as OAuth wants; nothing else may."""
    used = {kind: values for kind, values in spill.used().items() if kind in NEVER_SHOWN}
    shown = "\n".join(text for _, text in spill.seen())
    assert spill.search(used, [("address or error", shown.encode())]) == []


@pytest.mark.last
def test_no_metric_of_the_run_holds_a_number_password_or_token(server: YimenServer) -> None:
    answer = httpx2.get(f"{server.url}/metrics", trust_env=False, timeout=20)
    assert answer.status_code == 200
    assert spill.search(spill.used(), [("metrics", answer.content)]) == []


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "号"])
def test_search_finds_a_value_however_it_is_written(before: str) -> None:
    number = synthetic_number(1)
    text = f"{before}{number}".encode()
    for written in (text, quote(text).encode(), base64.b64encode(text), base64.urlsafe_b64encode(text + b"??>")):
        found = spill.search({"number": {number}}, [("log", b'{"x": "' + written + b'"}')])
        assert found == ["number in log"] * len(found)
        assert found
    assert spill.search({"number": {number}}, [("log", number[:-1].encode())]) == []


def test_search_finds_a_password_with_blanks_raw_and_encoded() -> None:
    password = "correct horse 电池 staple"
    for written in (password.encode(), quote(password, safe="").encode(), base64.b64encode(password.encode())):
        assert spill.search({"password": {password}}, [("log", b"x " + written)])
