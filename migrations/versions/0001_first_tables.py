"""The first tables: accounts, reference data, operations, records, the journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: SQLite numbers rows by itself only in a column called INTEGER.
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: In the order in which they can be made: a table stands after those it points to.
TABLES = (
    "accounts",
    "departments",
    "event_classes",
    "feed",
    "head",
    "links",
    "sign_in_failures",
    "townships",
    "vendors",
    "announced_photos",
    "delegations",
    "designated_places",
    "enforcement_items",
    "installations",
    "patrols",
    "photos",
    "postings",
    "township_areas",
    "batches",
    "incidents",
    "operations",
    "patrol_officers",
    "provisions",
    "token_families",
    "tracks",
    "incident_items",
    "warnings",
)


def upgrade() -> None:
    """PostGIS is switched on where it is missing, which only a superuser of PostgreSQL may do."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE EXTENSION IF NOT EXISTS postgis")
    op.create_table(
        "accounts",
        sa.Column("id", BigId, nullable=False),
        sa.Column("username", sa.String(length=80), nullable=False),
        sa.Column("full_name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("card_number", sa.Text()),
        sa.Column("card_from_on", sa.Date()),
        sa.Column("card_until_on", sa.Date()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "role IN ('officer', 'auxiliary', 'supervisor', 'reviewer', 'gis', 'admin', 'auditor')",
            name="ck_accounts_role",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("username"),
    )
    op.create_table(
        "departments",
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_table(
        "event_classes",
        sa.Column("edition", sa.String(length=40), nullable=False),
        sa.Column("code", sa.String(length=20), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("group_code", sa.Text(), nullable=False),
        sa.Column("group_name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("edition", "code"),
    )
    op.create_table(
        "feed",
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("entity", sa.String(length=80), nullable=False),
        sa.Column("link_key", sa.Uuid(), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "entity"),
    )
    op.create_index("ix_feed_link_key", "feed", ["link_key"])
    op.create_table(
        "head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.Uuid(), nullable=False),
        sa.Column("reference_version", sa.Uuid(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_head_single"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "links",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("entries", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("key"),
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("window_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "townships",
        sa.Column("code", sa.String(length=12), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pinyin", sa.Text()),
        sa.Column("from_on", sa.Date()),
        sa.Column("until_on", sa.Date()),
        sa.Column("successor_code", sa.Text()),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_table(
        "vendors",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("phone", sa.Text()),
        sa.Column("stall", sa.Text()),
        sa.Column("plate", sa.Text()),
        sa.Column("township_code", sa.String(length=12)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "announced_photos",
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("announced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("record_id", "sha256"),
    )
    op.create_index(
        "ix_announced_photos_missing",
        "announced_photos",
        ["officer_id"],
        postgresql_where=sa.text("received_at IS NULL"),
        sqlite_where=sa.text("received_at IS NULL"),
    )
    op.create_index("ix_announced_photos_sha256", "announced_photos", ["sha256"])
    op.create_table(
        "delegations",
        sa.Column("id", BigId, nullable=False),
        sa.Column("township_code", sa.String(length=12), nullable=False),
        sa.Column("item_code", sa.String(length=40), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("until_on", sa.Date()),
        sa.ForeignKeyConstraint(["township_code"], ["townships.code"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uq_delegations", "delegations", ["township_code", "item_code", "from_on"], unique=True)
    op.create_table(
        "designated_places",
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("township_code", sa.String(length=12), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("geometry", sa.Text(), nullable=False),
        sa.Column("hours", sa.Text()),
        sa.Column("synthetic", sa.Boolean(), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("until_on", sa.Date()),
        sa.ForeignKeyConstraint(["township_code"], ["townships.code"]),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_table(
        "enforcement_items",
        sa.Column("id", BigId, nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("department_code", sa.String(length=40), nullable=False),
        sa.Column("theme", sa.Text()),
        sa.Column("first_step", sa.Text()),
        sa.Column("fine_condition", sa.Text()),
        sa.Column("fine_modal", sa.Text()),
        sa.Column("person_min_yuan", sa.Integer()),
        sa.Column("person_max_yuan", sa.Integer()),
        sa.Column("org_min_yuan", sa.Integer()),
        sa.Column("org_max_yuan", sa.Integer()),
        sa.Column("event_classes", sa.Text(), nullable=False),
        sa.Column("remark", sa.Text()),
        sa.Column("synthetic", sa.Boolean(), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("until_on", sa.Date()),
        sa.ForeignKeyConstraint(["department_code"], ["departments.code"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uq_enforcement_items", "enforcement_items", ["code", "from_on"], unique=True)
    op.create_table(
        "installations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("app", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_sync_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("received", sa.Text(), nullable=False),
        sa.Column("unsent", sa.Text(), nullable=False),
        sa.Column("next_n", sa.BigInteger(), nullable=False),
        sa.Column("clock_offset_ms", sa.BigInteger()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_installations_account_id", "installations", ["account_id"])
    op.create_table(
        "patrols",
        sa.Column("officers", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text()),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occurred_error_ms", sa.BigInteger()),
        sa.Column("occurred_method", sa.String(length=20), nullable=False),
        sa.Column("fix", sa.Text()),
        sa.Column("lon", sa.Double()),
        sa.Column("lat", sa.Double()),
        sa.Column("error_m", sa.Double()),
        sa.Column("township", sa.Text()),
        sa.Column("township_code", sa.String(length=12)),
        sa.Column("located_code", sa.String(length=12)),
        sa.Column("located", sa.String(length=12)),
        sa.Column("located_candidates", sa.Text()),
        sa.Column("areas_edition", sa.Text()),
        sa.Column("photos", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("note_codes", sa.Text(), nullable=False),
        sa.Column("voided_at", sa.DateTime(timezone=True)),
        sa.Column("void_reason", sa.Text()),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    _index_the_map("patrols")
    op.create_index("ix_patrols_occurred", "patrols", ["occurred_at", "id"])
    op.create_index("ix_patrols_officer", "patrols", ["officer_id", "occurred_at", "id"])
    op.create_index("ix_patrols_township", "patrols", ["township_code", "occurred_at", "id"])
    op.create_table(
        "photos",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("officer_id", BigId, nullable=False),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "postings",
        sa.Column("id", BigId, nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("township_code", sa.String(length=12), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("until_on", sa.Date()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["township_code"], ["townships.code"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_postings_account_id", "postings", ["account_id"])
    op.create_table(
        "township_areas",
        sa.Column("id", BigId, nullable=False),
        sa.Column("township_code", sa.String(length=12), nullable=False),
        sa.Column("edition", sa.Text(), nullable=False),
        sa.Column("synthetic", sa.Boolean(), nullable=False),
        sa.Column("geometry", sa.Text(), nullable=False),
        sa.Column("from_on", sa.Date()),
        sa.Column("until_on", sa.Date()),
        sa.ForeignKeyConstraint(["township_code"], ["townships.code"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uq_township_areas", "township_areas", ["township_code", "edition"], unique=True)
    op.create_table(
        "batches",
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("app", sa.Text()),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent", sa.Text(), nullable=False),
        sa.Column("clock_offset_ms", sa.BigInteger()),
        sa.Column("clock_error_ms", sa.BigInteger()),
        sa.Column("ops", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["install_id"], ["installations.id"]),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("install_id", "id"),
    )
    op.create_table(
        "incidents",
        sa.Column("patrol", sa.Uuid(), nullable=False),
        sa.Column("items", sa.Text(), nullable=False),
        sa.Column("event_class", sa.Text()),
        sa.Column("event_class_edition", sa.Text()),
        sa.Column("description", sa.Text()),
        sa.Column("measures", sa.Text(), nullable=False),
        sa.Column("designated_place", sa.Text()),
        sa.Column("vendor_id", sa.Uuid()),
        sa.Column("vendor", sa.Text()),
        sa.Column("parties", sa.Text(), nullable=False),
        sa.Column("no_penalty_reason", sa.Text()),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occurred_error_ms", sa.BigInteger()),
        sa.Column("occurred_method", sa.String(length=20), nullable=False),
        sa.Column("fix", sa.Text()),
        sa.Column("lon", sa.Double()),
        sa.Column("lat", sa.Double()),
        sa.Column("error_m", sa.Double()),
        sa.Column("township", sa.Text()),
        sa.Column("township_code", sa.String(length=12)),
        sa.Column("located_code", sa.String(length=12)),
        sa.Column("located", sa.String(length=12)),
        sa.Column("located_candidates", sa.Text()),
        sa.Column("areas_edition", sa.Text()),
        sa.Column("photos", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("note_codes", sa.Text(), nullable=False),
        sa.Column("voided_at", sa.DateTime(timezone=True)),
        sa.Column("void_reason", sa.Text()),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["patrol"], ["patrols.id"]),
        sa.ForeignKeyConstraint(["vendor_id"], ["vendors.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    _index_the_map("incidents")
    op.create_index("ix_incidents_occurred", "incidents", ["occurred_at", "id"])
    op.create_index("ix_incidents_officer", "incidents", ["officer_id", "occurred_at", "id"])
    op.create_index("ix_incidents_patrol", "incidents", ["patrol"])
    op.create_index("ix_incidents_township", "incidents", ["township_code", "occurred_at", "id"])
    op.create_index("ix_incidents_vendor_id", "incidents", ["vendor_id"])
    op.create_table(
        "operations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("op", sa.Text()),
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger()),
        sa.Column("kind", sa.Text()),
        sa.Column("record_id", sa.Uuid()),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True)),
        sa.Column("occurred_error_ms", sa.BigInteger()),
        sa.Column("occurred_method", sa.Text()),
        sa.Column("outcome", sa.String(length=12), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("waits_for", sa.Uuid()),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text()),
        sa.ForeignKeyConstraint(["install_id"], ["installations.id"]),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_operations_install_n", "operations", ["install_id", "n"])
    op.create_index(
        "ix_operations_open",
        "operations",
        ["outcome", "received_at"],
        postgresql_where=sa.text("outcome <> 'applied'"),
        sqlite_where=sa.text("outcome <> 'applied'"),
    )
    op.create_index("ix_operations_record", "operations", ["record_id", "version"])
    op.create_index(
        "ix_operations_waits_for",
        "operations",
        ["waits_for"],
        postgresql_where=sa.text("waits_for IS NOT NULL"),
        sqlite_where=sa.text("waits_for IS NOT NULL"),
    )
    op.create_table(
        "patrol_officers",
        sa.Column("patrol_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["patrol_id"], ["patrols.id"]),
        sa.PrimaryKeyConstraint("patrol_id", "account_id"),
    )
    op.create_index("ix_patrol_officers_account_id", "patrol_officers", ["account_id"])
    op.create_table(
        "provisions",
        sa.Column("id", BigId, nullable=False),
        sa.Column("item_id", BigId, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("law", sa.Text(), nullable=False),
        sa.Column("prohibition_article", sa.Text()),
        sa.Column("penalty_article", sa.Text()),
        sa.Column("penalty_text", sa.Text()),
        sa.ForeignKeyConstraint(["item_id"], ["enforcement_items.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uq_provisions", "provisions", ["item_id", "ordinal"], unique=True)
    op.create_table(
        "token_families",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", BigId, nullable=False),
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("ended_because", sa.Text()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["install_id"], ["installations.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_token_families_account_id", "token_families", ["account_id"])
    op.create_index("ix_token_families_install_id", "token_families", ["install_id"])
    op.create_table(
        "tracks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("patrol_id", sa.Uuid(), nullable=False),
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("from_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("points", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["patrol_id"], ["patrols.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_tracks_patrol_id", "tracks", ["patrol_id"])
    op.create_table(
        "incident_items",
        sa.Column("incident_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("item_code", sa.String(length=40), nullable=False),
        sa.Column("item_id", BigId, nullable=False),
        sa.Column("delegation_id", BigId),
        sa.Column("referred_to", sa.String(length=40)),
        sa.ForeignKeyConstraint(["delegation_id"], ["delegations.id"]),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"]),
        sa.ForeignKeyConstraint(["item_id"], ["enforcement_items.id"]),
        sa.ForeignKeyConstraint(["referred_to"], ["departments.code"]),
        sa.PrimaryKeyConstraint("incident_id", "ordinal"),
    )
    op.create_index("ix_incident_items_code", "incident_items", ["item_code", "incident_id"])
    op.create_table(
        "warnings",
        sa.Column("incident", sa.Uuid(), nullable=False),
        sa.Column("vendor_id", sa.Uuid()),
        sa.Column("step", sa.String(length=20), nullable=False),
        sa.Column("text", sa.Text()),
        sa.Column("deadline_on", sa.Date()),
        sa.Column("response", sa.String(length=20)),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("officer_id", BigId, nullable=False),
        sa.Column("install_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occurred_error_ms", sa.BigInteger()),
        sa.Column("occurred_method", sa.String(length=20), nullable=False),
        sa.Column("fix", sa.Text()),
        sa.Column("lon", sa.Double()),
        sa.Column("lat", sa.Double()),
        sa.Column("error_m", sa.Double()),
        sa.Column("township", sa.Text()),
        sa.Column("township_code", sa.String(length=12)),
        sa.Column("located_code", sa.String(length=12)),
        sa.Column("located", sa.String(length=12)),
        sa.Column("located_candidates", sa.Text()),
        sa.Column("areas_edition", sa.Text()),
        sa.Column("photos", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("note_codes", sa.Text(), nullable=False),
        sa.Column("voided_at", sa.DateTime(timezone=True)),
        sa.Column("void_reason", sa.Text()),
        sa.ForeignKeyConstraint(["incident"], ["incidents.id"]),
        sa.ForeignKeyConstraint(["officer_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["vendor_id"], ["vendors.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_warnings_incident", "warnings", ["incident"])
    _index_the_map("warnings")
    op.create_index("ix_warnings_occurred", "warnings", ["occurred_at", "id"])
    op.create_index("ix_warnings_officer", "warnings", ["officer_id", "occurred_at", "id"])
    op.create_index("ix_warnings_township", "warnings", ["township_code", "occurred_at", "id"])
    op.create_index("ix_warnings_vendor_id", "warnings", ["vendor_id"])


def downgrade() -> None:
    """Nothing of ours is left; PostGIS stays, others may use it. Refused once phones have sent something."""
    if op.get_bind().scalar(sa.text("SELECT 1 FROM operations LIMIT 1")):
        raise RuntimeError("Operations are kept for ever: this database is not emptied by a downgrade")
    for table in reversed(TABLES):
        op.drop_table(table)


def _index_the_map(table: str) -> None:
    """Boxes on the map are found by PostGIS, or by two plain columns."""
    if op.get_bind().dialect.name == "postgresql":
        place = sa.text("(ST_SetSRID(ST_MakePoint(lon, lat), 4326))")
        op.create_index(f"ix_{table}_place", table, [place], postgresql_using="gist")
    else:
        op.create_index(f"ix_{table}_lon_lat", table, ["lon", "lat", "occurred_at", "id", "voided_at"])
