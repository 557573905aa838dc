"""What a phone takes along: the shape of everything that the feed gives out.

As in `shapes`, each function gives the JSON value of one thing from the columns that `changes` fetched, and a document
describes it for the API document; a test holds the two together. A phone lies in a pocket and gets lost: it carries of
people only what those on patrol have to know. Whoever wrote a record has told whom it concerns, and is not told again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marshmallow import Schema, fields

from sync.shapes import (
    Columns,
    DecisionDocument,
    Json,
    NamedDocument,
    Number,
    OccurredDocument,
    Query,
    ReviewDocument,
    VoidedDocument,
    instant,
    masked,
)
from sync.wire import Text

#: Changes on one page, unless the phone asks for more or fewer.
USUAL_LIMIT, MOST_LIMIT = 1_000, 5_000
#: Characters of a cursor at most.
LONGEST_CURSOR = 512


class ChangesQuery(Query):
    """Which page of the feed: without a cursor the first one."""

    cursor = Text(LONGEST_CURSOR)
    limit = Number(1, MOST_LIMIT, load_default=USUAL_LIMIT)


# ---------------------------------------------------------------- reference data


def township(row: Columns, areas: Sequence[Columns]) -> Json:
    """A township with its areas, one per edition, as GeoJSON in WGS 84."""
    told = _told(row, "code", "name", "kind", "pinyin", "from_on", "until_on", "successor_code")
    return told | {"areas": [_told(area, "edition", "synthetic", "from_on", "until_on", "geometry") for area in areas]}


def department(row: Columns) -> Json:
    """Who acts where a township may not."""
    return _told(row, "code", "name")


def event_class(row: Columns) -> Json:
    """One class of one edition of the list of events."""
    return _told(row, "edition", "code", "name", "group_code", "group_name")


_OF_ITEM = (
    *("code", "name", "domain", "scope", "department_code", "theme", "first_step", "fine_condition", "fine_modal"),
    *("person_min_yuan", "person_max_yuan", "org_min_yuan", "org_max_yuan", "event_classes", "remark", "synthetic"),
    *("from_on", "until_on"),
)


def item(row: Columns, provisions: Sequence[Columns]) -> Json:
    """One edition of an enforcement item with its legal bases in order."""
    told = ("ordinal", "law", "prohibition_article", "penalty_article", "penalty_text")
    return _told(row, *_OF_ITEM) | {"provisions": [_told(provision, *told) for provision in provisions]}


def delegation(row: Columns) -> Json:
    """A township may enforce an item."""
    return _told(row, "township_code", "item_code", "from_on", "until_on")


def place(row: Columns) -> Json:
    """Where vendors are guided to."""
    return _told(row, "code", "township_code", "name", "hours", "geometry", "synthetic", "from_on", "until_on")


def _told(row: Columns, *names: str) -> Json:
    return {name: getattr(row, name) for name in names}


# ---------------------------------------------------------------- whom officers meet, and what became of their records


def vendor(row: Columns, grouped_with: Sequence[str], *, in_full: bool) -> Json:
    """A street vendor as first told; phone and plate are masked unless `in_full`. `grouped_with` are the ids under
    which the same vendor was told of elsewhere."""
    told = _told(row, "name", "phone", "stall", "plate", "township_code")
    return (told if in_full else masked(told)) | {"grouped_with": list(grouped_with)}


def _recorded(row: Columns) -> Json:
    return {
        "version": row.version,
        "own": row.made,
        "occurred": {
            "at": instant(row.occurred_at),
            "error_ms": row.occurred_error_ms,
            "method": row.occurred_method,
        },
        "township_code": row.township_code,
        "voided": None if row.voided_at is None else {"at": instant(row.voided_at), "reason": row.void_reason},
    }


def _of_own(row: Columns, review: Json, grouped_with: Sequence[str]) -> Json:
    told = {"received_at": instant(row.received_at), "notes": row.notes, "photos": row.photos}
    return told | {"review": review, "grouped_with": list(grouped_with)}


def patrol(row: Columns, review: Json, grouped_with: Sequence[str]) -> Json:
    """A patrol that the phone's officer made or was out on, and how it stands in review."""
    told = _recorded(row) | _of_own(row, review, grouped_with) | _told(row, "officers", "purpose")
    return told | {"started_at": instant(row.started_at), "ended_at": instant(row.ended_at)}


def incident(row: Columns, review: Json, grouped_with: Sequence[str]) -> Json:
    """An incident that the phone's officer made, and how it stands in review."""
    told = ("items", "event_class", "event_class_edition", "description", "measures", "designated_place")
    return (
        _recorded(row)
        | _of_own(row, review, grouped_with)
        | _told(row, *told, "no_penalty_reason")
        | {"patrol": str(row.patrol), "vendor": None if row.vendor_id is None else str(row.vendor_id)}
    )


def warning(row: Columns, review: Json, grouped_with: Sequence[str], *, in_full: bool) -> Json:
    """A warning of the phone's townships, with the vendor it was given to; of its own officer's also what is remarked.

    The columns of the vendor are named `vendor_…`.
    """
    known = {name: getattr(row, f"vendor_{name}") for name in ("name", "phone", "stall", "plate")}
    told_to = None if row.vendor_id is None else {"id": str(row.vendor_id)} | (known if in_full else masked(known))
    return (
        _recorded(row)
        | (_of_own(row, review, grouped_with) if row.made else {})
        | _told(row, "step", "text", "deadline_on", "response")
        | {"incident": str(row.incident), "vendor": told_to}
    )


def operation(row: Columns, decision: Json | None) -> Json:
    """What became of an operation that was not settled when it arrived, and what a person decided on it."""
    record = None if row.record_id is None else str(row.record_id)
    told = _told(row, "op", "n", "kind", "outcome", "version", "notes")
    return told | {
        "install": str(row.install_id),
        "record": record,
        "problem": masked(row.problem),
        "decision": decision,
    }


def photo(row: Columns) -> Json:
    """A photo that has arrived from the phone's officer."""
    return {"received_at": instant(row.finished_at), "bytes": row.length_bytes}


# ---------------------------------------------------------------- the same, for the API document


class DatedDocument(Schema):
    from_on = fields.Date(required=True, allow_none=True)
    until_on = fields.Date(required=True, allow_none=True, metadata={"description": "the last day in force"})


class AreaDocument(DatedDocument):
    edition = fields.String(required=True)
    synthetic = fields.Boolean(required=True)
    geometry = fields.Dict(required=True, metadata={"description": "GeoJSON Polygon or MultiPolygon, WGS 84"})


class CarriedTownshipDocument(DatedDocument, NamedDocument):
    kind = fields.String(required=True, metadata={"enum": ["镇", "街道"]})
    pinyin = fields.String(required=True, allow_none=True)
    successor_code = fields.String(required=True, allow_none=True)
    areas = fields.List(fields.Nested(AreaDocument), required=True)


class CarriedDepartmentDocument(NamedDocument):
    pass


class CarriedEventClassDocument(NamedDocument):
    edition = fields.String(required=True)
    group_code = fields.String(required=True)
    group_name = fields.String(required=True)


class ProvisionDocument(Schema):
    ordinal = fields.Integer(required=True)
    law = fields.String(required=True)
    prohibition_article = fields.String(required=True, allow_none=True)
    penalty_article = fields.String(required=True, allow_none=True)
    penalty_text = fields.String(required=True, allow_none=True)


class CarriedItemDocument(DatedDocument, NamedDocument):
    domain = fields.String(required=True)
    scope = fields.String(required=True, metadata={"enum": ["comprehensive", "specialist"]})
    department_code = fields.String(required=True)
    theme = fields.String(required=True, allow_none=True)
    first_step = fields.String(required=True, allow_none=True)
    fine_condition = fields.String(required=True, allow_none=True)
    fine_modal = fields.String(required=True, allow_none=True)
    person_min_yuan = fields.Integer(required=True, allow_none=True)
    person_max_yuan = fields.Integer(required=True, allow_none=True)
    org_min_yuan = fields.Integer(required=True, allow_none=True)
    org_max_yuan = fields.Integer(required=True, allow_none=True)
    event_classes = fields.List(fields.String(), required=True)
    remark = fields.String(required=True, allow_none=True)
    synthetic = fields.Boolean(required=True)
    provisions = fields.List(fields.Nested(ProvisionDocument), required=True)


class CarriedDelegationDocument(DatedDocument):
    township_code = fields.String(required=True)
    item_code = fields.String(required=True)


class CarriedPlaceDocument(DatedDocument, NamedDocument):
    township_code = fields.String(required=True)
    hours = fields.String(required=True, allow_none=True)
    geometry = fields.Dict(required=True, metadata={"description": "GeoJSON Point or Polygon, WGS 84"})
    synthetic = fields.Boolean(required=True)


class KnownVendorDocument(Schema):
    name = fields.String(required=True, allow_none=True)
    phone = fields.String(required=True, allow_none=True, metadata={"description": "masked but for supervisors"})
    stall = fields.String(required=True, allow_none=True)
    plate = fields.String(required=True, allow_none=True, metadata={"description": "masked but for supervisors"})


class CarriedVendorDocument(KnownVendorDocument):
    township_code = fields.String(required=True)
    grouped_with = fields.List(
        fields.UUID(), required=True, metadata={"description": "the same vendor, as told of elsewhere"}
    )


class WarnedVendorDocument(KnownVendorDocument):
    id = fields.UUID(required=True)


class CitedPhotoDocument(Schema):
    sha256 = fields.String(required=True)
    bytes = fields.Integer(required=True)
    type = fields.String(required=True)
    role = fields.String(allow_none=True)


class CarriedRecordDocument(Schema):
    version = fields.Integer(required=True)
    own = fields.Boolean(required=True, metadata={"description": "this account made it, and may amend it"})
    occurred = fields.Nested(OccurredDocument, required=True)
    township_code = fields.String(required=True, allow_none=True, metadata={"description": "where it is filed"})
    voided = fields.Nested(VoidedDocument, required=True, allow_none=True)


class OwnRecordDocument(CarriedRecordDocument):
    received_at = fields.AwareDateTime(required=True)
    notes = fields.List(fields.Dict(), required=True)
    photos = fields.List(fields.Nested(CitedPhotoDocument), required=True)
    review = fields.Nested(ReviewDocument, required=True)
    grouped_with = fields.List(
        fields.UUID(), required=True, metadata={"description": "records that are one thing with this one"}
    )


class CarriedPatrolDocument(OwnRecordDocument):
    officers = fields.List(fields.String(), required=True)
    purpose = fields.String(required=True, allow_none=True)
    started_at = fields.AwareDateTime(required=True, allow_none=True)
    ended_at = fields.AwareDateTime(required=True, allow_none=True)


class CarriedIncidentDocument(OwnRecordDocument):
    patrol = fields.UUID(required=True)
    items = fields.List(fields.String(), required=True)
    event_class = fields.String(required=True, allow_none=True)
    event_class_edition = fields.String(required=True, allow_none=True)
    description = fields.String(required=True, allow_none=True)
    measures = fields.List(fields.String(), required=True)
    designated_place = fields.String(required=True, allow_none=True)
    vendor = fields.UUID(required=True, allow_none=True)
    no_penalty_reason = fields.String(required=True, allow_none=True)


class CarriedWarningDocument(CarriedRecordDocument):
    incident = fields.UUID(required=True)
    vendor = fields.Nested(WarnedVendorDocument, required=True, allow_none=True)
    step = fields.String(required=True)
    text = fields.String(required=True, allow_none=True)
    deadline_on = fields.Date(required=True, allow_none=True)
    response = fields.String(required=True, allow_none=True)
    received_at = fields.AwareDateTime(metadata={"description": "of an own one only"})
    notes = fields.List(fields.Dict(), metadata={"description": "of an own one only"})
    photos = fields.List(fields.Nested(CitedPhotoDocument), metadata={"description": "of an own one only"})
    review = fields.Nested(ReviewDocument, metadata={"description": "of an own one only"})
    grouped_with = fields.List(fields.UUID(), metadata={"description": "of an own one only"})


class CarriedOperationDocument(Schema):
    op = fields.String(required=True, allow_none=True)
    n = fields.Integer(required=True, allow_none=True)
    install = fields.UUID(required=True)
    kind = fields.String(required=True, allow_none=True)
    record = fields.UUID(required=True, allow_none=True)
    outcome = fields.String(required=True, metadata={"enum": ["applied", "held", "conflict", "quarantined"]})
    version = fields.Integer(required=True, allow_none=True)
    notes = fields.List(fields.Dict(), required=True)
    problem = fields.Dict(required=True, allow_none=True)
    decision = fields.Nested(DecisionDocument, required=True, allow_none=True)


class CarriedPhotoDocument(Schema):
    received_at = fields.AwareDateTime(required=True)
    bytes = fields.Integer(required=True)


#: What a change may be about, and what it then holds.
DOCUMENTS: dict[str, type[Schema]] = {
    "township": CarriedTownshipDocument,
    "department": CarriedDepartmentDocument,
    "event_class": CarriedEventClassDocument,
    "item": CarriedItemDocument,
    "delegation": CarriedDelegationDocument,
    "place": CarriedPlaceDocument,
    "vendor": CarriedVendorDocument,
    "patrol": CarriedPatrolDocument,
    "incident": CarriedIncidentDocument,
    "warning": CarriedWarningDocument,
    "operation": CarriedOperationDocument,
    "photo": CarriedPhotoDocument,
}


def _one_of(*words: str) -> fields.String:
    return fields.String(required=True, metadata={"enum": list(words)})


def _put_document(kind: str) -> type[Schema]:
    shape: dict[str, fields.Field[Any]] = {
        "type": _one_of(kind),
        "id": fields.String(required=True),
        "op": _one_of("put"),
        "data": fields.Nested(DOCUMENTS[kind], required=True),
    }
    return Schema.from_dict(shape, name=f"Put{DOCUMENTS[kind].__name__.removeprefix('Carried')}")


class DeleteDocument(Schema):
    type = _one_of(*DOCUMENTS)
    id = fields.String(required=True)
    op = _one_of("delete")


#: A page of the feed as the API document tells it.
PAGE_DOCUMENT: dict[str, Any] = {
    "type": "object",
    "required": ["changes", "cursor", "more"],
    "properties": {
        "changes": {"type": "array", "items": {"oneOf": [*map(_put_document, DOCUMENTS), DeleteDocument]}},
        "cursor": {"type": "string", "description": "to ask with for what follows"},
        "more": {"type": "boolean", "description": "more is there already"},
    },
}
