"""Sealed fields belong to their row; a wrong or careless master key is refused in one line."""

import stat
from pathlib import Path
from uuid import uuid4

import pytest

from idp.encryption import MasterKeyError, SealBroken, Vault

ROW = uuid4()


@pytest.fixture
def vault() -> Vault:
    return Vault({1: b"\1" * 32})


def test_seal_opens_only_in_its_place(vault: Vault) -> None:
    blob = vault.seal("accounts", "name", ROW, "张三")
    assert "张三".encode() not in blob
    assert vault.seal("accounts", "name", ROW, "张三") != blob
    assert vault.unseal("accounts", "name", ROW, blob) == "张三"
    for place in (("accounts", "phone", ROW), ("contacts", "name", ROW), ("accounts", "name", uuid4())):
        with pytest.raises(SealBroken):
            vault.unseal(*place, blob)


def test_seal_changed_is_broken(vault: Vault) -> None:
    blob = vault.seal("t", "c", ROW, "x")
    for broken in (b"", blob[:5], blob[:-1], b"\0\2" + blob[2:], blob[:-1] + bytes([blob[-1] ^ 1])):
        with pytest.raises(SealBroken):
            vault.unseal("t", "c", ROW, broken)


def test_blind_index_differs_by_column_and_key(vault: Vault) -> None:
    assert vault.blind_index("number", "1") == vault.blind_index("number", "1")
    assert vault.blind_index("number", "1") != vault.blind_index("phone", "1")
    assert vault.blind_index("number", "1") != Vault({1: b"\2" * 32}).blind_index("number", "1")


def test_second_version_seals_and_the_first_still_opens(vault: Vault) -> None:
    both = Vault({1: b"\1" * 32, 2: b"\2" * 32})
    assert both.unseal("t", "c", ROW, vault.seal("t", "c", ROW, "x")) == "x"
    with pytest.raises(SealBroken):
        vault.unseal("t", "c", ROW, both.seal("t", "c", ROW, "x"))
    assert both.blind_index("n", "1") == vault.blind_index("n", "1")


def test_open_creates_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "master.key"
    made = Vault.open(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Vault.open(path, create=True).fingerprint() == made.fingerprint()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "1", "1 x", "one AAAA", "1 AAAA", "\u4f60"])
def test_open_malformed_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(MasterKeyError):
        Vault.open(path, create=False)


def test_open_missing_or_readable_by_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    with pytest.raises(MasterKeyError, match="missing"):
        Vault.open(path, create=False)
    Vault.open(path, create=True)
    path.chmod(0o644)
    with pytest.raises(MasterKeyError, match="chmod"):
        Vault.open(path, create=False)
