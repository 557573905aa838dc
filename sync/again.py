"""Which records are to be looked at again, behind the requests (`reappraisal`). Nobody waits here for anybody."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable

from sqlalchemy.orm import Session

from sync.models import Reappraisal, insert_rows


def look_again_at(session: Session, records: Iterable[tuple[str, uuid.UUID]], *, now: dt.datetime) -> None:
    """These records (kind, id) will be looked at again."""
    rows = [{"kind": kind, "record_id": record_id, "since_at": now} for kind, record_id in records]
    insert_rows(session, Reappraisal, rows)
