"""Commands for organizations."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from admin.commands import answers
from idp import organizations
from idp.context import Context


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
