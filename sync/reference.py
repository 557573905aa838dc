"""The lists everything is looked up in: townships, areas, departments, items, delegations, places, event classes.

They come as a folder of files (`sync/sheets.py`) and load all or nothing: every fault of every file is collected first,
by file and line. A file that is absent leaves its table as it is. Loading the same folder again changes nothing. Rows
are never deleted: what ends gets `until_on`. A code that exists keeps its name, and whatever refers to a township gives
its code *and* its name: public lists number three townships of the district differently, and a mix-up must not load.

Who decides gets all of it as one `Snapshot`, read once per version of the reference data.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, cast

from sqlalchemy import Table, select, update
from sqlalchemy.orm import Session

from sync import enforcement, journal, places
from sync.models import (
    Delegation,
    Department,
    DesignatedPlace,
    EnforcementItem,
    EventClass,
    Head,
    Provision,
    Township,
    TownshipArea,
    insert_rows,
    upsert_rows,
)
from sync.problems import ReferenceInvalid
from sync.sheets import EVENT_CLASSES, ITEMS, PROVISIONS, SHEETS, Fault, Key, Line, ReferenceFolder, Row, Sheet, read

__all__ = ["Counts", "Plan", "ReferenceFolder", "Snapshot", "load", "plan", "read", "snapshot"]

#: Versions of the reference data that are kept in memory; more than one only while a new one arrives, and in tests.
SNAPSHOTS_KEPT = 4
#: Where the columns live that a provision's file has and its table has not.
OF_PROVISION = {"item_code": EnforcementItem.code, "item_from_on": EnforcementItem.from_on}


# ---------------------------------------------------------------- comparing with what is there


class Counts(NamedTuple):
    """How many rows of one file are new, differ from what is stored, or are stored already."""

    added: int
    changed: int
    unchanged: int


class _Stored(NamedTuple):
    row: Row
    id: int | None


@dataclass(frozen=True)
class _Table:
    """A file beside what is stored of it, by key."""

    sheet: Sheet
    lines: Mapping[Key, Line]
    stored: Mapping[Key, _Stored]

    @cached_property
    def added(self) -> list[Row]:
        return [line.row for key, line in self.lines.items() if key not in self.stored]

    @cached_property
    def changed(self) -> list[Row]:
        both = ((line.row, self.stored[key].row) for key, line in self.lines.items() if key in self.stored)
        return [row for row, stored in both if row != stored]

    @cached_property
    def after(self) -> dict[Key, Row]:
        """Every row as it will be."""
        fresh = {self.sheet.key_of(row): row for row in (*self.added, *self.changed)}
        return {**{key: stored.row for key, stored in self.stored.items()}, **fresh}

    @property
    def counts(self) -> Counts:
        added, changed = len(self.added), len(self.changed)
        return Counts(added, changed, len(self.lines) - added - changed)


@dataclass(frozen=True)
class Plan:
    """What loading would do, by file, and everything that forbids it."""

    tables: Mapping[str, _Table]
    faults: tuple[Fault, ...]

    @property
    def counts(self) -> dict[str, Counts]:
        return {file: table.counts for file, table in self.tables.items() if table.lines}

    @property
    def changes_something(self) -> bool:
        return any(counts.added or counts.changed for counts in self.counts.values())


def plan(session: Session, folder: ReferenceFolder) -> Plan:
    """What loading this folder would do now. Writes nothing; one query per table."""
    tables = {sheet.file: _Table(sheet, folder.lines.get(sheet.file, {}), _stored(session, sheet)) for sheet in SHEETS}
    found = [*folder.faults]
    for table in tables.values():
        found += [*_renamed(table), *_lost(table, tables), *_overlaps(table)]
    found += _unclassed(tables)
    return Plan(tables, tuple(sorted(found)))


def _stored(session: Session, sheet: Sheet) -> dict[Key, _Stored]:
    table = cast(Table, sheet.model.__table__)
    elsewhere = OF_PROVISION if sheet is PROVISIONS else {}
    columns = [(elsewhere[name] if name in elsewhere else table.c[name]).label(name) for name in sheet.stored_columns]
    query = select(*columns, *(table.c[name] for name in ("id",) if name in table.c))
    if elsewhere:
        query = query.join(EnforcementItem, EnforcementItem.id == Provision.item_id)
    stored: dict[Key, _Stored] = {}
    for found in session.execute(query).mappings():
        row = dict(found)
        row_id = row.pop("id", None)
        stored[sheet.key_of(row)] = _Stored(row, row_id)
    return stored


def _renamed(table: _Table) -> Iterator[Fault]:
    """A code that exists keeps its name: another name means another list."""
    for key, line in table.lines.items():
        known = table.stored.get(key)
        if known and known.row.get("name") != line.row.get("name"):
            yield Fault(table.sheet.file, line.number, "name-mismatch", f"{line.row['name']} ≠ {known.row['name']}")


def _lost(table: _Table, tables: Mapping[str, _Table]) -> Iterator[Fault]:
    """Rows that refer to nothing, or by a code and a name that don't belong together."""
    for refers in table.sheet.refers:
        target = {tuple(row[name] for name in refers.target): row for row in tables[refers.file].after.values()}
        for line in table.lines.values():
            wanted = tuple(line.row[name] for name in refers.columns)
            if wanted not in target:
                yield Fault(table.sheet.file, line.number, refers.code, " ".join(map(str, wanted)))
            elif refers.name and line.names[refers.name] != target[wanted]["name"]:
                detail = f"{wanted[0]}: {line.names[refers.name]} ≠ {target[wanted]['name']}"
                yield Fault(table.sheet.file, line.number, "name-mismatch", detail)


def _overlaps(table: _Table) -> Iterator[Fault]:
    """Editions of one thing that are in force on one day: then nobody could say which one holds."""
    if not table.sheet.series:
        return
    editions: dict[Key, list[Row]] = defaultdict(list)
    for row in table.after.values():
        editions[tuple(row[name] for name in table.sheet.series)].append(row)
    for rows in editions.values():
        rows.sort(key=lambda row: row["from_on"] or dt.date.min)
        for earlier, later in pairwise(rows):
            ends, begins = earlier["until_on"], later["from_on"]
            line = table.lines.get(table.sheet.key_of(later)) or table.lines.get(table.sheet.key_of(earlier))
            if line and (ends is None or begins is None or begins <= ends):
                yield Fault(table.sheet.file, line.number, "overlapping-days", f"{ends or '…'} ≥ {begins or '…'}")


def _unclassed(tables: Mapping[str, _Table]) -> Iterator[Fault]:
    classes = {row["code"] for row in tables[EVENT_CLASSES.file].after.values()}
    for line in tables[ITEMS.file].lines.values():
        for code in line.row["event_classes"]:
            if code not in classes:
                yield Fault(ITEMS.file, line.number, "unknown-event-class", code)


# ---------------------------------------------------------------- loading


def load(session: Session, folder: ReferenceFolder, *, now: dt.datetime) -> Plan:
    """The folder is stored, journalled and a new version of the reference data, unless it changes nothing.

    Raises ReferenceInvalid with every fault if there is one; then nothing is written.
    """
    planned = plan(session, folder)
    if planned.faults:
        raise ReferenceInvalid(errors=[{**fault._asdict(), "message": str(fault)} for fault in planned.faults])
    if planned.changes_something:
        for table in planned.tables.values():
            _write(session, table)
        session.execute(update(Head).where(Head.id == 1).values(reference_version=uuid.uuid4()))
        journal.record(session, _changes(tuple(planned.tables.values())), now=now)
    return planned


def _write(session: Session, table: _Table) -> None:
    added, changed = table.added, [_with_id(table, row) for row in table.changed]
    if table.sheet is PROVISIONS and (added or changed):
        found = session.execute(select(EnforcementItem.code, EnforcementItem.from_on, EnforcementItem.id))
        ids = {(code, from_on): item_id for code, from_on, item_id in found}
        added, changed = ([_of_item(row, ids) for row in rows] for rows in (added, changed))
    insert_rows(session, table.sheet.model, added)
    upsert_rows(session, table.sheet.model, changed)


def _with_id(table: _Table, row: Row) -> Row:
    row_id = table.stored[table.sheet.key_of(row)].id
    return row if row_id is None else {"id": row_id, **row}


def _of_item(row: Row, ids: Mapping[Key, int]) -> Row:
    rest = {name: value for name, value in row.items() if name not in OF_PROVISION}
    return {"item_id": ids[row["item_code"], row["item_from_on"]], **rest}


def _changes(tables: Sequence[_Table]) -> list[journal.Change]:
    """One change per entity that a row was added to or changed in; its evidence is the digest of all its rows."""
    touched = {table.sheet.entity_of(row) for table in tables for row in (*table.added, *table.changed)}
    known = {table.sheet.entity_of(stored.row) for table in tables for stored in table.stored.values()}
    rows: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    for table in tables:
        for row in table.after.values():
            entity = table.sheet.entity_of(row)
            if entity in touched:
                rows[entity].append(journal.canonical([table.sheet.file, row]))
    return [
        journal.Change(*entity, evidence=[*entity, _digest(rows[entity])], new=entity not in known)
        for entity in sorted(touched)
    ]


def _digest(rows: list[bytes]) -> str:
    return hashlib.sha256(b"\n".join(sorted(rows))).hexdigest()


# ---------------------------------------------------------------- looking things up


class Snapshot(NamedTuple):
    """All reference data as deciders need it. Shared between requests: not to be changed."""

    lists: enforcement.Lists
    areas: places.Areas


_snapshots: dict[uuid.UUID, Snapshot] = {}
_snapshots_lock = threading.Lock()


def snapshot(session: Session) -> Snapshot:
    """The reference data as it is now: one small query when this process has read this version before."""
    version = _version(session)
    found = _snapshots.get(version)
    while found is None:
        read_version, read = version, _read_snapshot(session)
        version = _version(session)
        if version == read_version:  # else a load was committed in between, and what was read may be half of each
            found = read
            _keep(version, found)
    return found


def _version(session: Session) -> uuid.UUID:
    return session.scalars(select(Head.reference_version)).one()


def _keep(version: uuid.UUID, read: Snapshot) -> None:
    with _snapshots_lock:
        _snapshots[version] = read
        while len(_snapshots) > SNAPSHOTS_KEPT:
            del _snapshots[next(iter(_snapshots))]


def _read_snapshot(session: Session) -> Snapshot:
    columns = (TownshipArea.township_code, TownshipArea.edition, TownshipArea.geometry)
    areas = session.execute(select(*columns, TownshipArea.from_on, TownshipArea.until_on).order_by(TownshipArea.id))
    return Snapshot(_read_lists(session), places.Areas([places.Area(*row) for row in areas]))


def _read_lists(session: Session) -> enforcement.Lists:
    townships = session.execute(
        select(Township.code, Township.name, Township.from_on, Township.until_on, Township.successor_code)
    )
    found_places = session.execute(
        select(DesignatedPlace.code, DesignatedPlace.township_code, DesignatedPlace.from_on, DesignatedPlace.until_on)
    )
    return enforcement.Lists(
        townships={row.code: enforcement.Township(*row) for row in townships},
        items=_read_items(session),
        delegations=_read_delegations(session),
        departments=dict(session.execute(select(Department.code, Department.name)).all()),
        places={row.code: enforcement.Place(*row) for row in found_places},
        event_classes=frozenset(session.execute(select(EventClass.edition, EventClass.code))),
    )


def _read_items(session: Session) -> dict[str, tuple[enforcement.Item, ...]]:
    of = EnforcementItem
    query = select(of.id, of.code, of.name, of.domain, of.department_code, of.from_on, of.until_on)
    editions: dict[str, list[enforcement.Item]] = defaultdict(list)
    for row in session.execute(query.order_by(of.code, of.from_on.desc())):
        editions[row.code].append(enforcement.Item(*row))
    return {code: tuple(items) for code, items in editions.items()}


def _read_delegations(session: Session) -> dict[tuple[str, str], tuple[enforcement.Delegated, ...]]:
    of = Delegation
    query = select(of.township_code, of.item_code, of.id, of.from_on, of.until_on).order_by(of.from_on.desc())
    delegated: dict[tuple[str, str], list[enforcement.Delegated]] = defaultdict(list)
    for row in session.execute(query):
        delegated[row.township_code, row.item_code].append(enforcement.Delegated(row.id, row.from_on, row.until_on))
    return {key: tuple(found) for key, found in delegated.items()}
