"""Commands for people: accounts with their numbers, contacts and passwords."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from admin.commands import FILE, answers, read_object, read_secret
from idp import accounts, lockout
from idp.authn import password
from idp.context import Context
from idp.errors import InvalidInput
from idp.identifiers import PERSON_TYPES
from idp.logs import mask_free_text
from idp.models import Account


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
