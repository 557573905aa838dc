"""Access tokens for programs, and in which box each track lies, so that maps find it."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.DateTime(timezone=True)
SIDES = ("west", "south", "east", "north")
#: Tracks read at once: some have thousands of points.
CHUNK = 200


def upgrade() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("last_used_at", Instant),
        sa.Column("revoked_at", Instant),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index("ix_access_tokens_account_id", "access_tokens", ["account_id"])
    op.create_table(
        "track_boxes",
        sa.Column("track_id", sa.Uuid(), nullable=False),
        sa.Column("patrol_id", sa.Uuid(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in SIDES),
        sa.ForeignKeyConstraint(["patrol_id"], ["patrols.id"]),
        sa.ForeignKeyConstraint(["track_id"], ["tracks.id"]),
        sa.PrimaryKeyConstraint("track_id"),
    )
    op.create_index("ix_track_boxes_patrol_id", "track_boxes", ["patrol_id"])
    _find_boxes()


def _find_boxes() -> None:
    """Those of the tracks that are there already."""
    tracks = sa.table("tracks", sa.column("id"), sa.column("patrol_id"), sa.column("points"))
    boxes = sa.table("track_boxes", sa.column("track_id"), sa.column("patrol_id"), *map(sa.column, SIDES))
    with op.get_bind().execute(sa.select(tracks).execution_options(yield_per=CHUNK)) as found:
        chunks = [_boxes(chunk) for chunk in found.partitions()]
    for chunk in chunks:
        if chunk:
            op.get_bind().execute(sa.insert(boxes), chunk)


def _boxes(tracks: Any) -> list[dict[str, Any]]:
    rows = []
    for track in tracks:
        lons, lats = zip(*((point[0], point[1]) for point in json.loads(track.points)), strict=True)
        if len(lons) > 1:
            sides = dict(zip(SIDES, (min(lons), min(lats), max(lons), max(lats)), strict=True))
            rows.append({"track_id": track.id, "patrol_id": track.patrol_id, **sides})
    return rows


def downgrade() -> None:
    op.drop_table("track_boxes")
    op.drop_table("access_tokens")
