"""Metadata (OIDC Discovery, RFC 8414): generated from the tables that do the work; what is advertised works."""

from typing import Any

from starlette.responses import Response

from idp.context import Context
from idp.http.request import Request
from idp.http.response import json_response
from idp.oidc import profiles

ENDPOINTS = {
    "authorization_endpoint": "/authorize",
    "token_endpoint": "/token",
    "userinfo_endpoint": "/userinfo",
    "revocation_endpoint": "/revoke",
    "introspection_endpoint": "/introspect",
    "end_session_endpoint": "/logout",
    "jwks_uri": "/jwks",
}
UI_LOCALES = ("zh-CN", "en")


def document(issuer: str) -> dict[str, Any]:
    """The provider's metadata. Members whose absence means "yes" are spelled out."""
    claims = dict.fromkeys(claim for claims in profiles.SCOPES.values() for claim in claims)
    return {
        "issuer": issuer,
        **{member: issuer + path for member, path in ENDPOINTS.items()},
        "scopes_supported": list(profiles.SCOPES),
        "response_types_supported": list(profiles.RESPONSE_TYPES),
        "response_modes_supported": list(profiles.RESPONSE_MODES),
        "grant_types_supported": list(profiles.GRANT_TYPES),
        "prompt_values_supported": list(profiles.PROMPTS),
        "subject_types_supported": list(profiles.SUBJECT_TYPES),
        "id_token_signing_alg_values_supported": list(profiles.ALGORITHMS),
        "token_endpoint_auth_methods_supported": list(profiles.AUTHENTICATION_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(profiles.ASSERTION_ALGORITHMS),
        "revocation_endpoint_auth_methods_supported": list(profiles.AUTHENTICATION_METHODS),
        "revocation_endpoint_auth_signing_alg_values_supported": list(profiles.ASSERTION_ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": list(profiles.CONFIDENTIAL_METHODS),
        "introspection_endpoint_auth_signing_alg_values_supported": list(profiles.ASSERTION_ALGORITHMS),
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": [*claims, "acr", "amr", "auth_time", "sid"],
        "claim_types_supported": ["normal"],
        "acr_values_supported": list(profiles.LEVELS),
        "ui_locales_supported": list(UI_LOCALES),
        "authorization_response_iss_parameter_supported": True,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "require_request_uri_registration": False,
    }


async def get_metadata(context: Context, request: Request) -> Response:
    return json_response(
        document(context.config.issuer), headers={"Cache-Control": "public, max-age=300", "Pragma": ""}
    )
