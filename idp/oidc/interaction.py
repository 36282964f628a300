"""Interaction: a paused authorization request, and the pure decision of what must happen next.

The state of a flow lives here and not in the browser; it belongs to the browser that began it. Losing it only ever
means that the person begins again.
"""

import secrets
from collections.abc import Sequence
from uuid import UUID

import msgspec

from idp.authn import METHODS
from idp.context import Context
from idp.errors import InteractionExpired
from idp.oidc import requested
from idp.oidc.requested import Requested
from idp.oidc.store import ConsentRow, SessionRow

LIFE_SECONDS = 1_800
MOST = max(method.level for method in METHODS.values())  # the level that signing in can prove here


class Interaction(msgspec.Struct, kw_only=True):
    """What a client asked for, validated, and how far the person has come with it."""

    id: str
    browser: str  # hash of the browser cookie; "" until the first visit, since a cross-site POST carries no cookie
    client_id: str
    redirect_uri: str
    scope: str
    state: str | None = None
    nonce: str | None = None
    code_challenge: str | None = None
    prompt: tuple[str, ...] = ()
    max_age: int | None = None
    response_mode: str = "query"
    requested: Requested = Requested()
    hint_subject: str | None = None
    login_hint: str = ""
    ui_locales: str = ""
    # progress, and the session whose progress it is: nobody profits from what another person did in this browser
    session: UUID | None = None
    authenticated: bool = False  # this very request has seen a login
    acting_chosen: bool = False
    mandate_id: UUID | None = None
    preferred_mandate: UUID | None = None  # of the credit code typed at sign-in: offered first, never taken as chosen
    consented: str | None = None  # scope agreed to in this very request
    denied: bool = False

    @property
    def consent_scope(self) -> str:
        """What the person is asked to agree to: the scopes asked for, and those that hold the claims named."""
        return " ".join(dict.fromkeys([*self.scope.split(), *self.requested.scope.split()]))


class Login(msgspec.Struct, frozen=True):
    """The person must sign in. `reason` is "", "prompt_login", "max_age" or "level"."""

    reason: str = ""


class ChooseActing(msgspec.Struct, frozen=True):
    """The person must say for whom they act."""


class AskConsent(msgspec.Struct, frozen=True):
    """The person must agree to `scope`."""

    scope: str


class Refuse(msgspec.Struct, frozen=True):
    """The client gets an error redirect."""

    error: str
    description: str


class Issue(msgspec.Struct, frozen=True):
    """The client gets a code. `level` is what it is told as `acr`."""

    scope: str
    level: int
    mandate_id: UUID | None


Step = Login | ChooseActing | AskConsent | Refuse | Issue


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was loaded for a decision."""

    session: SessionRow | None  # a live one, of an active account
    subject: str | None  # `sub` of that account at this client
    consent: ConsentRow | None
    terms_hold: bool = True  # what the consent was given to is what the client has registered now
    mandates: Sequence[UUID]  # in force for this account
    last_mandate: tuple[UUID | None] | None  # what was chosen at this client in this session, if anything
    now: int


def begin_for(asked: Interaction, session: UUID) -> None:
    """From here on the progress is this session's; another session's progress is dropped."""
    if asked.session != session:
        asked.session, asked.authenticated, asked.acting_chosen, asked.denied = session, False, False, False
        asked.mandate_id = asked.preferred_mandate = asked.consented = None


def decide(asked: Interaction, facts: Facts) -> Step:
    """The next step of an authorization request (OIDC Core section 3.1.2). No input or output."""
    if facts.session is not None and asked.session != facts.session.id:
        asked = msgspec.structs.replace(asked)
        begin_for(asked, facts.session.id)
    if asked.denied:
        return Refuse("access_denied", "the person did not agree")
    silent = "none" in asked.prompt
    if asked.authenticated and asked.hint_subject not in (None, facts.subject):
        return Refuse("login_required", "another person signed in than the client speaks of")
    reason = _login_reason(asked, facts)
    if reason is not None:
        return Refuse("login_required", "the person must sign in") if silent else Login(reason)
    level = _level(asked, facts, silent=silent)
    if not isinstance(level, int):
        return level
    capacity = _capacity(asked, facts, silent=silent)
    if isinstance(capacity, ChooseActing):
        return Refuse("interaction_required", "the person must choose a capacity") if silent else capacity
    missing = _must_ask(asked, facts)
    if missing:
        return Refuse("consent_required", "the person must agree") if silent else AskConsent(asked.consent_scope)
    return Issue(asked.scope, level, capacity)


def _login_reason(asked: Interaction, facts: Facts) -> str | None:
    """Why a login is needed, None when the session will do."""
    if facts.session is None:
        return ""
    if asked.hint_subject is not None and asked.hint_subject != facts.subject:
        return ""  # somebody else is signed in than the client speaks of
    if asked.authenticated:
        return None
    if "login" in asked.prompt or "select_account" in asked.prompt:
        return "prompt_login"
    if asked.max_age is not None and facts.now - facts.session.auth_time > asked.max_age:
        return "max_age"
    return None


def _level(asked: Interaction, facts: Facts, *, silent: bool) -> int | Login | Refuse:
    """The level to tell the client (OIDC Core section 5.5.1.1): one of the wished ones where that is true.

    A wish that the session does not reach but the person can leads to a new login once; an essential one that the
    person cannot reach ends in the error of its own.
    """
    session, wished = facts.session, asked.requested
    if session is None:
        return Login()
    reached = min(session.level, session.account_level)
    told = requested.told_level(wished.levels, reached)
    if told is not None:
        return told
    can_reach = requested.told_level(wished.levels, min(session.account_level, MOST)) is not None
    if can_reach and not asked.authenticated and not silent:
        return Login("level")
    if wished.essential:
        return Refuse("unmet_authentication_requirements", "the person has none of the levels asked for")
    return reached


def _capacity(asked: Interaction, facts: Facts, *, silent: bool) -> UUID | ChooseActing | None:
    """The mandate to act under, None for oneself. A choice counts only while its mandate is in force."""
    if "organization" not in asked.scope.split():
        return None
    if asked.acting_chosen and (asked.mandate_id is None or asked.mandate_id in facts.mandates):
        return asked.mandate_id
    if asked.acting_chosen:
        return ChooseActing()  # what was chosen is no longer in force, and never silently becomes oneself
    if not facts.mandates:
        return None
    if silent and facts.last_mandate is not None:
        last = facts.last_mandate[0]
        if last is None or last in facts.mandates:
            return last
    return ChooseActing()


def _must_ask(asked: Interaction, facts: Facts) -> bool:
    if asked.consented == asked.consent_scope:
        return False
    if "consent" in asked.prompt:
        return True
    remembered = facts.consent
    if remembered is None or remembered.expires_at <= facts.now or not facts.terms_hold:
        return True
    return not set(asked.consent_scope.split()) <= set(remembered.scope.split())


def new_id() -> str:
    return secrets.token_urlsafe(24)


# --- where paused interactions wait


def _key(interaction_id: str) -> str:
    return f"interaction:{interaction_id}"


async def save(context: Context, interaction: Interaction) -> None:
    await context.ephemeral.put(_key(interaction.id), msgspec.json.encode(interaction), LIFE_SECONDS)


async def keep(context: Context, interaction: Interaction) -> None:
    """Save progress. Raises InteractionExpired when the request was used up meanwhile: it must not come back."""
    raw = msgspec.json.encode(interaction)
    if not await context.ephemeral.replace(_key(interaction.id), raw, LIFE_SECONDS):
        raise InteractionExpired(detail="used up meanwhile")


async def load(context: Context, interaction_id: str, browser: str, *, unbound: bool = False) -> Interaction:
    """The paused request. Raises InteractionExpired when it is gone or belongs to another browser.

    A request that came by a cross-site POST belongs to no browser yet; only the step that binds it asks for `unbound`.
    Until then nobody can have made progress with it.
    """
    if not 20 <= len(interaction_id) <= 64 or not interaction_id.isascii():
        raise InteractionExpired()
    raw = await context.ephemeral.get(_key(interaction_id))
    if raw is None:
        raise InteractionExpired()
    interaction = msgspec.json.decode(raw, type=Interaction)
    if not interaction.browser and unbound:
        return interaction
    if not interaction.browser or not secrets.compare_digest(interaction.browser, browser):
        raise InteractionExpired(detail="another browser")
    return interaction


async def end(context: Context, interaction_id: str) -> bool:
    """Use the paused request up. False when somebody did before."""
    return await context.ephemeral.pop(_key(interaction_id)) is not None
