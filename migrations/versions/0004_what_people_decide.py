"""What people decide on records and on operations that wait, and requests that are answered once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Nobody has decided anything yet."""
    op.create_table(
        "review_events",
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("comment", sa.Text()),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("record_id", "ordinal"),
    )
    op.create_index("ix_review_events_action", "review_events", ["action", "record_id"])
    op.create_table(
        "decisions",
        sa.Column("operation_id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("comment", sa.Text()),
        sa.Column("made_id", sa.Uuid()),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["made_id"], ["operations.id"]),
        sa.ForeignKeyConstraint(["operation_id"], ["operations.id"]),
        sa.PrimaryKeyConstraint("operation_id"),
        sa.UniqueConstraint("made_id"),
    )
    op.create_table(
        "desks",
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["install_id"], ["installations.id"]),
        sa.PrimaryKeyConstraint("account_id"),
        sa.UniqueConstraint("install_id"),
    )
    op.create_table(
        "answered_requests",
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("answer", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("account_id", "key"),
    )


def downgrade() -> None:
    """Refused once somebody has decided something: that is known nowhere else, and sworn to."""
    decided = "SELECT 1 FROM review_events UNION SELECT 1 FROM decisions LIMIT 1"
    if op.get_bind().scalar(sa.text(decided)):
        raise RuntimeError("What people decided is known nowhere else: this is not undone")
    for table in ("answered_requests", "desks", "decisions", "review_events"):
        op.drop_table(table)
