"""Our own words on the consent page belong to a version that agreements name."""

import hashlib
import json

from idp.oidc.terms import TEXT_VERSION
from idp.pages import words


def test_consent_words_are_those_of_their_version() -> None:
    """Whoever changes what a scope is said to be, raises TEXT_VERSION, so that people are asked again; then this."""
    text = json.dumps({scope: list(about) for scope, about in words.SCOPES.items()}, ensure_ascii=False, sort_keys=True)
    assert (TEXT_VERSION, hashlib.sha256(text.encode()).hexdigest()[:16]) == ("2026-11", "02bafacc03ac6cfd")
