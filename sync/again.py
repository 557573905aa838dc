"""Which records are to be looked at again, behind the requests; `reappraisal` does it. Nobody waits here for anybody."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable

from sqlalchemy import insert, literal, select, union_all
from sqlalchemy.orm import Session

from sync.models import Incident, Reappraisal, UtcDateTime, VendorWarning, among, insert_rows


def look_again_at(session: Session, records: Iterable[tuple[str, uuid.UUID]], *, now: dt.datetime) -> None:
    """These records (kind, id) will be looked at again."""
    rows = [{"kind": kind, "record_id": record_id, "since_at": now} for kind, record_id in records]
    insert_rows(session, Reappraisal, rows)


def look_again_at_vendors(session: Session, vendors: Collection[uuid.UUID], *, now: dt.datetime) -> None:
    """All records that tell of these vendors will be looked at again: how often they were warned is counted anew."""
    if not vendors:
        return
    told = (
        select(literal(kind), model.id, literal(now, UtcDateTime)).where(
            among(session, model.vendor_id, vendors), model.voided_at.is_(None)
        )
        for kind, model in (("incident", Incident), ("warning", VendorWarning))
    )
    session.execute(insert(Reappraisal).from_select(["kind", "record_id", "since_at"], union_all(*told)))
