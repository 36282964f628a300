"""Versions of consents with their history, and lanes of deliveries.

The version before goes on: it reads and writes the old columns, which keep their meaning. A withdrawn consent has
also expired, so that it asks again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "consent_texts",
        sa.Column("version", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_consent_texts")),
    )
    op.create_table(
        "agreements",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("version", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("mandate_id", sa.Uuid(), nullable=True),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("end_reason in ('withdrawn', 'replaced')", name=op.f("ck_agreements_end_reason")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_agreements_account_id")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_agreements_client_id")),
        sa.ForeignKeyConstraint(["mandate_id"], ["mandates.id"], name=op.f("fk_agreements_mandate_id")),
        sa.ForeignKeyConstraint(["version"], ["consent_texts.version"], name=op.f("fk_agreements_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agreements")),
    )
    op.create_index("ix_agreements_account_id", "agreements", ["account_id", "granted_at"])
    op.create_index(op.f("ix_agreements_client_id"), "agreements", ["client_id"])
    op.create_index(
        "uq_agreements_open",
        "agreements",
        ["account_id", "client_id"],
        unique=True,
        sqlite_where=sa.text("ended_at is null"),
        postgresql_where=sa.text("ended_at is null"),
    )
    op.add_column("consents", sa.Column("version", sa.LargeBinary(), nullable=True))
    op.add_column("consents", sa.Column("withdrawn_at", sa.BigInteger(), nullable=True))

    op.create_table(
        "delivery_lanes",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("paused_until", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_delivery_lanes_client_id")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_delivery_lanes")),
    )
    op.add_column("deliveries", sa.Column("error_class", sa.Text(), nullable=True))
    op.add_column("deliveries", sa.Column("leased_until", sa.BigInteger(), nullable=True))
    op.add_column("deliveries", sa.Column("give_up_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_deliveries_lane", "deliveries", ["state", "client_id", "next_at"])


def downgrade() -> None:
    op.drop_index("ix_deliveries_lane", "deliveries")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        for column in ("give_up_at", "leased_until", "error_class"):
            batch_op.drop_column(column)
    op.drop_table("delivery_lanes")
    with op.batch_alter_table("consents", schema=None) as batch_op:
        for column in ("withdrawn_at", "version"):
            batch_op.drop_column(column)
    op.drop_table("agreements")
    op.drop_table("consent_texts")
