"""Vault: personal fields sealed with AES-256-GCM and found by a keyed blind index; all keys come from a master key.

The master key file holds one line for each version: the number, a blank, 32 bytes in Base64. Every version opens;
which one seals is written in the database (`master_keys.py`), so that all workers change over together.

Two kinds of keys, so that the master key can be changed under way:

* **Sealed fields** hang on a version of the master key. Each blob begins with its version; `reseal.py` opens and
  seals it anew under the newest one, and nothing else about the row changes.
* **Derived keys** (blind indexes, subjects, token handles, form values) come from the *root key*, a data key that
  lies sealed in the database like any other field (envelope encryption, NIST SP 800-57 part 1, key wrapping). A new
  master key seals the root key anew and leaves its value alone. So a number stays findable and unique at every
  moment of a change, no `sub` changes, and what was issued before goes on working.

The root key of a new installation is random: whoever knows a removed master key and gets a later database learns
nothing from the two. An installation from before there was a root key adopts the one that its lowest version always
stood for, which keeps what it wrote valid; there that old version must be guarded as long as the database lives.
"""

import base64
import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from idp.errors import ConfigError, YimenError

log = logging.getLogger(__name__)

LEASE_SECONDS = 10  # how long a process seals without asking which version seals
ROOT_VERSION = 1  # of the root key
LAST_VERSION = 65_535  # two bytes before each sealed field
_LINE = re.compile(r"([1-9][0-9]{0,4}) ([A-Za-z0-9+/]{43}=)")


class MasterKeyError(ConfigError):
    """The master key file is missing, malformed, readable by others, or does not fit the database."""


class SealBroken(YimenError):
    """A sealed field was changed, moved to another row, or sealed under a key that is not there."""


class Vault:
    """Seals and finds personal fields. `masters` maps a version of the master key to 32 bytes.

    Without a `root` the one that the lowest version stands for, without `sealing` the highest version.
    """

    def __init__(
        self,
        masters: Mapping[int, bytes],
        *,
        root: bytes | None = None,
        sealing: int | None = None,
        path: Path | None = None,
    ) -> None:
        self._masters, self._path, self._read_at = dict(masters), path, time.monotonic()
        self._root = root or self.root_of_lowest()
        self._sealing, self._confirmed_at = sealing or max(self._masters), time.monotonic()
        self.ask: Callable[[], None] | None = None  # reads the sealing version anew, and calls `confirm`
        self._derived = lru_cache(maxsize=512)(self._derive)  # one cache for each vault
        self._sealing_key = lru_cache(maxsize=512)(self._derive_sealing)

    @classmethod
    def open(cls, path: Path, *, create: bool) -> "Vault":
        """The vault of a master key file. Raises MasterKeyError with one line; `create` makes a missing file."""
        if create and not path.exists():
            _create(path)
        return cls(read_masters(path), path=path)

    # --- derived keys, from the root key

    def root_of_lowest(self) -> bytes:
        """The root key of an installation from before root keys were written down."""
        return _extract(self._masters[min(self._masters)])

    def adopt(self, root: bytes) -> None:
        """Derive from this root key from now on."""
        self._root = root
        self._derived.cache_clear()

    def _derive(self, purpose: str) -> bytes:
        return HKDFExpand(hashes.SHA256(), 32, f"yimen purpose {purpose}".encode()).derive(self._root)

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose; the same under every version of the master key."""
        return self._derived(purpose)

    def derive_at(self, root_version: int, purpose: str) -> bytes:
        """A key for one purpose, for what records under which root key it was made. Raises MasterKeyError.

        There has been one root key so far; what outlives everything, as the audit does, says so for the day of a
        second one.
        """
        if root_version != ROOT_VERSION:
            raise MasterKeyError(f"root key {root_version} is not known here")
        return self.derive(purpose)

    def fingerprint(self) -> str:
        """Sixteen hex digits by which a database knows its root key, and which tell nothing about it."""
        return self.derive("fingerprint").hex()[:16]

    def blind_index(self, column: str, value: str) -> bytes:
        """What a value of this column is found by: HMAC-SHA256 under a key of the column's own."""
        return hmac.new(self.derive(f"index {column}"), f"{column}\0{value}".encode(), hashlib.sha256).digest()

    # --- versions of the master key

    @property
    def versions(self) -> list[int]:
        """The versions that this process knows, rising."""
        return sorted(self._masters)

    @property
    def sealing(self) -> int:
        """The version that seals."""
        return self._sealing

    def confirm(self, sealing: int) -> None:
        """This version seals, as far as the database knows right now. Raises MasterKeyError when it is not there."""
        if not self.knows(sealing):
            raise MasterKeyError(f"version {sealing} of the master key is not in the master key file {self._path}")
        self._sealing, self._confirmed_at = sealing, time.monotonic()

    def knows(self, version: int) -> bool:
        """Whether the version is there. An unknown one is looked for in the file, at most once in a second.

        A version that left the file stays known until the process ends: rows may still need it.
        """
        if version not in self._masters and self._path is not None and time.monotonic() - self._read_at > 1:
            self._read_at = time.monotonic()
            try:
                self._masters = read_masters(self._path) | self._masters
            except MasterKeyError as error:
                log.error("the master key file cannot be read again", extra={"fields": {"detail": error.message}})
        return version in self._masters

    def version_fingerprint(self, version: int) -> str:
        """Sixteen hex digits by which a database knows one version. Raises KeyError."""
        return HKDF(hashes.SHA256(), 32, None, b"yimen version").derive(self._masters[version]).hex()[:16]

    # --- sealed fields

    def _derive_sealing(self, version: int, table: str) -> AESGCM:
        return AESGCM(HKDF(hashes.SHA256(), 32, None, f"yimen table {table}".encode()).derive(self._masters[version]))

    def seal(self, table: str, column: str, row: UUID, text: str) -> bytes:
        """Version (2 bytes), nonce (12), ciphertext and tag: bound to this table, column and row.

        A process that has not looked for LEASE_SECONDS asks the database first which version seals; so none goes on
        sealing under a version that is being given up. Raises Unavailable when it cannot ask.
        """
        if self.ask is not None and time.monotonic() - self._confirmed_at > LEASE_SECONDS:
            self.ask()
        version, nonce = self._sealing, secrets.token_bytes(12)
        sealed = self._sealing_key(version, table).encrypt(nonce, text.encode(), f"{table}.{column}.{row}".encode())
        return version.to_bytes(2, "big") + nonce + sealed

    def unseal(self, table: str, column: str, row: UUID, blob: bytes) -> str:
        """The text of a sealed field. Raises SealBroken."""
        version = int.from_bytes(blob[:2], "big")
        if not self.knows(version):
            raise SealBroken(detail=f"{table}.{column}: version {version} of the master key is not there")
        try:
            key = self._sealing_key(version, table)
            return key.decrypt(blob[2:14], blob[14:], f"{table}.{column}.{row}".encode()).decode()
        except (InvalidTag, ValueError):
            raise SealBroken(detail=f"{table}.{column}") from None


def _extract(master: bytes) -> bytes:
    """The pseudorandom key of HKDF without salt (RFC 5869 section 2.2): leads nowhere back to the master key."""
    return hmac.new(bytes(32), master, hashlib.sha256).digest()


def read_masters(path: Path) -> dict[int, bytes]:
    """The keys of a master key file by version. Raises MasterKeyError with one line that never shows a key."""
    try:
        with path.open(encoding="ascii") as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read()
    except (OSError, UnicodeDecodeError):
        raise MasterKeyError(f"the master key file {path} is missing or cannot be read") from None
    if mode & 0o077:
        raise MasterKeyError(f"the master key file {path} may be read by others; run: chmod 600 {path}")
    return _parse(path, text)


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
