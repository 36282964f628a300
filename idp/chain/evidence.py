"""Reading anchors back: which of those in the database and in a file of anchors can be believed."""

import hmac
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from sqlalchemy import select
from sqlalchemy.orm import Session

from idp.chain.anchors import ALGORITHM, TYPE
from idp.chain.links import Place, mac_of
from idp.encryption import MasterKeyError, Vault
from idp.errors import InvalidInput
from idp.keys import TOKEN_LIMIT, unb64
from idp.models import AuditAnchor, SigningKey

LINE_LIMIT = 65_536  # characters of one line in a file of anchors


class Told(NamedTuple):
    """What a statement says, when the master key proves it. `signed` is None where the signing key is not known."""

    kind: str
    place: Place
    at: int
    signed: bool | None


class Reader:
    """Checks statements by the master key, and their signatures by every signing key that the database remembers."""

    def __init__(self, vault: Vault, session: Session) -> None:
        self._vault = vault
        rows = session.execute(select(SigningKey.kid, SigningKey.public_jwk).where(SigningKey.algorithm == ALGORITHM))
        self._keys = {kid: _public_key(json.loads(jwk)) for kid, jwk in rows}

    def read(self, statement: str) -> Told | None:
        """What an anchor's statement tells, None when it was changed, is none, or cannot be proven."""
        try:
            if len(statement) > TOKEN_LIMIT:
                return None
            signed, _, signature = statement.rpartition(".")
            header, claims = (json.loads(unb64(part)) for part in signed.split("."))
            place = Place(int(claims["sequence"]), bytes.fromhex(claims["hash"]))
            version, at, kind, mac = claims["key_version"], claims["iat"], claims["kind"], claims["mac"]
            if header["typ"] != TYPE or header["alg"] != ALGORITHM:
                return None
            if not self.proves(int(version), str(kind), place, int(at), bytes.fromhex(mac)):
                return None
            return Told(kind, place, at, self._check(str(header["kid"]), signed, unb64(signature)))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def proves(self, version: int, kind: str, place: Place, at: int, mac: bytes, *more: int) -> bool:
        """Whether this `mac` was made by the holder of the master key; no, when its root key is not known here."""
        try:
            return hmac.compare_digest(mac_of(self._vault, version, kind, place, at, *more), mac)
        except MasterKeyError:
            return False

    def _check(self, kid: str, signed: str, signature: bytes) -> bool | None:
        key = self._keys.get(kid)
        if key is None:
            return None
        if len(signature) != 64:
            return False
        pair = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        try:
            key.verify(pair, signed.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def _public_key(jwk: dict[str, Any]) -> ec.EllipticCurvePublicKey:
    x, y = (int.from_bytes(unb64(jwk[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


class Evidence(NamedTuple):
    """All anchors that can be believed, and what is wrong with the others."""

    hashes: dict[int, bytes]  # by number; the only thing of verification that grows, by one entry for each anchor
    checkpoint: Place | None
    read: int
    unsigned: int
    bad: list[str]


def gather(reader: Reader, session: Session, files: Iterable[Path]) -> Evidence:
    """The anchors of the database and of files. Raises InvalidInput for a file that is none."""
    found: dict[int, bytes] = {}
    bad: list[str] = []
    checkpoint: Place | None = None
    read = unsigned = 0
    for source, told in _all(reader, session, files):
        read += 1
        if told is None or told.signed is False:
            bad.append(f"{source} was changed or cannot be proven")
            continue
        unsigned += told.signed is None
        if found.setdefault(told.place.sequence, told.place.hash) != told.place.hash:
            bad.append(f"{source} contradicts another anchor of record {told.place.sequence}")
        elif told.kind == "checkpoint" and source.startswith("checkpoint"):
            checkpoint = max(checkpoint or told.place, told.place)
    return Evidence(found, checkpoint, read, unsigned, bad)


def _all(reader: Reader, session: Session, files: Iterable[Path]) -> Iterator[tuple[str, Told | None]]:
    for row in session.scalars(select(AuditAnchor).order_by(AuditAnchor.sequence)):
        told = reader.read(row.statement)
        columns = (row.kind, Place(row.sequence, row.hash), row.at)
        same = told is not None and told[:3] == columns
        whole = same and reader.proves(row.key_version, *columns, row.mac)
        yield f"{row.kind} {row.sequence} in the database", told if whole else None
    for path in files:
        for number, line in _lines(path):
            yield f"line {number} of the file {path.name}", reader.read(_statement(path, number, line))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            number = 0
            while line := file.readline(LINE_LIMIT):
                number += 1
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError):
        raise InvalidInput("the file of anchors cannot be read") from None


def _statement(path: Path, number: int, line: str) -> str:
    """The statement of a line; what is readable beside it must say the same. Empty text for a changed line."""
    try:
        told = json.loads(line)
        return str(told["statement"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
