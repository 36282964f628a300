"""Versions of the master key, the root key, progress of re-sealing; age and use of signing keys."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "master_keys",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("missing_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sealing_since", sa.BigInteger(), nullable=True),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state in ('announced', 'sealing', 'opening', 'retired')", name=op.f("ck_master_keys_state")
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_master_keys")),
    )
    op.create_index(
        "uq_master_keys_sealing",
        "master_keys",
        ["state"],
        unique=True,
        sqlite_where=sa.text("state = 'sealing'"),
        postgresql_where=sa.text("state = 'sealing'"),
    )
    op.create_table(
        "data_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_data_keys_name")),
    )
    op.create_table(
        "reseals",
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Uuid(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("broken", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_reseals")),
    )
    op.add_column("signing_keys", sa.Column("gone_at", sa.BigInteger(), nullable=True))
    op.add_column("signing_keys", sa.Column("signatures", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("signing_keys", sa.Column("last_signed_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for column in ("last_signed_at", "signatures", "gone_at"):
        op.drop_column("signing_keys", column)
    for table in ("reseals", "data_keys", "master_keys"):
        op.drop_table(table)
