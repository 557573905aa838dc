"""Resumable uploads, what a photo says, who took an original out. A photo counts for the officer who sent it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)

#: Whoever sent a photo, and whoever's record had it counted as received until now, has sent it.
ARRIVED = """
    INSERT INTO uploads (officer_id, name, length_bytes, offset_bytes, created_at, expires_at, finished_at, sha256)
    SELECT sent.officer_id, p.sha256, p.size_bytes, p.size_bytes, p.received_at, p.received_at, p.received_at, p.sha256
    FROM photos p JOIN (
        SELECT sha256, officer_id FROM photos
        UNION SELECT a.sha256, a.officer_id FROM announced_photos a JOIN photos q ON q.sha256 = a.sha256
    ) sent ON sent.sha256 = p.sha256
"""
MARKED = """
    UPDATE announced_photos SET received_at =
        (SELECT p.received_at FROM photos p WHERE p.sha256 = announced_photos.sha256)
    WHERE received_at IS NULL
"""
UNSEEN = "INSERT INTO photo_facts (sha256, claims, flags) SELECT sha256, 0, ' ' FROM photos"


def upgrade() -> None:
    """What arrived before is counted as before; nobody has looked at it yet."""
    for name in ("told_at", "compared_at"):
        op.add_column("announced_photos", sa.Column(name, Instant))
    _index_where("announced_photos", "uncompared", ["sha256"], "compared_at IS NULL AND received_at IS NOT NULL")
    op.create_table(
        "photo_facts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("claimed_at", Instant),
        sa.Column("looked_at", Instant),
        sa.Column("format", sa.String(length=10)),
        sa.Column("width_px", sa.Integer()),
        sa.Column("height_px", sa.Integer()),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("taken_at", Instant),
        sa.Column("taken_how", sa.String(length=10)),
        sa.Column("lon", sa.Double()),
        sa.Column("lat", sa.Double()),
        sa.Column("error_m", sa.Double()),
        sa.Column("camera", sa.Text()),
        sa.Column("software", sa.Text()),
        sa.Column("dhash", sa.String(length=16)),
        sa.ForeignKeyConstraint(["sha256"], ["photos.sha256"]),
        sa.PrimaryKeyConstraint("sha256"),
    )
    _index_where("photo_facts", "unseen", ["sha256"], "looked_at IS NULL")
    op.create_table(
        "uploads",
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("length_bytes", sa.BigInteger()),
        sa.Column("offset_bytes", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.Text()),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("finished_at", Instant),
        sa.Column("sha256", sa.String(length=64)),
        sa.Column("held_by", sa.Uuid()),
        sa.Column("held_until", Instant),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("officer_id", "name"),
    )
    op.create_index("ix_uploads_officer", "uploads", ["officer_id", "created_at"])
    _index_where("uploads", "arrived", ["sha256", "officer_id"], "sha256 IS NOT NULL")
    _index_where("uploads", "unfinished", ["expires_at"], "finished_at IS NULL")
    op.create_table(
        "upload_parts",
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("from_byte", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["officer_id", "name"], ["uploads.officer_id", "uploads.name"]),
        sa.PrimaryKeyConstraint("officer_id", "name", "from_byte"),
        sa.UniqueConstraint("key"),
    )
    op.create_table(
        "access_log",
        sa.Column("id", BigId, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("action", sa.String(length=20), nullable=False),
        sa.Column("entity", sa.String(length=80), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("address", sa.Text()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_access_log_entity", "access_log", ["entity", "at"])
    op.create_index("ix_access_log_at", "access_log", ["at"])
    for step in (ARRIVED, MARKED, UNSEEN):
        op.execute(step)


def downgrade() -> None:
    """Refused once somebody has begun an upload or taken an original out: that is known nowhere else."""
    begun = "SELECT 1 FROM uploads WHERE finished_at IS NULL UNION SELECT 1 FROM access_log LIMIT 1"
    if op.get_bind().scalar(sa.text(begun)):
        raise RuntimeError("Uploads under way and the access log are known nowhere else: this is not undone")
    for table in ("access_log", "upload_parts", "uploads", "photo_facts"):
        op.drop_table(table)
    op.drop_index("ix_announced_photos_uncompared", "announced_photos")
    with op.batch_alter_table("announced_photos") as announced:
        announced.drop_column("compared_at")
        announced.drop_column("told_at")


def _index_where(table: str, name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(f"ix_{table}_{name}", table, columns, postgresql_where=where, sqlite_where=where)
