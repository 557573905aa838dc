"""The tables of `sync/PROTOCOL.md` say what the code does: every field with its type and limits, every figure."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import fields as settings_of
from typing import Any

import pytest
from marshmallow import Schema, fields

from field_api import sign_in
from field_api.settings import Settings
from sync import accounts, carried, clock, intake, uploads, wire
from tests.house.source import ROOT

PROTOCOL = (ROOT / "sync" / "PROTOCOL.md").read_text("utf-8")

#: Which shape each table of fields is about, by the heading it stands below.
SHAPES: dict[str, type[Schema]] = {
    "Every operation": wire.OperationShape,
    "A moment: `at`, `sent`, `started`, `ended`": wire.StampShape,
    "An anchor": wire.AnchorShape,
    "A fix": wire.FixShape,
    "A photo announced": wire.PhotoShape,
    "patrol": wire.PatrolBody,
    "incident": wire.IncidentBody,
    "A vendor": wire.VendorShape,
    "A party": wire.PartyShape,
    "warning": wire.WarningBody,
    "track.append": wire.TrackBody,
    "The envelope": wire.EnvelopeShape,
}
#: What a shape is called where it is the type of a field.
NAMES = {
    wire.StampShape: "moment",
    wire.AnchorShape: "anchor",
    wire.FixShape: "fix",
    wire.PhotoShape: "photo",
    wire.VendorShape: "vendor",
    wire.PartyShape: "party",
}
PLAIN = {
    wire.Uid: "UUID",
    wire.Instant: "time",
    wire.Day: "day",
    wire.Flag: "true or false",
    wire.PointField: "point",
}
MIB = 1024 * 1024


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PROTOCOL, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group().splitlines()[2:]]


def told(field: fields.Field[Any]) -> str:
    """The type of a field as the page says it."""
    if type(field) in PLAIN:
        return PLAIN[type(field)]
    if isinstance(field, wire.Text):
        return _text(field)
    if isinstance(field, wire.Whole):
        return f"integer ≥ {field.least}" if field.most == wire.MAX_WHOLE else f"integer {field.least} … {field.most}"
    if isinstance(field, wire.Real):
        return f"number {field.least:,} … {field.most:,}".replace("-", "−")
    if isinstance(field, wire.Many):
        length = f"{field.least}–{field.longest:,}" if field.least else f"≤ {field.longest:,}"
        return f"list of {length}: {told(field.inner)}"
    return NAMES[type(field.schema)] if isinstance(field, fields.Nested) else "list"


def _text(field: wire.Text) -> str:
    if field.one_of:
        return "one of " + " ".join(f"`{word}`" for word in field.one_of)
    return "64 hex digits, lower case" if field.pattern else f"text ≤ {field.longest:,}"


def must(field: fields.Field[Any]) -> str:
    return "yes" if field.required else "null" if field.allow_none else "no"


@pytest.mark.parametrize("heading", SHAPES)
def test_a_table_of_fields_says_what_is_read(heading: str) -> None:
    read = [[f"`{name}`", told(field), must(field)] for name, field in SHAPES[heading]().fields.items()]
    assert [row[:3] for row in rows(heading)] == read


def test_the_table_of_kinds_says_which_field_each_has() -> None:
    verbs = ("incident.create", "incident.amend", "incident.void", "track.append")
    common = wire.OperationShape().fields

    def says(name: str, kind: str) -> str:
        field = wire.KINDS[kind].fields.get(name)
        return "–" if field is None else "must" if field.required else "may"

    shown = {row[0].strip("`"): row[1:5] for row in rows("What each kind has besides")}
    assert shown == {name: [says(name, kind) for kind in verbs] for name in shown}
    assert set(shown) == {name for kind in verbs for name in wire.KINDS[kind].fields} - set(common)


def test_every_flaw_that_a_field_may_have_stands_in_the_page() -> None:
    kinds = [kind for kind in vars(wire).values() if isinstance(kind, type) and issubclass(kind, fields.Field)]
    flaws = {flaw for kind in kinds for flaw in vars(kind).get("default_error_messages", {}).values()}
    assert len(flaws) > 10
    assert {flaw for flaw in flaws if f"`{flaw}`" not in PROTOCOL} == set()


def test_the_table_of_limits_says_what_holds() -> None:
    setting = {one.name: one.default for one in settings_of(Settings)}
    track, minutes = wire.TrackBody().fields["points"], f"{setting['sign_in_window_s'] // 60} min"
    assert isinstance(track, wire.Many)
    assert setting["batch_max_ops"] == wire.MAX_OPERATIONS
    assert rows("15. Limits") == [
        ["operations in a batch", f"{wire.MAX_OPERATIONS:,}"],
        ["bytes of a batch, packed and unpacked", f"{setting['batch_max_bytes'] // MIB} MiB"],
        ["bytes of an operation", f"{wire.MAX_OPERATION_BYTES // 1024} KiB"],
        ["photos announced by an operation", str(wire.MAX_PHOTOS)],
        ["points in a track.append", f"{track.longest:,}"],
        ["bytes of a photo", f"{setting['photo_max_bytes'] // MIB} MiB"],
        ["bytes of photos, per officer and day", f"{setting['photo_day_max_bytes'] // (1024 * MIB)} GiB"],
        ["uploads begun, per officer and day", f"{uploads.MOST_A_DAY:,}"],
        ["life of an unfinished upload", f"{setting['upload_expires_s'] // 86_400} days"],
        ["an integer", f"2^{wire.MAX_WHOLE.bit_length()} − 1"],
        ["flaws named per operation", str(wire.MAX_FLAWS)],
        ["holes, and photos needed, named in a receipt", f"{intake.MOST_LISTED:,}"],
        ["operations in a look-up", f"{intake.MOST_LOOKED_UP:,}"],
        ["changes on a page", f"{carried.MOST_LIMIT:,}"],
        ["life of an access token", f"{setting['access_token_s'] // 60} min"],
        ["life of a refresh token", f"{setting['refresh_token_s'] // 86_400} days"],
        [f"failed sign-ins for a name, in {minutes}", str(setting["sign_in_max_per_account"])],
        [f"failed sign-ins from an address, in {minutes}", str(setting["sign_in_max_per_address"])],
        ["life of a permit's code", f"{accounts.PERMIT_GOOD_FOR // dt.timedelta(hours=1)} h"],
        ["life of its token", f"{accounts.PUSH_GOOD_FOR // dt.timedelta(hours=1)} h"],
        ["bytes of a sign-in", f"{sign_in.BODY_MAX_BYTES // 1024} KiB"],
    ]


def test_the_table_of_changes_says_what_each_type_holds() -> None:
    shown = {row[0].strip("`"): re.findall(r"`(\w+)`", row[3]) for row in rows("What a change holds")}
    assert {kind: set(names) for kind, names in shown.items()} == {
        kind: set(document().fields) for kind, document in carried.DOCUMENTS.items()
    }


def test_the_table_of_clocks_says_how_sure_each_is() -> None:
    counted = f"transit + {clock.DRIFT_PPM} ppm of the span"
    assert {row[0].strip("`"): row[3] for row in rows("10. When it happened")} == {
        "mono": counted,
        "anchor": counted,
        "gnss": f"{clock.GNSS_ERROR_MS:,}",
        "wall-offset": f"{clock.WALL_OFFSET_ERROR_MS:,} + transit",
        "wall": f"{clock.WALL_ERROR_MS:,}",
        "arrival": "unknown",
    }
