"""What phones owe and since when, what people declared lost, and permits to send what is left on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)
#: What is looked at to see what is owed, as the database has it.
COLUMNS = ("id", "received", "unsent", "next_n", "last_sync_at", "holes_since", "unsent_since")


def upgrade() -> None:
    """What phones owe already, they are taken to owe since they last spoke."""
    for name in ("holes_since", "unsent_since"):
        op.add_column("installations", sa.Column(name, Instant))
    op.add_column("installations", sa.Column("lost", sa.Text()))
    op.add_column("token_families", sa.Column("push_until_at", Instant))
    op.create_table(
        "permits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("issued_by", BigId, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("used_at", Instant),
        sa.Column("ended_at", Instant),
        sa.Column("family_id", sa.Uuid()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["family_id"], ["token_families.id"]),
        sa.ForeignKeyConstraint(["install_id"], ["installations.id"]),
        sa.ForeignKeyConstraint(["issued_by"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code_hash"),
    )
    op.create_index("ix_permits_install_id", "permits", ["install_id"])
    op.create_table(
        "losses",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.Column("ranges", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["install_id"], ["installations.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_losses_install_id", "losses", ["install_id"])
    _find_what_is_owed()


def _find_what_is_owed() -> None:
    """Counters that were used and never arrived: holes, but for those that the phone declares unsent."""
    phones = sa.table("installations", *map(sa.column, COLUMNS))
    asked = sa.select(phones).where(phones.c.last_sync_at.is_not(None))
    for phone in op.get_bind().execute(asked).all():
        received, unsent = json.loads(phone.received), json.loads(phone.unsent)
        missing = phone.next_n - 1 - _below(received, phone.next_n)
        holes = phone.next_n - 1 - _below(received + unsent, phone.next_n)
        owes = {"holes_since": holes > 0, "unsent_since": missing > holes}
        since = {name: phone.last_sync_at for name, does in owes.items() if does}
        if since:
            op.execute(sa.update(phones).where(phones.c.id == phone.id).values(since))


def _below(ranges: Iterable[list[int]], next_n: int) -> int:
    """How many counters below `next_n` lie in one of the ranges."""
    counted, behind = 0, 0
    for first, last in sorted(ranges):
        first, last = max(first, behind + 1), min(last, next_n - 1)
        counted, behind = counted + max(0, last - first + 1), max(behind, last)
    return counted


def downgrade() -> None:
    """Refused once somebody has declared something lost: that is known nowhere else, and sworn to."""
    if op.get_bind().scalar(sa.text("SELECT 1 FROM losses LIMIT 1")):
        raise RuntimeError("What people declared lost is known nowhere else: this is not undone")
    op.drop_table("losses")
    op.drop_table("permits")
    op.drop_column("token_families", "push_until_at")
    for name in ("lost", "unsent_since", "holes_since"):
        op.drop_column("installations", name)
