"""Looks at records again, behind the requests, when more is known by now: how their photos look, or how often their
vendor was warned before. What was found is kept as at their arrival; a note that changed is sworn to, the version
stays. Vendors of whom more is known are compared here too: no phone waits to hear whom they resemble.

Any number of processes may do so side by side. The whole table can be gone through the same way (`walk`).
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, literal, select, tuple_
from sqlalchemy.orm import Session

from sync import journal, resemblances
from sync.again import look_again_at
from sync.groups import MODELS
from sync.journal import hold_counter
from sync.likeness import KINDS, Sketch
from sync.models import Reappraisal, UtcDateTime, among, is_busy
from sync.resemblances import Yardstick
from sync.settling import LOCKING_ORDER, locked, write_notes
from sync.vendor_log import asked_of, recounted, repeat_notes, vendor_of, weigh_vendors
from sync.vendors import REPEAT
from sync.verdicts import Record, remark

#: Records looked at in one transaction: a phone that amends one of them waits for no more than that.
MOST_AT_ONCE = 200
_LOG = logging.getLogger(__name__)


def waiting(session: Session) -> int:
    """How many records wait to be looked at again. Only asks."""
    return session.scalar(select(func.count()).select_from(Reappraisal)) or 0


def look_again(session: Session, yardstick: Yardstick, *, now: dt.datetime, most: int = MOST_AT_ONCE) -> int:
    """How many that waited were looked at; 0: none is left. The caller has begun a writing transaction and commits.

    Those that can't be looked at are not tried for ever: what they were found to be at their arrival stays.
    """
    chosen = select(Reappraisal.id, Reappraisal.record_id, Reappraisal.kind).order_by(Reappraisal.id).limit(most)
    rows = session.execute(chosen.with_for_update(skip_locked=True)).all()
    if rows:
        try:
            with session.begin_nested():
                _appraise(session, {row.record_id: row.kind for row in rows}, yardstick, now=now)
        except Exception as error:
            if is_busy(error):
                raise
            _LOG.exception("%s records can't be looked at again", len(rows))
        session.execute(delete(Reappraisal).where(among(session, Reappraisal.id, [row.id for row in rows])))
    return len(rows)


#: In this order a walk goes through everything.
_WALKED = (*KINDS, "vendor")


@dataclass(frozen=True, slots=True)
class Step:
    """How far a walk through all records has come: how many are `done`, and behind which record it stands."""

    kind: str
    at: dt.datetime | None = None
    id: uuid.UUID | None = None
    done: int = 0


def begin() -> Step:
    """The first step of a walk through all records."""
    return Step(_WALKED[0])


def walk(
    session: Session, step: Step, yardstick: Yardstick, *, now: dt.datetime, most: int = MOST_AT_ONCE
) -> Step | None:
    """The next records in order of kind and time are looked at; the step after them, `None` behind the last."""
    model = MODELS[step.kind]
    at = model.created_at if step.kind == "vendor" else model.occurred_at
    asked = select(model.id, at.label("at")).order_by(at, model.id).limit(most)
    if step.id is not None:
        place = tuple_(literal(step.at, UtcDateTime), literal(step.id, model.id.type))
        asked = asked.where(tuple_(at, model.id) > place)
    rows = session.execute(asked).all()
    if not rows:
        behind = _WALKED[_WALKED.index(step.kind) + 1 :]
        return Step(behind[0], done=step.done) if behind else None
    _appraise(session, {row.id: step.kind for row in rows}, yardstick, now=now)
    return Step(step.kind, rows[-1].at, rows[-1].id, step.done + len(rows))


def total(session: Session) -> int:
    """How many records a walk goes through."""
    return sum(session.scalar(select(func.count()).select_from(MODELS[kind])) or 0 for kind in _WALKED)


# ---------------------------------------------------------------- one transaction


def _appraise(session: Session, chosen: Mapping[uuid.UUID, str], yardstick: Yardstick, *, now: dt.datetime) -> None:
    records = _lock(session, chosen)
    live = {id: each for id, each in records.items() if each.state["voided_at"] is None}
    incidents = _incidents(session, live)
    _remark_repeats(session, live, incidents)
    changes = write_notes(session, [each for each in live.values() if each.touched])
    seen = {id: each for kind in KINDS for id, each in _sketched(session, kind, live).items()}
    found = resemblances.search(session, seen, yardstick)
    found = resemblances.search_on(session, seen, yardstick, found, hold_counter(session))
    resemblances.keep(session, found, records.keys(), yardstick, now=now)
    vendors = [id for id, kind in chosen.items() if kind == "vendor"]
    least_bits = yardstick.told_from_bits("vendor")
    weigh_vendors(session, vendors, yardstick.table, least_bits=least_bits, now=now)
    spoken = resemblances.group_sent_again(session, found, now=now)
    for each in spoken:
        look_again_at(session, recounted(session, each.changed), now=now)
    changes += [change for each in spoken for change in each.changes]
    evidence = [entry for each in spoken for entry in each.evidence]
    if changes or evidence:
        journal.record(session, changes, now=now, evidence=evidence)


def _lock(session: Session, chosen: Mapping[uuid.UUID, str]) -> dict[uuid.UUID, Record]:
    """Those of them that are records, and no vendors, locked."""
    of_kind = {kind: [id for id, of in chosen.items() if of == kind] for kind in LOCKING_ORDER}
    return {id: each for kind, ids in of_kind.items() if ids for id, each in locked(session, kind, ids).items()}


def _incidents(session: Session, records: Mapping[uuid.UUID, Record]) -> dict[uuid.UUID, Mapping[str, Any]]:
    """The columns of every incident among these records, and of those that the warnings among them are about."""
    among_them = {id: each.state for id, each in records.items() if each.kind == "incident"}
    about = {each.state["incident"] for each in records.values() if each.kind == "warning"}
    return {**among_them, **resemblances.incidents_of(session, about - among_them.keys())}


def _sketched(session: Session, kind: str, records: Mapping[uuid.UUID, Record]) -> dict[uuid.UUID, Sketch]:
    return resemblances.sketched(session, kind, [each.state for each in records.values() if each.kind == kind])


def _remark_repeats(
    session: Session, records: Mapping[uuid.UUID, Record], incidents: Mapping[uuid.UUID, Mapping[str, Any]]
) -> None:
    """The records say of their vendors what is known by now; those that said something else are touched."""
    about = {id: incidents[r.state.get("incident", id)] for id, r in records.items() if r.kind != "patrol"}
    of_vendors = [id for id, incident in about.items() if vendor_of(records[id].state, incident)]
    asked = [asked_of(records[id].state, about[id]) for id in of_vendors]
    notes = repeat_notes(session, asked, [])
    for record in records.values():
        before = record.state["notes"]
        remark(record, REPEAT, notes.get(record.state["id"]))
        record.touched = record.state["notes"] != before
