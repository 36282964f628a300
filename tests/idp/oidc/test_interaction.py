"""The decision of an authorization request, case by case, without a store."""

from uuid import uuid4

import pytest

from idp.oidc.interaction import AskConsent, ChooseActing, Facts, Interaction, Issue, Login, Refuse, decide
from idp.oidc.requested import Requested
from idp.oidc.store import ConsentRow, SessionRow

NOW = 1_800_000_000
MANDATE = uuid4()
SESSION = SessionRow(uuid4(), uuid4(), NOW - 100, 3, "pwd", NOW, NOW + 1000, None, "active", 3)
CONSENT = ConsentRow("openid profile organization", NOW + 1000)


def asked(**changes: object) -> Interaction:
    base = {"id": "i", "browser": "", "client_id": "c", "redirect_uri": "https://rp.test/cb", "scope": "openid"}
    base["session"] = SESSION.id  # type: ignore[assignment]
    return Interaction(**{**base, **changes})  # type: ignore[arg-type]


def facts(**changes: object) -> Facts:
    base = {
        "session": SESSION,
        "subject": "sub",
        "consent": CONSENT,
        "mandates": (),
        "last_mandate": None,
        "now": NOW,
    }
    return Facts(**{**base, **changes})  # type: ignore[arg-type]


NOBODY = facts(session=None, subject=None, consent=None)


@pytest.mark.parametrize(
    ("request_", "known", "step"),
    [
        (asked(), facts(), Issue("openid", 3, None)),
        (asked(), NOBODY, Login("")),
        (asked(prompt=("none",)), NOBODY, Refuse("login_required", "the person must sign in")),
        (asked(prompt=("login",)), facts(), Login("prompt_login")),
        (asked(prompt=("select_account",)), facts(), Login("prompt_login")),
        (asked(prompt=("login",), authenticated=True), facts(), Issue("openid", 3, None)),
        (asked(max_age=99), facts(), Login("max_age")),
        (asked(max_age=100), facts(), Issue("openid", 3, None)),
        (asked(max_age=0), facts(), Login("max_age")),
        (asked(max_age=0, authenticated=True), facts(), Issue("openid", 3, None)),
        (asked(max_age=1, prompt=("none",)), facts(), Refuse("login_required", "the person must sign in")),
        (asked(hint_subject="sub"), facts(), Issue("openid", 3, None)),
        (asked(hint_subject="other"), facts(), Login("")),
        (asked(hint_subject="", prompt=("none",)), facts(), Refuse("login_required", "the person must sign in")),
        (asked(scope="openid email"), facts(), AskConsent("openid email")),
        (asked(scope="openid email", consented="openid email"), facts(), Issue("openid email", 3, None)),
        (asked(scope="openid email", consented="openid"), facts(), AskConsent("openid email")),
        (asked(), facts(consent=None), AskConsent("openid")),
        (asked(), facts(consent=ConsentRow("openid", NOW)), AskConsent("openid")),
        (asked(), facts(terms_hold=False), AskConsent("openid")),
        (asked(consented="openid"), facts(terms_hold=False), Issue("openid", 3, None)),
        (
            asked(prompt=("none",)),
            facts(terms_hold=False),
            Refuse("consent_required", "the person must agree"),
        ),
        (asked(prompt=("consent",)), facts(), AskConsent("openid")),
        (asked(prompt=("consent",), consented="openid"), facts(), Issue("openid", 3, None)),
        (
            asked(prompt=("none",)),
            facts(consent=None),
            Refuse("consent_required", "the person must agree"),
        ),
        (asked(denied=True), facts(), Refuse("access_denied", "the person did not agree")),
        (asked(scope="openid organization"), facts(), Issue("openid organization", 3, None)),
        (asked(scope="openid organization"), facts(mandates=[MANDATE]), ChooseActing()),
        (
            asked(scope="openid organization", acting_chosen=True, mandate_id=MANDATE),
            facts(mandates=[MANDATE]),
            Issue("openid organization", 3, MANDATE),
        ),
        (
            asked(scope="openid organization", acting_chosen=True),
            facts(mandates=[MANDATE]),
            Issue("openid organization", 3, None),
        ),
        (
            asked(scope="openid organization", acting_chosen=True, mandate_id=uuid4()),
            facts(mandates=[MANDATE]),
            ChooseActing(),
        ),
        (asked(scope="openid organization", acting_chosen=True, mandate_id=MANDATE), facts(), ChooseActing()),
        (asked(consented="openid email", scope="openid email", session=uuid4()), facts(), AskConsent("openid email")),
        (asked(prompt=("login",), authenticated=True, session=uuid4()), facts(), Login("prompt_login")),
        (asked(denied=True, session=uuid4()), facts(), Issue("openid", 3, None)),
        (
            asked(scope="openid organization", prompt=("none",)),
            facts(mandates=[MANDATE]),
            Refuse("interaction_required", "the person must choose a capacity"),
        ),
        (
            asked(scope="openid organization", prompt=("none",)),
            facts(mandates=[MANDATE], last_mandate=(MANDATE,)),
            Issue("openid organization", 3, MANDATE),
        ),
        (
            asked(scope="openid organization", prompt=("none",)),
            facts(mandates=[MANDATE], last_mandate=(uuid4(),)),
            Refuse("interaction_required", "the person must choose a capacity"),
        ),
    ],
)
def test_decide_returns_the_next_step(request_: Interaction, known: Facts, step: object) -> None:
    assert decide(request_, known) == step


def wishes(*levels: int, essential: bool = False, **changes: object) -> Interaction:
    return asked(requested=Requested(levels=levels, essential=essential), **changes)


LOW = SESSION._replace(level=2)  # the account has risen to 3 since
UNMET = Refuse("unmet_authentication_requirements", "the person has none of the levels asked for")


@pytest.mark.parametrize(
    ("request_", "known", "step"),
    [
        (wishes(3), facts(), Issue("openid", 3, None)),
        (wishes(2), facts(), Issue("openid", 2, None)),  # a level holds all below it
        (wishes(5, 2), facts(), Issue("openid", 2, None)),
        (wishes(5), facts(), Issue("openid", 3, None)),  # a wish never fails
        (wishes(5, essential=True), facts(), UNMET),
        (wishes(essential=True), facts(), UNMET),  # none of the values is known here
        (wishes(3), facts(session=LOW), Login("level")),
        (wishes(3, essential=True), facts(session=LOW), Login("level")),
        (wishes(3, authenticated=True), facts(session=LOW), Issue("openid", 2, None)),
        (wishes(3, essential=True, authenticated=True), facts(session=LOW), UNMET),
        (wishes(3, prompt=("none",)), facts(session=LOW), Issue("openid", 2, None)),
        (wishes(3, essential=True, prompt=("none",)), facts(session=LOW), UNMET),
    ],
)
def test_decide_levels_wished_for(request_: Interaction, known: Facts, step: object) -> None:
    assert decide(request_, known) == step


def test_decide_named_claims_need_the_consent_of_their_scope() -> None:
    named = Requested(userinfo=("email",))
    assert decide(asked(requested=named), facts()) == AskConsent("openid email")
    assert decide(asked(requested=named, consented="openid email"), facts()) == Issue("openid", 3, None)
    assert decide(asked(requested=named, consented="openid"), facts()) == AskConsent("openid email")


def test_decide_hint_of_another_person_after_login_is_refused() -> None:
    step = decide(asked(hint_subject="other", authenticated=True), facts())
    assert isinstance(step, Refuse)
    assert step.error == "login_required"
