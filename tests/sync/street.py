"""Vendors and what they were warned of, as settling would leave them, for tests of whoever asks."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from sync.models import Grouped, Incident, Patrol, SignedIn, Vendor, VendorWarning
from sync.vendor_log import keep_keys
from tests.builders import GUALI
from tests.sync.records import NOW, make_incident, make_warning

WANG = {"name": "王建国", "phone": "13800010001", "plate": "浙A12345", "stall": "A-12"}
STREET = "DEMO-SR-001"


def hours_ago(hours: float) -> dt.datetime:
    return NOW - dt.timedelta(hours=hours)


def make_vendor(
    session: Session, township: str | None = GUALI, *, created_at: dt.datetime = NOW, **told: Any
) -> Vendor:
    """A vendor as first told, known by that."""
    says = dict.fromkeys(("name", "phone", "stall", "plate")) | told
    vendor = Vendor(id=uuid.uuid4(), **says, township_code=township, created_at=created_at)
    session.add(vendor)
    session.flush()
    keep_keys(session, [(vendor.id, township, says)], {vendor.id})
    return vendor


def warn(
    session: Session,
    patrol: Patrol,
    officer: SignedIn,
    vendor: Vendor,
    at: dt.datetime,
    *,
    items: Sequence[str] = (STREET,),
    **columns: Any,
) -> VendorWarning:
    """An incident with this vendor, and a warning given there."""
    met = make_incident(session, patrol, officer, items=items, occurred_at=at, vendor_id=vendor.id)
    return make_warning(session, met, officer, occurred_at=at, **{"vendor_id": vendor.id} | columns)


def group(session: Session, *records: Vendor | Incident) -> None:
    """These are one thing."""
    group_id = min(record.id for record in records)
    session.add_all(Grouped(record_id=record.id, group_id=group_id) for record in records)
    session.flush()
