"""Commands for people, organizations and clients: each prints one JSON document on standard output."""

import asyncio
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec
from uuid import UUID

import click
from sqlalchemy.orm import Session

from clients import metadata as client_metadata
from clients import registry
from idp import accounts, lockout, organizations
from idp.authn import password
from idp.context import Context
from idp.errors import InvalidInput, YimenError
from idp.identifiers import PERSON_TYPES
from idp.logs import mask_free_text
from idp.models import Account
from idp.oidc.profiles import PERMISSIONS

Opener = Callable[[], AbstractContextManager[Context]]
P = ParamSpec("P")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SECRET_LIMIT = 65_536  # bytes read from standard input


def print_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def refuse(error: YimenError) -> NoReturn:
    """The JSON of a refusal on standard output, one line for people on standard error, exit status 1."""
    reason = {"reason": error.reason} if hasattr(error, "reason") else {}
    print_json({"error": error.code, **reason, "message": error.message})
    detail = f" ({error.detail})" if error.detail else ""
    click.echo(f"yimen: {error.message}{detail}", err=True)
    sys.exit(1)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the product's errors into refusals."""
    try:
        yield
    except YimenError as error:
        refuse(error)


def answers(
    function: Callable[Concatenate[Context, Session, P], Mapping[str, Any]],
) -> Callable[P, None]:
    """A command that works in one transaction and prints what it returns once that is committed."""

    @functools.wraps(function)
    def command(*arguments: P.args, **options: P.kwargs) -> None:
        opener: Opener = click.get_current_context().obj
        with refusals():
            with opener() as context, context.database.session() as session:
                document = function(context, session, *arguments, **options)
            print_json(document)

    return command


def read_secret() -> str:
    """A secret from standard input, without the line end that a pipe adds."""
    raw = sys.stdin.buffer.read(SECRET_LIMIT)
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInput("standard input is not UTF-8") from None


def read_object(path: Path | None) -> dict[str, Any]:
    """The JSON object of a file, {} without one. Raises InvalidInput."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise InvalidInput("the file holds no JSON") from None
    if not isinstance(found, dict):
        raise InvalidInput("the file holds no JSON object")
    return found


# --- people


@click.group()
def person() -> None:
    """People: accounts with their numbers, contacts and passwords."""


@person.command("add")
@click.option("--id-number", required=True, help="The number as it stands on the document.")
@click.option("--id-type", type=click.Choice(list(PERSON_TYPES)), default="cid", show_default=True)
@click.option("--name", required=True, help="The name as it stands on the document.")
@click.option("--phone", default="", help="A mobile number of mainland China.")
@click.option("--email", default="")
@click.option("--level", type=click.IntRange(1, 5), default=3, show_default=True, help="Assurance level proved.")
@click.option("--claims", type=FILE, help="A JSON object of standard OpenID Connect claims.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@answers
def add_person(
    context: Context,
    session: Session,
    *,
    id_number: str,
    id_type: str,
    name: str,
    phone: str,
    email: str,
    level: int,
    claims: Path | None,
    password_stdin: bool,
) -> Mapping[str, Any]:
    """Register a person.

    From level 3 on the number becomes an identifier: one person at most holds it, and it signs in. Below level 3 it
    is only a mention. The claims email_verified and phone_number_verified say that a contact was proved; only such
    a contact signs in.

    \b
    Example:
      printf %s "$PASSWORD" | yimen person add --id-number 449901199001010013 \\
          --name 张三例 --phone 17400001628 --password-stdin
    """
    further = read_object(claims)
    account = accounts.register(
        context,
        session,
        name=_once("name", name, further.pop("name", "")),
        number=id_number,
        type=id_type,
        level=level,
        phone=_once("phone_number", phone, further.pop("phone_number", "")),
        email=_once("email", email, further.pop("email", "")),
        claims=further,
    )
    if password_stdin:
        password.set_password(context, session, account, read_secret())
    return _described(context, session, account)


def _once(claim: str, option: str, claimed: object) -> str:
    """What an option and a claim say together. Raises InvalidInput when they contradict each other."""
    if not isinstance(claimed, str) or (option and claimed and option != claimed):
        raise InvalidInput(f"claim {claim} contradicts the option, or is no text")
    return option or claimed


@person.command("show")
@click.argument("id", type=click.UUID)
@answers
def show_person(context: Context, session: Session, *, id: UUID) -> Mapping[str, Any]:
    """Show the account ID, everything masked."""
    return _described(context, session, accounts.get(session, id))


@person.command("lock")
@click.argument("id", type=click.UUID)
@click.option("--reason", required=True, help="Kept in the audit; long numbers in it are masked.")
@answers
def lock_person(context: Context, session: Session, *, id: UUID, reason: str) -> Mapping[str, Any]:
    """Lock the account ID; its sessions and tokens end at once.

    \b
    Example:
      yimen person lock 6f1c0c1e-… --reason "phone stolen, reported at the counter"
    """
    account = accounts.get(session, id)
    accounts.lock(context, session, account, reason)
    return _described(context, session, account)


@person.command("unlock")
@click.argument("id", type=click.UUID)
@click.option("--reason", required=True, help="Kept in the audit; long numbers in it are masked.")
@answers
def unlock_person(context: Context, session: Session, *, id: UUID, reason: str) -> Mapping[str, Any]:
    """Unlock the account ID. What was ended by the lock stays ended."""
    account = accounts.get(session, id)
    accounts.unlock(context, session, account, reason)
    return _described(context, session, account)


@person.command("forgive")
@click.argument("id", type=click.UUID)
@click.option("--reason", required=True, help="Kept in the audit; long numbers in it are masked.")
@answers
def forgive_person(context: Context, session: Session, *, id: UUID, reason: str) -> Mapping[str, Any]:
    """Forget the failed sign-ins of the account ID, so that a password works again at once.

    For the counter, where the person has shown who they are. It does not touch `person lock`.

    \b
    Example:
      yimen person forgive 6f1c0c1e-… --reason "showed the identity card at the counter"
    """
    account = accounts.get(session, id)
    lockout.clear(context, session, account.id, reason=mask_free_text(reason))
    return _described(context, session, account)


def _described(context: Context, session: Session, account: Account) -> Mapping[str, Any]:
    return {**accounts.describe(context, session, account), **lockout.describe(context, session, account.id)}


@person.command("password")
@click.argument("id", type=click.UUID)
@click.option("--password-stdin", is_flag=True, required=True, help="Read the password from standard input.")
@answers
def set_person_password(context: Context, session: Session, *, id: UUID, password_stdin: bool) -> Mapping[str, Any]:
    """Give the account ID a new password. Where there was one, all sessions and tokens end.

    \b
    Example:
      yimen person password 6f1c0c1e-… --password-stdin < new-password.txt
    """
    account = accounts.get(session, id)
    password.set_password(context, session, account, read_secret())
    return _described(context, session, account)


# --- organizations


@click.group()
def organization() -> None:
    """Organizations, named by their unified social credit code."""


@organization.command("add")
@click.option("--uscc", required=True, help="Unified social credit code, 18 signs.")
@click.option("--name", required=True)
@click.option("--level", type=click.IntRange(1, 5), default=3, show_default=True, help="Assurance level proved.")
@click.option("--legal-representative", type=click.UUID, metavar="ACCOUNT")
@answers
def add_organization(
    context: Context, session: Session, *, uscc: str, name: str, level: int, legal_representative: UUID | None
) -> Mapping[str, Any]:
    """Register an organization, and the person who represents it by law.

    \b
    Example:
      yimen organization add --uscc 91440101MA00000019 --name 示例科技有限公司 \\
          --legal-representative 6f1c0c1e-…
    """
    found = organizations.register(
        context, session, uscc=uscc, name=name, level=level, legal_representative=legal_representative
    )
    return organizations.describe(context, session, found)


@organization.command("show")
@click.argument("id", type=click.UUID)
@answers
def show_organization(context: Context, session: Session, *, id: UUID) -> Mapping[str, Any]:
    """Show the organization ID with its mandates."""
    return organizations.describe(context, session, organizations.get(session, id))


# --- clients


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


COMMANDS = (person, organization, client)
