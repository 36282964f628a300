"""The command after a backup was restored."""

from collections.abc import Mapping
from typing import Any

import click
from sqlalchemy.orm import Session

from admin.commands import answers
from idp import epoch as subject
from idp.context import Context


@click.group()
def epoch() -> None:
    """What was given out before a backup was restored."""


@epoch.command("bump")
@answers
def bump_epoch(context: Context, session: Session) -> Mapping[str, Any]:
    """Refuse every session, code and token of before: run it on a restored database, before the server starts.

    A backup does not know what was ended, revoked or used after it was made. Everybody signs in again.

    \b
    Example:
      pg_restore --dbname yimen backup.dump && yimen epoch bump && yimen run --workers 8
    """
    return subject.bump(context, session)
