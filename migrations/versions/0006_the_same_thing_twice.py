"""What resembles what, what was said of it, by what a vendor is known again, and what is to be looked at again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)
#: Where a record lies, for asking what happened around a place and a time.
TILE = "(CASE WHEN error_m <= 60 THEN trunc(lon * 100) * 100000 + trunc(lat * 100) WHEN error_m > 60 THEN -1 END)"


def upgrade() -> None:
    """Nothing has been compared yet: `flask resemble` does it for what is there already."""
    op.create_table(
        "resemblances",
        sa.Column("one_id", sa.Uuid(), nullable=False),
        sa.Column("other_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("weights", sa.String(length=40), nullable=False),
        sa.Column("found_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("one_id", "other_id"),
    )
    op.create_index("ix_resemblances_other", "resemblances", ["other_id"])
    op.create_index("ix_resemblances_best", "resemblances", ["kind", "weight", "one_id", "other_id"])
    op.create_table(
        "groupings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("records", sa.Text(), nullable=False),
        sa.Column("apart", sa.Text(), nullable=False),
        sa.Column("undoes", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("account_id", BigId),
        sa.Column("at", Instant, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("ordinal"),
    )
    op.create_table(
        "grouping_records",
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("grouping_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["grouping_id"], ["groupings.id"]),
        sa.PrimaryKeyConstraint("record_id", "grouping_id"),
    )
    op.create_table(
        "grouped",
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("record_id"),
    )
    op.create_index("ix_grouped_group_id", "grouped", ["group_id"])
    op.create_table(
        "apart",
        sa.Column("one_id", sa.Uuid(), nullable=False),
        sa.Column("other_id", sa.Uuid(), nullable=False),
        sa.Column("weight", sa.Double()),
        sa.PrimaryKeyConstraint("one_id", "other_id"),
    )
    op.create_table(
        "vendor_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("vendor_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["vendor_id"], ["vendors.id"]),
        sa.PrimaryKeyConstraint("key", "vendor_id"),
    )
    op.create_index("ix_vendor_keys_vendor_id", "vendor_keys", ["vendor_id"])
    op.create_table(
        "reappraisals",
        sa.Column("id", BigId, nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("since_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for table in ("incidents", "warnings"):
        op.create_index(f"ix_{table}_vendor", table, ["vendor_id", "occurred_at"])
        op.drop_index(f"ix_{table}_vendor_id", table)  # the new one serves its questions too
    nowhere = sa.text("lon IS NULL")
    op.create_index(
        "ix_incidents_nowhere",
        "incidents",
        ["officer_id", "occurred_at"],
        postgresql_where=nowhere,
        sqlite_where=nowhere,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ix_incidents_tile", "incidents", [sa.text(TILE), "occurred_at"])


def downgrade() -> None:
    """Refused once somebody has said that records are the same, or not: that is known nowhere else, and sworn to."""
    if op.get_bind().scalar(sa.text("SELECT 1 FROM groupings LIMIT 1")):
        raise RuntimeError("What was said of records that are alike is known nowhere else: this is not undone")
    op.drop_index("ix_incidents_tile", "incidents", if_exists=True)
    op.drop_index("ix_incidents_nowhere", "incidents")
    for table in ("incidents", "warnings"):
        op.create_index(f"ix_{table}_vendor_id", table, ["vendor_id"])
        op.drop_index(f"ix_{table}_vendor", table)
    for table in ("reappraisals", "vendor_keys", "apart", "grouped", "grouping_records", "groupings", "resemblances"):
        op.drop_table(table)
