"""Logout: what a relying party may ask for (RP-Initiated Logout 1.0) and is told (Back-Channel Logout 1.0)."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from idp.context import Context
from idp.deliveries import Claimed
from idp.errors import InvalidInput
from idp.http.request import Request
from idp.oidc import client, guard, profiles, store, tokens
from idp.oidc.client import RelyingParty

EVENT = "http://schemas.openid.net/event/backchannel-logout"
TOKEN_SECONDS = 120


class WrongReturn(InvalidInput):
    """post_logout_redirect_uri is not registered for this client: shown here, never followed."""

    code = "invalid_request"


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """A checked request. `return_to` is where the browser may go afterwards, "" for our own page."""

    party: RelyingParty | None = None
    return_to: str = ""
    state: str | None = None
    hinted_subject: str = ""  # of a genuine hint; such a request needs no confirmation by that person

    @property
    def parameters(self) -> dict[str, str]:
        """What the confirmation form carries, to be checked again when it comes back."""
        found = {"client_id": self.party.client_id if self.party else "", "state": self.state or ""}
        return {name: value for name, value in {**found, "post_logout_redirect_uri": self.return_to}.items() if value}


def read(context: Context, request: Request, db: Session) -> LogoutRequest:
    """Check a logout request. Raises WrongReturn, InvalidInput.

    Without a client that can be told for sure (by a genuine hint, or by client_id) there is no redirect at all; a
    hint that is not ours counts for nothing, and then neither does the address beside it.
    """
    parameters = guard.check_parameters(request.form if request.method == "POST" else request.query)
    hint = parameters.get("id_token_hint")
    claims = context.keys.verify(hint, typ="JWT") if hint else None
    if hint and (claims is None or claims.get("iss") != context.config.issuer):
        return LogoutRequest()
    client_id = parameters.get("client_id", str(claims["aud"]) if claims else "")
    if claims and claims["aud"] != client_id:
        raise WrongReturn(detail="the hint is another client's")
    party = find_client(context, db, client_id) if client_id else None
    return_to = parameters.get("post_logout_redirect_uri", "")
    if party is None or not party.active:
        return LogoutRequest()
    if return_to and return_to not in party.metadata.get("post_logout_redirect_uris", ()):
        raise WrongReturn(detail="post_logout_redirect_uri")
    return LogoutRequest(party, return_to, parameters.get("state"), str(claims["sub"]) if claims else "")


def find_client(context: Context, db: Session, client_id: str) -> RelyingParty | None:
    """The client by its id, on a page's session."""
    return client.build(store.CLIENT.run(db, client=client_id), context.now())


def build_notice(context: Context, delivery: Claimed) -> Mapping[str, str]:
    """The form of a back-channel logout notice: a fresh logout token (Back-Channel Logout section 2.4)."""
    metadata: dict[str, Any] = json.loads(delivery.metadata_json)
    party = RelyingParty(
        client_id=delivery.client_id,
        status="active",
        profile=profiles.PROFILES["baseline"],
        sector=delivery.sector,
        metadata=metadata,
        secret_hashes=(),
        guarded=frozenset(),
    )
    now = context.now()
    claims = {
        "iss": context.config.issuer,
        "aud": delivery.client_id,
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "jti": secrets.token_urlsafe(16),
        "sub": tokens.subject(context.vault, party, delivery.account_id),
        "sid": tokens.session_id(context.vault, delivery.client_id, delivery.session_id),
        "events": {EVENT: {}},
    }
    return {"logout_token": context.keys.sign(claims, typ="logout+jwt", algorithm=party.algorithm)}
