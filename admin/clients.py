"""Commands for clients: their registration, secrets and permissions."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from sqlalchemy.orm import Session

from admin.commands import FILE, Opener, answers, print_json, read_object, refusals
from clients import metadata as client_metadata
from clients import registry
from idp.context import Context
from idp.oidc.profiles import PERMISSIONS


@click.group()
def client() -> None:
    """Clients (relying parties): their registration and their secrets."""


@client.command("add")
@click.option("--name", required=True, help="Shown to people when they sign in.")
@click.option("--redirect-uri", "redirect_uris", multiple=True, metavar="URI", help="May be repeated.")
@click.argument("more_uris", nargs=-1, metavar="[URI]...")
@click.option(
    "--profile",
    type=click.Choice(["classic", "baseline", "fapi2", "fapi2-signed"]),
    default="baseline",
    show_default=True,
)
@click.option("--metadata", type=FILE, help="A JSON object in the registered OAuth and OpenID names.")
def add_client(
    *, name: str, redirect_uris: tuple[str, ...], more_uris: tuple[str, ...], profile: str, metadata: Path | None
) -> None:
    """Register a client and print its registration; a secret is shown this once.

    Unless the metadata says otherwise the client may use authorization codes and refresh tokens. A member that is
    unknown or not supported is refused by name, and so is an address that the server may not call.

    \b
    Examples:
      yimen client add --name 公积金 --redirect-uri https://gjj.example.cn/cb \\
          --metadata more.json
    where more.json holds
      {"backchannel_logout_uri": "https://gjj.example.cn/logout",
       "client_name#en": "Housing Fund", "policy_uri": "https://gjj.example.cn/privacy"}
    or, for a service that only speaks for itself and signs with its own key,
      {"grant_types": ["client_credentials"], "scope": "gjj:read",
       "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://gjj.example.cn/jwks"}
    """

    def register(context: Context, session: Session, given: Mapping[str, Any]) -> Mapping[str, Any]:
        made = registry.create(context, session, metadata=given, profile=profile)
        secret = {"client_secret": made.secret, "client_secret_expires_at": 0} if made.secret else {}
        return {**registry.describe(made.client), **secret}

    def read() -> dict[str, Any]:
        given = {"grant_types": ["authorization_code", "refresh_token"], **read_object(metadata), "client_name": name}
        if redirect_uris or more_uris:
            given["redirect_uris"] = [*redirect_uris, *more_uris]
        return given

    _with_addresses(read, register)


def _with_addresses(
    read: Callable[[], dict[str, Any]], work: Callable[[Context, Session, Mapping[str, Any]], Mapping[str, Any]]
) -> None:
    """A command on client metadata: names in it are resolved and judged before the transaction begins."""
    opener: Opener = click.get_current_context().obj
    with refusals():
        with opener() as context:
            given = read()
            asyncio.run(client_metadata.check_addresses(context, given))
            with context.database.session() as session:
                document = work(context, session, given)
        print_json(document)


@client.command("change")
@click.argument("id")
@click.option("--metadata", type=FILE, required=True, help="A JSON object; null takes a member away.")
@click.option("--version", type=click.IntRange(1), help="Refuse if the client was changed since this version.")
def change_client(*, id: str, metadata: Path, version: int | None) -> None:
    """Change members of the registration of the client ID; what the file does not name stays as it is.

    \b
    Example:
      yimen client change c0a1… --metadata change.json
    where change.json holds
      {"jwks_uri": "https://gjj.example.cn/new-jwks", "logo_uri": null}
    """

    def replace(context: Context, session: Session, given: Mapping[str, Any]) -> Mapping[str, Any]:
        merged = {**registry.metadata_of(registry.get(session, id)), **given}
        kept = {name: value for name, value in merged.items() if value is not None}
        return registry.describe(registry.change(context, session, id, metadata=kept, version=version))

    _with_addresses(lambda: read_object(metadata), replace)


@client.command("show")
@click.argument("id")
@answers
def show_client(context: Context, session: Session, *, id: str) -> Mapping[str, Any]:
    """Show the client ID; of its secrets only the last four signs and their times."""
    keys_fetched = registry.describe_keys(session, id)
    return {
        **registry.describe(registry.get(session, id)),
        "secrets": registry.describe_secrets(session, id),
        "legal_bases": registry.legal_bases(session, id),
        "permissions": registry.permissions(session, id),
        **({"fetched_keys": keys_fetched} if keys_fetched else {}),
    }


@client.command("list")
@answers
def list_clients(context: Context, session: Session) -> Mapping[str, Any]:
    """List all clients, the oldest first."""
    return {"clients": [registry.describe(found) for found in registry.list_all(session)]}


@client.command("rotate-secret")
@click.argument("id")
@click.option(
    "--overlap",
    type=click.IntRange(0),
    default=registry.OVERLAP_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long the old secrets go on; 0 ends them at once.",
)
@answers
def rotate_client_secret(context: Context, session: Session, *, id: str, overlap: int) -> Mapping[str, Any]:
    """Make a new secret for the client ID and print it this once.

    The old secrets go on for the overlap, so that the client can change over without a break. A secret that is known
    to somebody else ends at once with --overlap 0.

    \b
    Example:
      yimen client rotate-secret c0a1… --overlap 86400
    """
    secret = registry.rotate_secret(context, session, id, overlap_seconds=overlap)
    return {
        "client_id": id,
        "client_secret": secret,
        "client_secret_expires_at": 0,
        "secrets": registry.describe_secrets(session, id),
    }


@client.command("grant")
@click.argument("id")
@click.option("--scope", required=True)
@click.option("--legal-basis", required=True, metavar="TEXT", help="Law and article; shown in the audit.")
@answers
def grant_client_scope(
    context: Context, session: Session, *, id: str, scope: str, legal_basis: str
) -> Mapping[str, Any]:
    """Record the legal basis on which the client ID may receive a guarded scope.

    \b
    Example:
      yimen client grant c0a1… --scope identity_number --legal-basis "社会保险法 第五十八条"
    """
    registry.grant_scope(context, session, id, scope, legal_basis)
    return {"client_id": id, "legal_bases": registry.legal_bases(session, id)}


@client.command("permit")
@click.argument("id")
@click.option("--permission", type=click.Choice(list(PERMISSIONS)), required=True)
@click.option("--reason", required=True, help="Kept with the permission and in the audit.")
@answers
def permit_client(context: Context, session: Session, *, id: str, permission: str, reason: str) -> Mapping[str, Any]:
    """Permit the client ID something beyond its profile.

    introspection: it may ask about tokens of other clients, as a resource server that they are presented to.
    token_endpoint_audience: its assertions may name the token endpoint as audience, for libraries that cannot
    name the issuer.

    \b
    Example:
      yimen client permit c0a1… --permission introspection --reason "data exchange platform"
    """
    registry.permit(context, session, id, permission, reason)
    return {"client_id": id, "permissions": registry.permissions(session, id)}


@client.command("forbid")
@click.argument("id")
@click.option("--permission", type=click.Choice(list(PERMISSIONS)), required=True)
@click.option("--reason", default="", help="Kept in the audit.")
@answers
def forbid_client(context: Context, session: Session, *, id: str, permission: str, reason: str) -> Mapping[str, Any]:
    """Withdraw a permission of the client ID, at once."""
    registry.forbid(context, session, id, permission, reason)
    return {"client_id": id, "permissions": registry.permissions(session, id)}


@client.command("suspend")
@click.argument("id")
@click.option("--reason", default="", help="Kept in the audit.")
@answers
def suspend_client(context: Context, session: Session, *, id: str, reason: str) -> Mapping[str, Any]:
    """Suspend the client ID: nothing works for it any more, at once."""
    return registry.describe(registry.suspend(context, session, id, reason))


@client.command("resume")
@click.argument("id")
@click.option("--reason", default="", help="Kept in the audit.")
@answers
def resume_client(context: Context, session: Session, *, id: str, reason: str) -> Mapping[str, Any]:
    """Let the suspended client ID work again."""
    return registry.describe(registry.resume(context, session, id, reason))
