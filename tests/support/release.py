"""Another release of the product beside this one: the same code with one more revision of the schema."""

import shutil
from pathlib import Path

from migrations import schema

ROOT = Path(__file__).parents[2]
PARTS = ("idp", "clients", "migrations", "admin", "server.py", "pyproject.toml")

REVISION = '''"""A revision that a test made."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "{revision}", "{before}"
branch_labels = depends_on = None


def upgrade() -> None:
    {first}
    op.add_column("accounts", sa.Column("of_next_release", sa.String(10)))
    op.add_column("grants", sa.Column("of_next_release", sa.Integer(), server_default="7"))
    op.create_table("of_next_release", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade() -> None:
    op.drop_table("of_next_release")
    op.drop_column("grants", "of_next_release")
    op.drop_column("accounts", "of_next_release")
'''


def next_release(folder: Path, *, first: str = "pass") -> Path:
    """A copy of the code whose schema has a column more in two busy tables and a table more.

    `first` is a statement that the revision begins with. The copy works for the tables as they were and as they are.
    """
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    text = REVISION.format(revision="9999", before=schema.head(), first=first)
    (folder / "migrations" / "schema" / "versions" / "9999_next_release.py").write_text(text)
    return folder
