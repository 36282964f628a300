"""Known devices: a browser in which a person has signed in stays open to them while others lock the account.

The cookie holds one sealed handle for each of the last few people; nothing is stored. A new password makes every
device a stranger again. A known device proves nobody: it only has a failure count of its own (lockout.py).
"""

import base64
import binascii
import secrets
from typing import NamedTuple
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from idp.context import Context

PEOPLE = 4  # a family's browser
LIFETIME_SECONDS = 400 * 86_400  # the longest that browsers keep a cookie


class KnownDevice(NamedTuple):
    """`account_id` signed in here at `at` (epoch seconds); `device_id` tells the person's devices apart."""

    account_id: UUID
    device_id: UUID
    at: int


def find(context: Context, cookie: str, account_id: UUID, not_before: int) -> UUID | None:
    """The device, when this account signed in there since `not_before` (the change of its password)."""
    return next(
        (
            known.device_id
            for known in _read(context, cookie)
            if known.account_id == account_id and max(not_before, context.now() - LIFETIME_SECONDS) <= known.at
        ),
        None,
    )


def remember(context: Context, cookie: str, account_id: UUID) -> str:
    """The cookie after this account has signed in; the person keeps the device they had."""
    known = _read(context, cookie)
    device = next((one.device_id for one in known if one.account_id == account_id), uuid4())
    others = [one for one in known if one.account_id != account_id]
    return ".".join(_seal(context, one) for one in [KnownDevice(account_id, device, context.now()), *others][:PEOPLE])


def _seal(context: Context, known: KnownDevice) -> str:
    facts, nonce = known.account_id.bytes + known.device_id.bytes + known.at.to_bytes(8, "big"), secrets.token_bytes(12)
    sealed = AESGCM(context.vault.derive("known device")).encrypt(nonce, facts, b"device")
    return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")


def _read(context: Context, cookie: str) -> list[KnownDevice]:
    """The handles that we sealed; anything else in the cookie counts for nothing."""
    return [known for part in cookie.split(".")[:PEOPLE] if (known := _open(context, part)) is not None]


def _open(context: Context, part: str) -> KnownDevice | None:
    if not 0 < len(part) <= 128 or not part.isascii():
        return None
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        facts = AESGCM(context.vault.derive("known device")).decrypt(raw[:12], raw[12:], b"device")
    except (InvalidTag, ValueError, binascii.Error):
        return None
    return KnownDevice(UUID(bytes=facts[:16]), UUID(bytes=facts[16:32]), int.from_bytes(facts[32:], "big"))
