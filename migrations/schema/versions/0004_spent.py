"""What may be used once, recorded permissions of clients, their fetched key sets, and tokens without a person."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "spent",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("use_id", sa.Uuid(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_spent")),
    )
    op.create_index(op.f("ix_spent_expires_at"), "spent", ["expires_at"], unique=False)
    op.create_table(
        "client_permissions",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("permission", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "permission in ('introspection', 'token_endpoint_audience')", name=op.f("ck_client_permissions_permission")
        ),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_client_permissions_client_id")),
        sa.PrimaryKeyConstraint("client_id", "permission", name=op.f("pk_client_permissions")),
    )
    op.create_table(
        "client_key_sets",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("keys_json", sa.Text(), nullable=True),
        sa.Column("fetched_at", sa.BigInteger(), nullable=True),
        sa.Column("fresh_until", sa.BigInteger(), nullable=False),
        sa.Column("tried_at", sa.BigInteger(), nullable=False),
        sa.Column("searched_at", sa.BigInteger(), nullable=False),
        sa.Column("fetch_id", sa.Uuid(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_client_key_sets_client_id")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_client_key_sets")),
    )
    with op.batch_alter_table("revoked_tokens", schema=None) as batch_op:
        batch_op.alter_column("grant_id", existing_type=sa.Uuid(), nullable=True)


def downgrade() -> None:
    op.execute("delete from revoked_tokens where grant_id is null")
    with op.batch_alter_table("revoked_tokens", schema=None) as batch_op:
        batch_op.alter_column("grant_id", existing_type=sa.Uuid(), nullable=False)
    op.drop_table("client_key_sets")
    op.drop_table("client_permissions")
    op.drop_index(op.f("ix_spent_expires_at"), table_name="spent")
    op.drop_table("spent")
