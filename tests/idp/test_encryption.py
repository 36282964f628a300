"""Sealed fields belong to their row; a wrong or careless master key is refused in one line."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from idp.encryption import MasterKeyError, SealBroken, Vault

ROW = uuid4()
KEY, OTHER_KEY = (base64.b64encode(byte * 32).decode() for byte in (b"\1", b"\2"))


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


def test_what_an_earlier_version_wrote_is_still_found_and_opened() -> None:
    vault = Vault({1: b"\1" * 32, 2: b"\2" * 32})
    assert vault.fingerprint() == "ead970f05c5ca663"
    assert vault.derive("csrf").hex() == "2c18e73d140f2e67720b62f971d7469f779ea853193483b881a76c62eaa8cab8"
    index = "6c58f95c9e89742171c4d6f409c96fc4af47a142240695804bb990cb1eeb9075"
    assert vault.blind_index("number 1", "x").hex() == index
    blob = bytes.fromhex("0001000000000000000000000000e842a5afe10287505d80cd3fa1259e1a02")
    assert vault.unseal("t", "c", UUID(int=7), blob) == "x"


def test_broken_seal_tells_where_and_not_what(vault: Vault) -> None:
    blob = vault.seal("accounts", "name", ROW, "secret")
    with pytest.raises(SealBroken) as broken:
        vault.unseal("accounts", "name", uuid4(), blob)
    assert broken.value.detail == "accounts.name"
    assert broken.value.__suppress_context__
    assert "secret" not in str(broken.value)


def test_open_creates_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "master.key"
    made = Vault.open(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Vault.open(path, create=True).fingerprint() == made.fingerprint()
    assert list(path.parent.iterdir()) == [path]


def test_open_of_many_at_once_makes_one_key(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Vault.open(path, create=True).fingerprint(), range(8)))
    assert len(set(made)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_open_reads_every_version_in_any_order(tmp_path: Path) -> None:
    path = write(tmp_path, f"65535 {OTHER_KEY}\n1 {KEY}\n")
    both, first = Vault.open(path, create=False), Vault({1: b"\1" * 32})
    assert both.seal("t", "c", ROW, "x")[:2] == b"\xff\xff"
    assert both.unseal("t", "c", ROW, first.seal("t", "c", ROW, "x")) == "x"
    assert both.fingerprint() == first.fingerprint()
    assert both.derive("csrf") == first.derive("csrf")


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "1 x",
        "one AAAA",
        "1 AAAA",
        "\u4f60",
        f"0 {KEY}",
        f"01 {KEY}",
        f"+1 {KEY}",
        f"1  {KEY}",
        f"1 {KEY} ",
        f"65536 {KEY}",
        f"1 {KEY}\n1 {OTHER_KEY}",
        f"1 {KEY}\n\n2 {OTHER_KEY}",
        f"1 {KEY}\n70000 {OTHER_KEY}",
    ],
)
def test_open_malformed_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(MasterKeyError) as refusal:
        Vault.open(path, create=False)
    assert str(path) in refusal.value.message
    assert "\n" not in refusal.value.message
    assert KEY not in refusal.value.message
    assert OTHER_KEY not in refusal.value.message


def test_open_malformed_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError, match=r"malformed in line 2$"):
        Vault.open(write(tmp_path, f"1 {KEY}\n2 AAAA\n"), create=False)
    with pytest.raises(MasterKeyError, match=r"is empty$"):
        Vault.open(write(tmp_path, ""), create=False)


def write(folder: Path, text: str) -> Path:
    path = folder / "master.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def test_open_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MasterKeyError, match="cannot be created"):
        Vault.open(tmp_path / "file" / "master.key", create=True)
    with pytest.raises(MasterKeyError, match="cannot be read"):
        Vault.open(tmp_path, create=False)


def test_open_missing_or_readable_by_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    with pytest.raises(MasterKeyError, match="missing"):
        Vault.open(path, create=False)
    Vault.open(path, create=True)
    for mode in (0o640, 0o604, 0o620, 0o601):
        path.chmod(mode)
        with pytest.raises(MasterKeyError, match="chmod 600"):
            Vault.open(path, create=False)
