"""Vault: personal fields sealed with AES-256-GCM and found by a keyed blind index; all keys come from a master key.

The master key file holds one line for each version: the number, a blank, 32 bytes in Base64. The highest version
seals; every version opens.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from idp.errors import ConfigError, YimenError

LAST_VERSION = 65_535  # two bytes before each sealed field
_LINE = re.compile(r"([1-9][0-9]{0,4}) ([A-Za-z0-9+/]{43}=)")


class MasterKeyError(ConfigError):
    """The master key file is missing, malformed, readable by others, or does not fit the database."""


class SealBroken(YimenError):
    """A sealed field was changed, moved to another row, or sealed under a key that is not there."""


class Vault:
    """Seals and finds personal fields. `masters` maps a version to 32 bytes; the highest version seals."""

    def __init__(self, masters: dict[int, bytes]) -> None:
        self._masters = masters
        self._current = max(masters)
        self._key = lru_cache(maxsize=512)(self._derive)  # one cache for each vault

    @classmethod
    def open(cls, path: Path, *, create: bool) -> "Vault":
        """The vault of a master key file. Raises MasterKeyError with one line; `create` makes a missing file."""
        if create and not path.exists():
            _create(path)
        try:
            with path.open(encoding="ascii") as file:
                mode, text = os.fstat(file.fileno()).st_mode, file.read()
        except (OSError, UnicodeDecodeError):
            raise MasterKeyError(f"the master key file {path} is missing or cannot be read") from None
        if mode & 0o077:
            raise MasterKeyError(f"the master key file {path} may be read by others; run: chmod 600 {path}")
        return cls(_parse(path, text))

    def _derive(self, version: int, purpose: str) -> bytes:
        return HKDF(hashes.SHA256(), 32, None, f"yimen {purpose}".encode()).derive(self._masters[version])

    # Indexes, subjects and handles stay under the lowest version, the first line of the file: what was written under
    # an older key must stay findable while the fields are sealed anew, and a version that is added changes no subject.

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose."""
        return self._key(min(self._masters), f"purpose {purpose}")

    @property
    def version(self) -> int:
        """The version that seals now."""
        return self._current

    def derive_at(self, version: int, purpose: str) -> bytes:
        """A key for one purpose under a named version, for what records that version. Raises MasterKeyError."""
        if version not in self._masters:
            raise MasterKeyError(f"version {version} of the master key is not in its file")
        return self._key(version, f"purpose {purpose}")

    def fingerprint(self) -> str:
        """Sixteen hex digits by which a database knows its master key, and which tell nothing about it."""
        return self.derive("fingerprint").hex()[:16]

    def seal(self, table: str, column: str, row: UUID, text: str) -> bytes:
        """Version (2 bytes), nonce (12), ciphertext and tag: bound to this table, column and row."""
        nonce = secrets.token_bytes(12)
        key = AESGCM(self._key(self._current, f"table {table}"))
        sealed = key.encrypt(nonce, text.encode(), f"{table}.{column}.{row}".encode())
        return self._current.to_bytes(2, "big") + nonce + sealed

    def unseal(self, table: str, column: str, row: UUID, blob: bytes) -> str:
        """The text of a sealed field. Raises SealBroken."""
        try:
            key = AESGCM(self._key(int.from_bytes(blob[:2], "big"), f"table {table}"))
            return key.decrypt(blob[2:14], blob[14:], f"{table}.{column}.{row}".encode()).decode()
        except (InvalidTag, KeyError, ValueError):
            raise SealBroken(detail=f"{table}.{column}") from None

    def blind_index(self, column: str, value: str) -> bytes:
        """What a value of this column is found by: HMAC-SHA256 under a key of the column's own."""
        return hmac.new(self.derive(f"index {column}"), f"{column}\0{value}".encode(), hashlib.sha256).digest()


def _parse(path: Path, text: str) -> dict[int, bytes]:
    """The keys of a master key file by version. Errors name the line and never show it."""
    masters: dict[int, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found = _LINE.fullmatch(line)
        if found is None or int(found[1]) > LAST_VERSION or int(found[1]) in masters:
            raise MasterKeyError(f"the master key file {path} is malformed in line {number}")
        masters[int(found[1])] = base64.b64decode(found[2])
    if not masters:
        raise MasterKeyError(f"the master key file {path} is empty")
    return masters


def _create(path: Path) -> None:
    """A new master key, readable by its owner alone. Of two starts at once one makes it.

    It is on the disk before anything is sealed: whatever was sealed under a key that a power cut took is lost.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"1 {base64.b64encode(secrets.token_bytes(32)).decode()}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise MasterKeyError(f"the master key file {path} cannot be created: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
