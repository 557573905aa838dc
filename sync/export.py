"""Incidents out, as GeoJSON (RFC 7946) or CSV (RFC 4180), a chunk at a time: memory stays flat whatever the number.

The same selection and the same visibility as the list on screen, in one statement. A record is flat, with the same
attributes in both formats; parties stay out (the single record names them), a vendor's phone and plate are masked as
everywhere. A stream needs a session of its own, begun with `begin_read`, that stays open as long as the stream.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Select, Text, cast, func, select
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync import patrol_log, shapes
from sync.models import Account, EnforcementItem, Incident, IncidentItem, SignedIn, Township
from sync.patrol_log import Selection
from sync.shapes import Json, instant

#: Records fetched and written at once.
CHUNK = 1_000
#: Combinations of items kept at hand, so that memory stays flat however many there are.
REMEMBERED = 10_000
#: What a spreadsheet may take for a formula (OWASP, CSV injection); Chinese Excel takes the full width forms too.
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
_BOM = "\ufeff".encode()


def geojson(session: Session, who: SignedIn, selection: Selection) -> Iterator[bytes]:
    """A FeatureCollection of the incidents asked for, newest first; those without a position have a null geometry.

    Raises QueryInvalid, and whatever the database has to say, before it returns.
    """
    return _opened(_features(_chunks(session, who, selection)))


def as_csv(session: Session, who: SignedIn, selection: Selection) -> Iterator[bytes]:
    """The incidents asked for as UTF-8 with a byte order mark, one line each, newest first, below a line of names.

    Raises QueryInvalid, and whatever the database has to say, before it returns.
    """
    return _opened(_lines(_chunks(session, who, selection)))


def _opened(stream: Iterator[bytes]) -> Iterator[bytes]:
    """The stream after its first, empty piece: the first chunk has been fetched, whatever is refused was refused."""
    next(stream)
    return stream


# ---------------------------------------------------------------- records

#: What is asked of the database, in the order of the columns.
_PLAIN: Mapping[str, Any] = {
    "id": Incident.id,
    "version": Incident.version,
    "occurred_at": Incident.occurred_at,
    "occurred_error_ms": Incident.occurred_error_ms,
    "occurred_method": Incident.occurred_method,
    "received_at": Incident.received_at,
    "officer": Account.username,
    "officer_full_name": Account.full_name,
    "township_code": Incident.township_code,
    "township_name": Township.name,
    "township_chosen": Incident.township,
    "located": Incident.located,
    "located_code": Incident.located_code,
    "located_candidates": Incident.located_candidates,
    "areas_edition": Incident.areas_edition,
    "lon": Incident.lon,
    "lat": Incident.lat,
    "error_m": Incident.error_m,
    "event_class": Incident.event_class,
    "event_class_edition": Incident.event_class_edition,
    "description": Incident.description,
    "measures": Incident.measures,
    "designated_place": Incident.designated_place,
    "no_penalty_reason": Incident.no_penalty_reason,
    "patrol": Incident.patrol,
    "photos": Incident.photos,
    "photos_missing": patrol_log.missing_photos(Incident),
    "notes": Incident.note_codes,
    "voided_at": Incident.voided_at,
    "void_reason": Incident.void_reason,
    "vendor_id": Incident.vendor_id,
}
_VENDOR = ("name", "phone", "stall", "plate")
_ITEMS = ("items", "item_names", "domains", "referred_to")
#: Every column of a record, in order.
COLUMNS = (*_PLAIN, *(f"vendor_{name}" for name in _VENDOR), *_ITEMS)


def _chunks(session: Session, who: SignedIn, selection: Selection) -> Iterator[list[Json]]:
    """The records, flat, in chunks; at least one chunk, which may be empty."""
    asked = _asked(who, patrol_log.matching(session, who, "incident", selection))
    items, vendor_of = _Items(session), shapes.masked if who.role in shapes.MASKED_ROLES else _as_told
    with session.connection().execute(asked, execution_options={"yield_per": CHUNK}) as result:
        chunk = result.fetchmany(CHUNK)
        while True:
            yield [_record(row, vendor_of, items) for row in chunk]
            chunk = result.fetchmany(CHUNK)
            if not chunk:
                return


def _asked(who: SignedIn, conditions: Iterable[ColumnElement[bool]]) -> Select[Any]:
    told = (column.label(name) for name, column in _PLAIN.items())
    return (
        select(*told, Incident.vendor.label("vendor"), _links().label("links"))
        .outerjoin(Account, Account.id == Incident.officer_id)
        .outerjoin(Township, Township.code == Incident.township_code)
        .where(patrol_log.visible_to(Incident, who), *conditions)
        .order_by(Incident.occurred_at.desc(), Incident.id.desc())
    )


def _links() -> ColumnElement[Any]:
    """An incident's items as one text, a line `ordinal:item_id:referred_to` for each: rows of their own cost twice."""
    referred_to = func.coalesce(IncidentItem.referred_to, "")
    link = cast(IncidentItem.ordinal, Text) + ":" + cast(IncidentItem.item_id, Text) + ":" + referred_to
    texts = select(func.aggregate_strings(link, "\n")).where(IncidentItem.incident_id == Incident.id)
    return texts.correlate(Incident).scalar_subquery()


class _Items(dict[str | None, Json]):
    """What the texts of `_links` say. Most incidents share theirs with many others: each is read once."""

    def __init__(self, session: Session) -> None:
        edition = EnforcementItem
        asked = select(edition.id, edition.code, edition.name, edition.domain)
        self._editions = {str(id): texts for id, *texts in session.execute(asked)}

    def __missing__(self, links: str | None) -> Json:
        parts = [link.split(":", 2) for link in links.split("\n")] if links else []
        parts.sort(key=lambda part: int(part[0]))
        codes, names, domains = zip(*(self._editions[id] for _, id, _ in parts), strict=True) if parts else ((), (), ())
        referred = [department for *_, department in parts if department]
        if len(self) >= REMEMBERED:
            self.clear()
        self[links] = dict(zip(_ITEMS, (list(codes), list(names), list(domains), referred), strict=True))
        return self[links]


def _as_told(vendor: Json) -> Json:
    return vendor


def _record(row: Sequence[Any], vendor_of: Callable[[Json], Json], items: _Items) -> Json:
    *plain, vendor, links = row
    record = dict(zip(_PLAIN, plain, strict=True))
    for name in ("occurred_at", "received_at", "voided_at"):
        record[name] = instant(record[name])
    record["photos"] = len(record["photos"])
    vendor = vendor_of(vendor or {})
    for name in _VENDOR:
        record[f"vendor_{name}"] = vendor.get(name)
    record.update(items[links])
    return record


# ---------------------------------------------------------------- GeoJSON


def _features(chunks: Iterator[list[Json]]) -> Iterator[bytes]:
    chunk = next(chunks)
    yield b""
    yield b'{"type":"FeatureCollection","features":['
    yield _written(chunk)
    for chunk in chunks:
        yield b",\n" + _written(chunk)
    yield b"]}\n"


def _written(chunk: list[Json]) -> bytes:
    return orjson.dumps([_feature(record) for record in chunk])[1:-1]


def _feature(record: Json) -> Json:
    lon, lat = record.pop("lon"), record.pop("lat")
    geometry = None if lon is None else {"type": "Point", "coordinates": [lon, lat]}
    return {"type": "Feature", "id": record.pop("id"), "geometry": geometry, "properties": record}


# ---------------------------------------------------------------- CSV


def _lines(chunks: Iterator[list[Json]]) -> Iterator[bytes]:
    chunk = next(chunks)
    yield b""
    yield _BOM + _table([COLUMNS])
    yield _table(_cells(chunk))
    for chunk in chunks:
        yield _table(_cells(chunk))


def _table(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cells(chunk: list[Json]) -> Iterator[list[Any]]:
    """What stands in the cells: a list as `a;b`, a number as it is, a text never as what could be run as a formula."""
    for record in chunk:
        values = [";".join(value) if type(value) is list else value for value in record.values()]
        yield [f"'{value}" if type(value) is str and value[:1] in _FORMULA else value for value in values]
