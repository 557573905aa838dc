"""Files that somebody asked for and that are written behind the requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Nobody has asked for one yet."""
    op.create_table(
        "export_jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("ending", sa.String(length=20), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("claimed_at", Instant),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger()),
        sa.Column("ended_at", Instant),
        sa.Column("failed", sa.String(length=40)),
        sa.Column("key", sa.Text()),
        sa.Column("size_bytes", sa.BigInteger()),
        sa.Column("scope", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_export_jobs_account", "export_jobs", ["account_id", "created_at"])
    is_open = sa.text("ended_at IS NULL")
    op.create_index(
        "ix_export_jobs_open", "export_jobs", ["created_at"], postgresql_where=is_open, sqlite_where=is_open
    )


def downgrade() -> None:
    """Files that were asked for can be asked for again."""
    op.drop_table("export_jobs")
