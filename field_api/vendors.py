"""Vendors: looking for one, and what is known of one."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from field_api.answers import as_json
from field_api.database import db
from field_api.identity import roles
from field_api.yardstick import yardstick
from sync import shapes, vendor_cards, vendor_shapes
from sync.models import ROLES, SignedIn, begin_read
from sync.vendor_cards import Selection

blueprint = Blueprint("vendors", __name__, url_prefix="/api/v1/vendors", description="Street vendors")


@blueprint.route("")
@roles(*ROLES)
@blueprint.arguments(shapes.VendorsQuery, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=vendor_shapes.VendorsDocument, success=True)
def list_vendors(who: SignedIn, query: dict[str, Any]) -> Response:
    """Vendors of your townships and of records you may see, or all; the newest first, those that are one once.

    `phone`, `plate` and `stall` find who was ever told with it, however it was written; the first two are for
    supervisors and reviewers. `name` finds by sound: characters, pinyin or initials, and the beginning of each.
    """
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    session = db.session()
    begin_read(session)
    page = vendor_cards.find(session, who, Selection(**query), limit=limit, cursor=cursor)
    session.rollback()
    return as_json({"items": page.items, "next": page.next})


@blueprint.route("/<uuid:id>")
@roles(*ROLES)
@blueprint.alt_response(200, schema=vendor_shapes.OneVendorDocument, success=True)
def get_vendor(who: SignedIn, id: uuid.UUID) -> Response:
    """A vendor: who it may be besides, what it was warned of, and which step may come next."""
    session = db.session()
    begin_read(session)
    told = vendor_cards.one(session, who, id, yardstick(), now=dt.datetime.now(dt.UTC))
    session.rollback()
    return as_json(told)
