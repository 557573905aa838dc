"""What vendors look like on their way out: a card for each, and all that is known of one.

As in `shapes`, each function gives the JSON value of one thing, and a document describes it for the API document; a
test holds the two together. Masking is the business of whoever knows who asks.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence

from marshmallow import Schema, fields

from sync.clock import local_day
from sync.shapes import Columns, GroupDocument, Json, NamedDocument, group, instant, vendor_side
from sync.vendors import Note, Warned, count_events
from sync.wire import RESPONSES, STEPS


def card(row: Columns, members: Sequence[Columns], warnings: Collection[Warned]) -> Json:
    """A vendor as first told, with those that are one with it, and how often it was warned; all that count."""
    one_thing = group(members) if members else None
    return vendor_side(row) | {"created_at": instant(row.created_at), "group": one_thing, "warned": _warned(warnings)}


def _warned(warnings: Collection[Warned]) -> Json:
    days = [local_day(warning.occurred_at) for warning in warnings]
    return {"events": count_events(warnings), "first_on": min(days, default=None), "last_on": max(days, default=None)}


def whole(
    members: Iterable[Columns],
    taken_for: Mapping[uuid.UUID, Collection[str]],
    warnings: Iterable[Columns],
    next_steps: Sequence[Note],
    resembles: Iterable[Json],
) -> Json:
    """What else is known of one vendor: who is one with it, whom it is taken for and by what, its warnings, which steps
    may come next, and whom it resembles."""
    return {
        "members": [vendor_side(member) for member in members],
        "taken_for": [{"vendor": str(id), "by": sorted(by)} for id, by in sorted(taken_for.items())],
        "warnings": [warning(row) for row in warnings],
        "next_steps": list(next_steps),
        "resembles": [{"vendor": each["record"], "score": each["score"]} for each in resembles],
    }


def warning(row: Columns) -> Json:
    """A warning as it counts for its vendor; warnings of one `event` count once."""
    return {
        "id": str(row.id),
        "incident": str(row.incident),
        "event": str(row.event),
        "vendor": str(row.vendor_id),
        "occurred_at": instant(row.occurred_at),
        "township_code": row.township_code,
        "items": row.items,
        "step": row.step,
        "deadline_on": row.deadline_on,
        "response": row.response,
    }


# ---------------------------------------------------------------- the same, for the API document


class VendorSideDocument(Schema):
    id = fields.UUID(required=True)
    version = fields.Integer(required=True, metadata={"description": "1: a vendor stays as first told"})
    name = fields.String(required=True, allow_none=True)
    phone = fields.String(required=True, allow_none=True, metadata={"description": "masked for some roles"})
    stall = fields.String(required=True, allow_none=True)
    plate = fields.String(required=True, allow_none=True, metadata={"description": "masked for some roles"})
    township = fields.Nested(NamedDocument, required=True, allow_none=True)


class WarnedDocument(Schema):
    """In how many events the vendor was warned, in the whole district, and on which days first and last."""

    events = fields.Integer(required=True)
    first_on = fields.Date(required=True, allow_none=True)
    last_on = fields.Date(required=True, allow_none=True)


class VendorDocument(VendorSideDocument):
    created_at = fields.AwareDateTime(required=True)
    group = fields.Nested(GroupDocument, required=True, allow_none=True)
    warned = fields.Nested(WarnedDocument, required=True)


class TakenForDocument(Schema):
    vendor = fields.UUID(required=True)
    by = fields.List(fields.String(metadata={"enum": ["phone", "plate", "stall", "group"]}), required=True)


class CountedWarningDocument(Schema):
    id = fields.UUID(required=True)
    incident = fields.UUID(required=True)
    event = fields.UUID(required=True, metadata={"description": "warnings of one event count once"})
    vendor = fields.UUID(required=True)
    occurred_at = fields.AwareDateTime(required=True)
    township_code = fields.String(required=True, allow_none=True)
    items = fields.List(fields.String(), required=True)
    step = fields.String(required=True, metadata={"enum": list(STEPS)})
    deadline_on = fields.Date(required=True, allow_none=True)
    response = fields.String(required=True, allow_none=True, metadata={"enum": [*RESPONSES, None]})


class NextStepDocument(Schema):
    """A proposal; who is on the spot decides. See the note `repeat-vendor` of the protocol."""

    item = fields.String(required=True)
    step = fields.String(required=True, metadata={"enum": list(STEPS)})
    why = fields.String(required=True)
    articles = fields.List(fields.String(), required=True)
    warnings = fields.Integer(required=True, metadata={"description": "events with this item"})
    first = fields.Boolean(
        required=True, allow_none=True, metadata={"description": "the first offence (首次); null where nobody can tell"}
    )


class ResembledVendorDocument(Schema):
    vendor = fields.UUID(required=True)
    score = fields.Float(required=True)


class OneVendorDocument(VendorDocument):
    members = fields.List(fields.Nested(VendorSideDocument), required=True)
    taken_for = fields.List(fields.Nested(TakenForDocument), required=True)
    warnings = fields.List(fields.Nested(CountedWarningDocument), required=True)
    next_steps = fields.List(fields.Nested(NextStepDocument), required=True)
    resembles = fields.List(fields.Nested(ResembledVendorDocument), required=True)


class VendorsDocument(Schema):
    items = fields.List(fields.Nested(VendorDocument), required=True)
    next = fields.String(required=True, allow_none=True, metadata={"description": "the next page's cursor"})
