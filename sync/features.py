"""The features of a layer: which are asked for, pages of them as GeoJSON, single ones. Nothing here writes.

`_conditions` is the one place where everything that was asked comes together: visibility and the filters of the lists
(`patrol_log`), a box, a time, properties, a filter in CQL2. Records come newest first, like every list; lists in the
order of their keys. The database makes texts of instants and ids, and looks once for a record's photos; what items are
called is put together here, where it costs less.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import threading
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import orjson
import shapely
from marshmallow import ValidationError
from sqlalchemy import (
    Float,
    Select,
    Text,
    and_,
    cast,
    false,
    func,
    null,
    or_,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync import cql, patrol_log, projections, shapes
from sync.clock import LOCAL_ZONE
from sync.journal import canonical
from sync.layers import Layer, photos_told
from sync.models import (
    EnforcementItem,
    Head,
    SignedIn,
    TownshipArea,
    Track,
    TrackBox,
    among,
    is_box,
    text_of_instant,
    text_of_uuid,
    within_shape,
)
from sync.patrol_log import FILTERS, Selection
from sync.problems import NotFound, QueryInvalid
from sync.projections import CRS84, Crs
from sync.shapes import Json

#: What every layer takes, besides its own filters and its properties.
COMMON = ("limit", "cursor", "bbox", "bbox-crs", "datetime", "crs", "filter", "filter-lang", "filter-crs")
LANGUAGES = ("cql2-text", "cql2-json")
#: Counts that each process remembers.
COUNTS_KEPT = 256
#: Lists of item codes whose names each process remembers, so that memory stays flat however many there are.
NAMES_KEPT = 10_000
_NUMBER = re.compile(r"[-+]?([0-9]{1,20}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")

Condition = ColumnElement[bool]
Interval = tuple[dt.datetime | None, dt.datetime | None]


# ---------------------------------------------------------------- what is asked for


@dataclass(frozen=True)
class Asked:
    """Which features of a layer, in which coordinate system, and which page of them. `given` is what was said of which:
    another page of the same features has the same."""

    selection: Selection
    equal: Mapping[str, str]
    box: Any
    between: Interval | None
    filter: tuple[str, str, Crs] | None
    crs: Crs
    limit: int
    cursor: str | None
    given: Sequence[tuple[str, str]]


def own_filters(layer: Layer) -> tuple[str, ...]:
    """The filters of the lists that a layer takes; a box is said in the way of maps."""
    return tuple(name for name in FILTERS[layer.kind] if name != "bbox") if layer.kind else ()


def parameters(layer: Layer) -> frozenset[str]:
    """Everything that may stand behind the question mark."""
    return frozenset((*COMMON, *own_filters(layer), *layer.queryables))


def read(layer: Layer, query: Sequence[tuple[str, str]]) -> Asked:
    """What a query string asks for. Raises QueryInvalid for what is unknown, said twice, or makes no sense."""
    said = dict(query)
    for name in said:
        if name not in parameters(layer):
            raise QueryInvalid.of(name, "no such parameter")
    if len(said) < len(query):
        raise QueryInvalid.of(
            next(name for name in said if [n for n, _ in query].count(name) > 1), "given more than once"
        )
    filters = {name: said[name] for name in own_filters(layer) if name in said}
    equal = {name: said[name] for name in layer.queryables if name in said and name not in filters}
    return Asked(
        selection=_selection(filters),
        equal=equal,
        box=_box(said),
        between=_interval(said["datetime"]) if "datetime" in said else None,
        filter=_filter(said),
        crs=_crs(said, "crs"),
        limit=_limit(layer, said.get("limit")),
        cursor=said.get("cursor"),
        given=sorted((name, text) for name, text in said.items() if name not in ("limit", "cursor", "crs")),
    )


def _selection(filters: Mapping[str, str]) -> Selection:
    try:
        return Selection(**shapes.SelectionQuery(only=tuple(filters)).load(_Once(filters)))
    except ValidationError as error:
        name, messages = next(iter(error.messages_dict.items()))
        raise QueryInvalid.of(name, str(messages[0])) from None


class _Once(dict[str, str]):
    """A query in which nothing is said twice, as the shapes of lists read it."""

    def lists(self) -> Iterable[tuple[str, list[str]]]:
        return [(name, [text]) for name, text in self.items()]


def _crs(said: Mapping[str, str], parameter: str) -> Crs:
    uri = said.get(parameter, CRS84.uri)
    if uri not in projections.SPOKEN:
        raise QueryInvalid.of(parameter, "no coordinate system that is spoken here")
    return projections.SPOKEN[uri]


def spoken(said: Mapping[str, str]) -> Crs:
    """The coordinate system to answer in. Raises QueryInvalid if it is none that is spoken here."""
    return _crs(said, "crs")


def _limit(layer: Layer, text: str | None) -> int:
    """How many on a page: as many as one holds, where more are asked for."""
    if text is None:
        return layer.usual
    if not re.fullmatch(r"[0-9]{1,1000}", text) or int(text) < 1:
        raise QueryInvalid.of("limit", f"a whole number from 1 to {layer.most}")
    return min(int(text), layer.most)


def _box(said: Mapping[str, str]) -> Any:
    crs = _crs(said, "bbox-crs")
    if "bbox" not in said:
        return None
    parts = said["bbox"].split(",")
    if len(parts) not in (4, 6) or not all(_NUMBER.fullmatch(part.strip()) for part in parts):
        raise QueryInvalid.of("bbox", "four numbers, or six with heights")
    numbers = list(map(float, parts))
    return _corners("bbox", crs, numbers if len(numbers) == 4 else [numbers[i] for i in (0, 1, 3, 4)])


def _corners(parameter: str, crs: Crs, numbers: Sequence[float]) -> Any:
    try:
        return projections.box_from_wire(crs, *numbers)
    except ValueError as error:
        raise QueryInvalid.of(parameter, str(error)) from None


def _interval(text: str) -> Interval:
    """The first and the last instant of an interval, both in it; `None` where it is open."""
    first, slash, last = text.partition("/")
    begins, ends = _end(first, bool(slash)), _end(last, True) if slash else _end(first, False)
    if begins is not None and ends is not None and ends < begins:
        raise QueryInvalid.of("datetime", "the interval ends before it begins")
    return begins, ends


def _end(text: str, may_be_open: bool) -> dt.datetime | None:
    if may_be_open and text in ("", ".."):
        return None
    try:
        return cql.instant(text)
    except ValueError as error:
        raise QueryInvalid.of(
            "datetime", f"an instant or two with / between, as in 2026-11-23T08:15:00Z/..: {error}"
        ) from None


def _filter(said: Mapping[str, str]) -> tuple[str, str, Crs] | None:
    language, crs = said.get("filter-lang", LANGUAGES[0]), _crs(said, "filter-crs")
    if language not in LANGUAGES:
        raise QueryInvalid.of("filter-lang", "one of " + ", ".join(LANGUAGES))
    return (said["filter"], language, crs) if "filter" in said else None


# ---------------------------------------------------------------- conditions


def _conditions(session: Session, who: SignedIn, layer: Layer, asked: Asked) -> list[Condition]:
    """Everything that was asked of a layer, but who may see what. Records that are one thing are one feature, which
    stands where the first of them does; what else is asked, is asked of that."""
    conditions = patrol_log.matching(session, who, layer.kind, asked.selection) if layer.kind else []
    for name, text in asked.equal.items():
        conditions.append(_equal(session, layer, name, text))
    if asked.between is not None:
        conditions.append(_within(layer, *asked.between))
    if asked.box is not None:
        conditions.append(_meets(session, layer, asked.box))
    if asked.filter is not None:
        conditions.append(_filtered(session, layer, *asked.filter))
    return conditions


def _equal(session: Session, layer: Layer, name: str, text: str) -> Condition:
    try:
        return cql.equals(session, layer.queryables[name], text)
    except (ValueError, KeyError, QueryInvalid):
        raise QueryInvalid.of(name, f"no {layer.queryables[name].kind}") from None


def _within(layer: Layer, begins: dt.datetime | None, ends: dt.datetime | None) -> Condition:
    """True where a feature's time and this one meet. Days are those of China."""
    first, last = layer.instants
    beyond = None if ends is None else ends + cql.TOLD
    if layer.kind is None:
        days = [None if at is None else _day(at) for at in (begins, ends)]
        after = true() if days[0] is None else or_(last.is_(None), last >= days[0])
        return and_(after, true() if days[1] is None else or_(first.is_(None), first <= days[1]))
    after = true() if begins is None else last >= begins
    return and_(after, true() if beyond is None else first < beyond)


def _day(at: dt.datetime) -> dt.date:
    try:
        return at.astimezone(LOCAL_ZONE).date()
    except OverflowError:
        return at.date()


def _filtered(session: Session, layer: Layer, text: str, language: str, crs: Crs) -> Condition:
    def meets(drawn: Any) -> Condition:
        is_corners = isinstance(drawn, tuple)
        shape = _corners("filter", crs, drawn) if is_corners else projections.from_wire(crs, drawn)
        return _meets(session, layer, shape)

    return cql.condition(session, text, language, layer.queryables, meets, geometry=_drawn(layer))


def _drawn(layer: Layer) -> ColumnElement[Any]:
    """NULL where a feature has no geometry."""
    if layer.kind is None:
        return cast(layer.model.geometry, Text)
    if layer.kind == "patrol":
        line = select(TrackBox.track_id).where(TrackBox.patrol_id == layer.key).limit(1)
        return line.correlate(layer.model).scalar_subquery()
    return type_coerce(layer.model.lon, Float)


def _meets(session: Session, layer: Layer, shape: Any) -> Condition:
    """True where a feature's geometry and the shape have a point in common."""
    if shape.is_empty:
        return false()
    if layer.kind is None:
        geometries = session.execute(select(layer.key, layer.model.geometry)).all()
        return among(session, layer.key, [key for key, drawn in geometries if shape.intersects(_shape(drawn))])
    return _passes(session, layer, shape) if layer.kind == "patrol" else within_shape(session, layer.model, shape)


def _passes(session: Session, layer: Layer, shape: Any) -> Condition:
    """True where a patrol's way meets the shape. Tracks whose box lies inside it do; others are read."""
    shapely.prepare(shape)
    meeting = []
    for part in shapely.get_parts(shape):
        west, south, east, north = part.bounds
        beside = or_(TrackBox.east < west, TrackBox.west > east, TrackBox.north < south, TrackBox.south > north)
        inside = and_(TrackBox.west >= west, TrackBox.east <= east, TrackBox.south >= south, TrackBox.north <= north)
        surely = inside if is_box(part) else false()
        meeting.append(layer.key.in_(select(TrackBox.patrol_id).where(surely)))
        doubtful = select(Track.id, Track.patrol_id, Track.points).join(TrackBox, TrackBox.track_id == Track.id)
        rows = session.execute(doubtful.where(~beside, ~surely).execution_options(yield_per=500))
        crossing = {row.patrol_id for row in rows if shape.intersects(shapely.linestrings(_line(row.points)))}
        meeting.append(among(session, layer.key, crossing))
    return or_(*meeting)


def _shape(drawn: Mapping[str, Any]) -> Any:
    return shapely.from_geojson(orjson.dumps(drawn))


def _line(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [(point[0], point[1]) for point in points]


# ---------------------------------------------------------------- pages


class Page(NamedTuple):
    """Features as values of GeoJSON, how many there are on all pages, where the next page begins (`None` on the last),
    and of which state of the journal they are (`None` where there are none)."""

    features: list[Json]
    matched: int
    next: str | None
    state: bytes | None


def page(session: Session, who: SignedIn, layer: Layer, asked: Asked, address: str) -> Page:
    """One page of the features asked for; links in them begin with `address`. A deep one costs what the first does.

    Raises QueryInvalid if the filter or the cursor makes no sense.
    """
    conditions, known, place = _conditions(session, who, layer, asked), None, None
    if asked.cursor is not None:
        known, place = _position(layer, asked)
    rows = _rows(session, who, layer, conditions, place, asked.limit + 1)
    shown = rows[: asked.limit]
    if known is None:
        known = len(rows)
        if known > asked.limit:
            known = _count(session, who, layer, asked, conditions, rows[0][_HEAD])
    following = None
    if len(rows) > asked.limit:
        following = f"{known}.{_behind(session, layer, asked, place, shown)}"
    return Page(_written(session, layer, shown, asked.crs, address), known, following, rows[0][_HEAD] if rows else None)


def one(session: Session, who: SignedIn, layer: Layer, id: str, crs: Crs, address: str) -> tuple[Json, bytes]:
    """The feature as a value of GeoJSON, and of which state of the journal.

    Raises NotFound if the layer has none of this id, or not for this account.
    """
    key = _key(layer, id)
    every = Selection(grouped="expand")
    conditions = patrol_log.matching(session, who, layer.kind, every) if layer.kind else []
    rows = _rows(session, who, layer, [layer.key == key, *conditions], None, 1)
    if not rows:
        raise NotFound
    return _written(session, layer, rows, crs, address)[0], rows[0][_HEAD]


def _key(layer: Layer, id: str) -> Any:
    """What a feature is found by. Raises NotFound where this can't be one."""
    if layer.kind is None and "\x00" not in id:
        return id
    try:
        return uuid.UUID(id)
    except ValueError:
        raise NotFound from None


def state(session: Session) -> bytes:
    """The journal's head: another one whenever anything that features tell of has changed."""
    return session.execute(select(Head.hash)).scalar_one()


def _position(layer: Layer, asked: Asked) -> tuple[int, Any]:
    counted, _, position = (asked.cursor or "").partition(".")
    if not re.fullmatch(r"[0-9]{1,12}", counted):
        raise QueryInvalid.of("cursor", "not a cursor of ours")
    if layer.kind is not None:
        return int(counted), patrol_log.position_of([layer.id, asked.given], position)
    if not re.fullmatch(r"[0-9]{1,9}", position):
        raise QueryInvalid.of("cursor", "not a cursor of ours")
    return int(counted), int(position)


def _behind(session: Session, layer: Layer, asked: Asked, place: Any, shown: Sequence[Any]) -> str:
    if layer.kind is None:
        return str((place or 0) + len(shown))
    last = session.execute(
        select(layer.model.occurred_at, layer.key).where(layer.key == uuid.UUID(shown[-1][_KEY]))
    ).one()
    return patrol_log.cursor_after([layer.id, asked.given], *last)


_counts: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()
_counts_lock = threading.Lock()


def _count(
    session: Session, who: SignedIn, layer: Layer, asked: Asked, conditions: Sequence[Condition], head: bytes
) -> int:
    """How many there are: counted once for each state of the journal, which every change moves on."""
    scope = [who.role, who.account_id, sorted(who.townships)]
    key = hashlib.sha256(canonical([id(session.get_bind()), scope, layer.id, asked.given])).digest()
    remembered = _counts.get(key)
    if remembered is not None and remembered[0] == head:
        return remembered[1]
    seen = [patrol_log.visible_to(layer.model, who)] if layer.kind else []
    asked_for = select(func.count()).select_from(layer.source).where(*seen, *conditions)
    counted = session.execute(asked_for).scalar_one()
    with _counts_lock:
        _counts[key] = head, counted
        _counts.move_to_end(key)
        while len(_counts) > COUNTS_KEPT:
            _counts.popitem(last=False)
    return counted


# ---------------------------------------------------------------- rows


def _rows(
    session: Session, who: SignedIn, layer: Layer, conditions: list[Condition], place: Any, limit: int
) -> Sequence[Any]:
    """Rows of `_BESIDE`, then the properties. The connection is asked, for the ORM would go through them once more."""
    asked = _asked(layer, session.get_bind().dialect.name)
    if layer.kind is None:
        rows = asked.where(*conditions).order_by(layer.key).offset(place).limit(limit)
    else:
        older = [] if place is None else [patrol_log.older(layer.model.occurred_at, layer.key, *place)]
        rows = _newest(asked, layer, who, [*conditions, *older], limit)
    return session.connection().execute(rows).all()


#: What comes before the properties in a row: its key, a position or what is drawn, how photos fare, the journal's head,
#: and the version of the reference data. By number: a name costs as much as the value.
_BESIDE = range(6)
_KEY, _LON, _LAT, _PHOTOS, _HEAD, _REFERENCE = _BESIDE
_SHAPE = _LAT


@cache
def _asked(layer: Layer, dialect: str) -> Select[Any]:
    """What is asked of the database, put together once: it is the same for every page."""
    if layer.kind is None:
        beside = [layer.key, null(), layer.model.geometry.label("drawn"), null()]
    else:
        beside = [text_of_uuid(dialect, layer.key), layer.model.lon, layer.model.lat, photos_told(layer.model)]
    state = [select(column).scalar_subquery().label(name) for name, column in _STATE.items()]
    return select(beside[0].label("key"), *beside[1:], *state, *_texts(layer, dialect)).select_from(layer.source)


_STATE = {"head": Head.hash, "reference": Head.reference_version}


def _texts(layer: Layer, dialect: str) -> Iterator[Any]:
    """The properties in order, ready to be written."""
    for each in layer.told:
        if each.kind == "date-time":
            yield text_of_instant(dialect, each.column).label(f"_{each.name}")
        elif each.kind == "uuid":
            yield text_of_uuid(dialect, each.column).label(f"_{each.name}")
        else:
            yield each.column.label(f"_{each.name}")


def _newest(
    asked: Select[Any], layer: Layer, who: SignedIn, conditions: Sequence[Condition], limit: int
) -> Select[Any]:
    """The newest of them, each way that makes a record visible asked by itself, as lists do (`patrol_log`)."""
    model, order = layer.model, (layer.model.occurred_at.desc(), layer.model.id.desc())
    ways = patrol_log.ways_to_see(model, who)
    if len(ways) == 1:
        return asked.where(ways[0], *conditions).order_by(*order).limit(limit)
    each = (
        select(model.id).select_from(layer.source).where(way, *conditions).order_by(*order).limit(limit).subquery()
        for way in ways
    )
    ids = union_all(*(select(found.c.id) for found in each))
    return asked.where(model.id.in_(ids)).order_by(*order).limit(limit)


# ---------------------------------------------------------------- GeoJSON


def _written(session: Session, layer: Layer, rows: Sequence[Any], crs: Crs, address: str) -> list[Json]:
    drawn = _DRAWN.get(layer.kind, _points)(session, rows, crs)
    told = [each.name for each in layer.told]
    features: list[Json] = []
    for row, geometry in zip(rows, drawn, strict=True):
        properties = dict(zip(told, row[len(_BESIDE) :], strict=True))
        features.append({"type": "Feature", "id": row[_KEY], "geometry": geometry, "properties": properties})
    if layer.kind is not None:
        _complete(session, layer, rows, features, f"{address}/api/v1")
    return features


def _complete(session: Session, layer: Layer, rows: Sequence[Any], features: Sequence[Json], api: str) -> None:
    """The features say what the database did not: how photos fare, what items are called, where the record is."""
    names = _item_names(session, rows[0][_REFERENCE]) if rows and "item_names" in layer.added else None
    records, before, behind = f"{api}/{layer.id}/", f"{api}/photos/", "?size=screen"
    between = f"{behind} {before}"
    for row, feature in zip(rows, features, strict=True):
        properties = feature["properties"]
        missing, _, arrived = (row[_PHOTOS] or "0:").partition(":")
        properties["photo_missing_count"] = int(missing)
        properties["photo_urls"] = before + arrived.replace(",", between) + behind if arrived else None
        properties["record_url"] = records + row[_KEY]
        if names is not None:
            properties["item_names"] = names[properties["items"]]


class _Names(dict[str | None, str | None]):
    """What lists of item codes are called, with semicolons between; each list is put together once."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__({None: None})
        self._names = names

    def __missing__(self, codes: str | None) -> str | None:
        called = ";".join(self._names.get(code, code) for code in (codes or "").split(";"))
        if len(self) < NAMES_KEPT:
            self[codes] = called
        return called


_names: dict[uuid.UUID, _Names] = {}


def _item_names(session: Session, version: uuid.UUID) -> _Names:
    """The names of the items in their newest editions, read once for each version of the reference data."""
    if version not in _names:
        item = EnforcementItem
        rows = session.execute(select(item.code, item.name).order_by(item.from_on))
        _names.clear()
        _names[version] = _Names({row.code: row.name for row in rows})
    return _names[version]


def _points(_: Session, rows: Sequence[Any], crs: Crs) -> list[Json | None]:
    if crs is CRS84:
        return [_point(row[_LON], row[_LAT]) for row in rows]
    lon, lat = (np.array([row[place] for row in rows], float) for place in (_LON, _LAT))
    first, second = projections.to_wire(crs, lon, lat)
    shown = np.isfinite(first) & np.isfinite(second)
    pairs = zip(first.tolist(), second.tolist(), shown.tolist(), strict=True)
    return [_point(x, y) if is_shown else None for x, y, is_shown in pairs]


def _point(x: float | None, y: float | None) -> Json | None:
    return None if x is None else {"type": "Point", "coordinates": (x, y)}


def _lines(session: Session, rows: Sequence[Any], crs: Crs) -> list[Json | None]:
    """The way of each patrol; tracks of a single point are no lines."""
    ids = [uuid.UUID(row[_KEY]) for row in rows]
    asked = select(Track.patrol_id, Track.points).where(among(session, Track.patrol_id, ids))
    ways: dict[str, list[Any]] = defaultdict(list)
    for patrol_id, points in session.execute(asked.order_by(Track.patrol_id, Track.from_at, Track.id)):
        if len(points) > 1:
            ways[str(patrol_id)].append(_on_wire(crs, np.array(_line(points))).tolist())
    return [{"type": "MultiLineString", "coordinates": ways[row[_KEY]]} if row[_KEY] in ways else None for row in rows]


def _areas(_: Session, rows: Sequence[Any], crs: Crs) -> list[Json | None]:
    if crs is CRS84:
        return [row[_SHAPE] for row in rows]
    moved = (shapely.transform(_shape(row[_SHAPE]), lambda at: _on_wire(crs, at)) for row in rows)
    return [orjson.loads(shapely.to_geojson(shape)) for shape in moved]


def _on_wire(crs: Crs, at: Any) -> Any:
    return np.column_stack(projections.to_wire(crs, at[:, 0], at[:, 1]))


_DRAWN: Mapping[str | None, Callable[[Session, Sequence[Any], Crs], list[Json | None]]] = {
    None: _areas,
    "patrol": _lines,
}


# ---------------------------------------------------------------- where and when


def extent(session: Session, layer: Layer) -> tuple[list[float], str | None]:
    """The district's box, or the world's where it has no areas; and when the first of the layer's records happened."""
    areas = session.scalars(select(TownshipArea.geometry)).all()
    box = shapely.total_bounds([_shape(drawn) for drawn in areas]).tolist() if areas else [-180.0, -90.0, 180.0, 90.0]
    first = session.execute(select(func.min(layer.instants[0]))).scalar_one()
    if first is None:
        return box, None
    return box, shapes.instant(first) if layer.kind else f"{first}T00:00:00Z"
