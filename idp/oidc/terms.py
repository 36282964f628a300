"""Terms: what a consent page tells about a client, as a document with a version, and what changed between two.

The document is the same in every language of the page, and the version is its SHA-256. A consent that was given to
other terms than those of today does not count: the person is asked again and told what changed (PIPL article 14).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idp.oidc.client import RelyingParty
from idp.oidc.profiles import SCOPES

TEXT_VERSION = "2026-11"
"""Names our own words on the consent page. Whoever changes the meaning of those words changes this, and everybody is
asked again; `test_consent_words_are_those_of_their_version` notices."""
SHOWN = ("client_name", "purpose", "policy_uri", "tos_uri")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a person is shown. `version` is the SHA-256 of `document`."""

    version: bytes
    document: str


@dataclass(frozen=True, slots=True)
class Changed:
    """One difference. `what` is a member of SHOWN, `text`, or `scope` (new) or `wider`; then `after` is the scope."""

    what: str
    before: str = ""
    after: str = ""


def of(party: RelyingParty, scope: str) -> Terms:
    """The terms of a client for some scopes, as they are registered now."""
    document: dict[str, Any] = {
        **{member: _languages(party.metadata, member) for member in SHOWN},
        "client_id": party.client_id,
        "scopes": {word: list(SCOPES.get(word, ())) for word in sorted(set(scope.split()))},
        "text_version": TEXT_VERSION,
    }
    text = json.dumps(document, ensure_ascii=False, sort_keys=True)
    return Terms(hashlib.sha256(text.encode()).digest(), text)


def _languages(metadata: Mapping[str, Any], member: str) -> dict[str, str]:
    """The registered values of a member by language tag, "" for the one without."""
    named = ((name.partition("#"), value) for name, value in metadata.items())
    return {tag: str(value) for (name, _, tag), value in named if name == member}


def hold(party: RelyingParty, scope: str, version: bytes | None) -> bool:
    """Whether a consent to `scope` under these terms still fits what is registered today.

    An agreement from before versions were recorded (None) counts until its end.
    """
    return version is None or of(party, scope).version == version


def changes(before: str, after: str, locale: str) -> list[Changed]:
    """What differs between two documents, in the language of the page where there is one."""
    old, new = json.loads(before), json.loads(after)
    found = [
        Changed(member, _in(old[member], locale), _in(new[member], locale))
        for member in SHOWN
        if old[member] != new[member]
    ]
    if old["text_version"] != new["text_version"]:
        found.append(Changed("text"))
    return [*found, *_more(old["scopes"], new["scopes"])]


def _more(old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> Iterator[Changed]:
    """The scopes that are new, and those that give more than before."""
    for word, claims in new.items():
        if word not in old:
            yield Changed("scope", after=word)
        elif not set(claims) <= set(old[word]):
            yield Changed("wider", after=word)


def _in(values: Mapping[str, str], locale: str) -> str:
    return next((values[tag] for tag in (locale, locale[:2], "") if tag in values), "")
