"""A feed that phones can read: in its own order, and with the photos that had arrived."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: Every photo that an officer has sent is in the feed, where the photo itself is.
ARRIVED = """
    INSERT INTO feed (kind, entity, link_key, gone)
    SELECT DISTINCT 'arrival', CAST(u.officer_id AS VARCHAR) || ':' || u.sha256, f.link_key, f.gone
    FROM uploads u JOIN feed f ON f.kind = 'photo' AND f.entity = u.sha256
    WHERE u.finished_at IS NOT NULL
"""


def upgrade() -> None:
    """Nobody has read the feed before, so that what is put into it now is new to everybody."""
    op.create_index("ix_feed_link", "feed", ["link_key", "kind", "entity"])
    op.drop_index("ix_feed_link_key", "feed")
    op.execute(ARRIVED)


def downgrade() -> None:
    """What only readers of the feed look for is gone from it; the evidence chain tells of it all the same."""
    op.execute("DELETE FROM feed WHERE kind IN ('arrival', 'operation')")
    op.create_index("ix_feed_link_key", "feed", ["link_key"])
    op.drop_index("ix_feed_link", "feed")
