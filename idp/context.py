"""Context: what every subject receives. The stores and keys of this process, and the facts of one request."""

import dataclasses
import secrets
from dataclasses import dataclass

from idp.config import Config
from idp.database import Database
from idp.encryption import Vault
from idp.ephemeral import Ephemeral
from idp.keys import KeyRing
from idp.outgoing import Outgoing

CHANNELS = ("web_hall", "counter", "kiosk", "mobile", "hotline", "service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One per process (`for_process`), and from it one per request with the request's facts filled in."""

    config: Config
    database: Database
    ephemeral: Ephemeral
    vault: Vault
    keys: KeyRing
    outgoing: Outgoing
    request_id: str = "-"
    channel: str = "service"
    address: str = ""
    user_agent: str = ""
    locale: str = "zh-CN"
    actor: str = ""  # who acts when it is not the person concerned: an operator's command

    def now(self) -> int:
        """Epoch seconds by the clock of the database."""
        return self.database.now()

    def url(self, path: str) -> str:
        """An absolute address of this server, built from the issuer and never from a request."""
        return self.config.issuer + path

    def with_request(self, *, request_id: str, channel: str, address: str, user_agent: str, locale: str) -> "Context":
        return dataclasses.replace(
            self,
            request_id=request_id,
            channel=channel,
            address=address,
            user_agent=user_agent,
            locale=locale,
        )


def new_request_id() -> str:
    """Ninety random bits, readable out loud: the reference on an error page is this."""
    text = secrets.token_hex(6)
    return "-".join((text[:4], text[4:8], text[8:]))
