"""The features of a layer: which are asked for, pages of them as GeoJSON, single ones. Nothing here writes.

`_conditions` is the one place where everything that was asked comes together: visibility and the filters of the lists
(`patrol_log`), a box, a time, properties, a filter in CQL2. Records come newest first, like every list; lists in the
order of their keys. On PostgreSQL the database writes the properties, and Python puts geometry and links around them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import threading
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync import cql, patrol_log, projections, shapes
from sync.clock import LOCAL_ZONE
from sync.journal import canonical
from sync.layers import Layer, arrived_photos
from sync.models import Head, SignedIn, TownshipArea, Track, TrackBox, UtcDateTime, among, is_box, within_shape
from sync.patrol_log import FILTERS, Selection
from sync.problems import NotFound, QueryInvalid
from sync.projections import CRS84, Crs

#: What every layer takes, besides its own filters and its properties.
COMMON = ("limit", "cursor", "bbox", "bbox-crs", "datetime", "crs", "filter", "filter-lang", "filter-crs")
LANGUAGES = ("cql2-text", "cql2-json")
#: Counts that each process remembers.
COUNTS_KEPT = 256
_NUMBER = re.compile(r"[-+]?([0-9]{1,20}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")

Condition = ColumnElement[bool]
Interval = tuple[dt.datetime | None, dt.datetime | None]


# ---------------------------------------------------------------- what is asked for


def _invalid(parameter: str, why: str) -> QueryInvalid:
    return QueryInvalid(errors=[{"pointer": f"/{parameter}", "code": "invalid", "detail": why}])


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
            raise _invalid(name, "no such parameter")
    if len(said) < len(query):
        raise _invalid(next(name for name in said if [n for n, _ in query].count(name) > 1), "given more than once")
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
        raise _invalid(name, str(messages[0])) from None


class _Once(dict[str, str]):
    """A query in which nothing is said twice, as the shapes of lists read it."""

    def lists(self) -> Iterable[tuple[str, list[str]]]:
        return [(name, [text]) for name, text in self.items()]


def _crs(said: Mapping[str, str], parameter: str) -> Crs:
    uri = said.get(parameter, CRS84.uri)
    if uri not in projections.SPOKEN:
        raise _invalid(parameter, "no coordinate system that is spoken here")
    return projections.SPOKEN[uri]


def spoken(said: Mapping[str, str]) -> Crs:
    """The coordinate system to answer in. Raises QueryInvalid if it is none that is spoken here."""
    return _crs(said, "crs")


def _limit(layer: Layer, text: str | None) -> int:
    """How many on a page: as many as one holds, where more are asked for."""
    if text is None:
        return layer.usual
    if not re.fullmatch(r"[0-9]{1,1000}", text) or int(text) < 1:
        raise _invalid("limit", f"a whole number from 1 to {layer.most}")
    return min(int(text), layer.most)


def _box(said: Mapping[str, str]) -> Any:
    crs = _crs(said, "bbox-crs")
    if "bbox" not in said:
        return None
    parts = said["bbox"].split(",")
    if len(parts) not in (4, 6) or not all(_NUMBER.fullmatch(part.strip()) for part in parts):
        raise _invalid("bbox", "four numbers, or six with heights")
    numbers = list(map(float, parts))
    return _corners("bbox", crs, numbers if len(numbers) == 4 else [numbers[i] for i in (0, 1, 3, 4)])


def _corners(parameter: str, crs: Crs, numbers: Sequence[float]) -> Any:
    try:
        return projections.box_from_wire(crs, *numbers)
    except ValueError as error:
        raise _invalid(parameter, str(error)) from None


def _interval(text: str) -> Interval:
    """The first and the last instant of an interval, both in it; `None` where it is open."""
    first, slash, last = text.partition("/")
    begins, ends = _end(first, bool(slash)), _end(last, True) if slash else _end(first, False)
    if begins is not None and ends is not None and ends < begins:
        raise _invalid("datetime", "the interval ends before it begins")
    return begins, ends


def _end(text: str, may_be_open: bool) -> dt.datetime | None:
    if may_be_open and text in ("", ".."):
        return None
    try:
        return cql.instant(text)
    except ValueError as error:
        raise _invalid(
            "datetime", f"an instant or two with / between, as in 2026-11-23T08:15:00Z/..: {error}"
        ) from None


def _filter(said: Mapping[str, str]) -> tuple[str, str, Crs] | None:
    language, crs = said.get("filter-lang", LANGUAGES[0]), _crs(said, "filter-crs")
    if language not in LANGUAGES:
        raise _invalid("filter-lang", "one of " + ", ".join(LANGUAGES))
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
        raise _invalid(name, f"no {layer.queryables[name].kind}") from None


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
    """Features as GeoJSON, how many there are on all pages, and where the next page begins, `None` on the last. `state`
    says of which state of the journal they are, `None` where there are none."""

    features: list[str]
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
        known = len(rows) if len(rows) <= asked.limit else _count(session, who, layer, asked, conditions, rows[0].head)
    following = None
    if len(rows) > asked.limit:
        following = f"{known}.{_behind(layer, asked, place, shown)}"
    return Page(_written(session, layer, shown, asked.crs, address), known, following, rows[0].head if rows else None)


def one(session: Session, who: SignedIn, layer: Layer, id: str, crs: Crs, address: str) -> tuple[str, bytes]:
    """The feature as GeoJSON, and of which state of the journal.

    Raises NotFound if the layer has none of this id, or not for this account.
    """
    key = _key(layer, id)
    every = Selection(grouped="expand")
    conditions = patrol_log.matching(session, who, layer.kind, every) if layer.kind else []
    rows = _rows(session, who, layer, [layer.key == key, *conditions], None, 1)
    if not rows:
        raise NotFound
    return _written(session, layer, rows, crs, address)[0], rows[0].head


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
        raise _invalid("cursor", "not a cursor of ours")
    if layer.kind is not None:
        return int(counted), patrol_log.position_of([layer.id, asked.given], position)
    if not re.fullmatch(r"[0-9]{1,9}", position):
        raise _invalid("cursor", "not a cursor of ours")
    return int(counted), int(position)


def _behind(layer: Layer, asked: Asked, place: Any, shown: Sequence[Any]) -> str:
    if layer.kind is None:
        return str((place or 0) + len(shown))
    return patrol_log.cursor_after([layer.id, asked.given], shown[-1].at, shown[-1].key)


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
    """Rows of `key`, `at`, `head`, what the geometry is made of, and the properties as JSON in `told`."""
    if layer.kind is None:
        listed = _listed(layer).where(*conditions).order_by(layer.key).offset(place).limit(limit)
        return _told_here(session, layer, listed)
    if place is not None:
        conditions = [*conditions, _older(layer.model, *place)]
    newest = _newest(layer, who, conditions, limit)
    if session.get_bind().dialect.name != "postgresql":
        return _told_here(session, layer, newest)
    return session.execute(_told_there(layer, newest)).all()


def _older(model: Any, at: dt.datetime, id: uuid.UUID) -> Condition:
    return tuple_(model.occurred_at, model.id) < tuple_(literal(at, UtcDateTime), literal(id, model.id.type))


def _listed(layer: Layer) -> Select[Any]:
    extra = (layer.key.label("key"), null().label("at"), layer.model.geometry.label("drawn"), _head())
    return select(*extra, *_named(layer)).select_from(layer.source)


def _named(layer: Layer) -> list[Any]:
    return [column.label(f"_{name}") for name, column in layer.columns.items()]


def _head() -> Any:
    return select(Head.hash).scalar_subquery().label("head")


def _newest(layer: Layer, who: SignedIn, conditions: Sequence[Condition], limit: int) -> Select[Any]:
    """The newest of them, each way that makes a record visible asked by itself, as lists do (`patrol_log`)."""
    model, order = layer.model, (layer.model.occurred_at.desc(), layer.model.id.desc())
    extra = (model.id.label("key"), model.occurred_at.label("at"), model.lon.label("lon"), model.lat.label("lat"))
    asked = select(*extra, arrived_photos(model).label("arrived"), _head(), *_named(layer)).select_from(layer.source)
    ways = patrol_log.ways_to_see(model, who)
    if len(ways) == 1:
        return asked.where(ways[0], *conditions).order_by(*order).limit(limit)
    each = (
        select(model.id).select_from(layer.source).where(way, *conditions).order_by(*order).limit(limit).subquery()
        for way in ways
    )
    ids = union_all(*(select(found.c.id) for found in each))
    return asked.where(model.id.in_(ids)).order_by(*order).limit(limit)


#: RFC 3339 to the millisecond, as `shapes.instant` tells it.
_INSTANT = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'


def _told_there(layer: Layer, newest: Select[Any]) -> Select[Any]:
    """The same rows with the properties written by PostgreSQL: Python would take longer than all the rest."""
    found = newest.subquery("found")
    kinds = {each.name: each.kind for each in layer.properties}

    def told(name: str) -> Any:
        column = found.c[f"_{name}"]
        return (func.to_char(column, _INSTANT) if kinds[name] == "date-time" else column).label(name)

    properties = select(*map(told, layer.columns)).correlate(found).lateral("properties")
    written = cast(func.row_to_json(properties.table_valued()), Text).label("told")
    extra = [found.c[name] for name in ("key", "at", "lon", "lat", "arrived", "head")]
    joined = select(*extra, written).select_from(found.join(properties, true()))
    return joined.order_by(found.c.at.desc(), found.c.key.desc())


class _Row(NamedTuple):
    key: Any
    at: Any
    lon: Any
    lat: Any
    drawn: Any
    arrived: Any
    head: Any
    told: str


def _told_here(session: Session, layer: Layer, asked: Select[Any]) -> list[_Row]:
    kinds = {each.name: each.kind for each in layer.properties}
    rows = []
    for found in session.execute(asked).mappings():
        values = {name: found[f"_{name}"] for name in layer.columns}
        told = {name: shapes.instant(v) if kinds[name] == "date-time" else v for name, v in values.items()}
        extra = {name: found.get(name) for name in _Row._fields if name != "told"}
        rows.append(_Row(**extra, told=orjson.dumps(told).decode()))
    return rows


# ---------------------------------------------------------------- GeoJSON


def _written(session: Session, layer: Layer, rows: Sequence[Any], crs: Crs, address: str) -> list[str]:
    drawn = _DRAWN.get(layer.kind, _points)(session, rows, crs)
    if layer.kind is None:
        return [_feature(_json(row.key)[1:-1], geometry, row.told) for row, geometry in zip(rows, drawn, strict=True)]
    records, photos = f"{address}/api/v1/{layer.id}/", f"{address}/api/v1/photos/"
    return [
        _feature(row.key, geometry, _with_links(row, records, photos))
        for row, geometry in zip(rows, drawn, strict=True)
    ]


def _feature(key: Any, geometry: str, properties: str) -> str:
    return f'{{"type":"Feature","id":"{key}","geometry":{geometry},"properties":{properties}}}'


def _with_links(row: Any, records: str, photos: str) -> str:
    """The properties of a record with the addresses of its photos that have arrived, and its own."""
    urls = "null"
    if row.arrived:
        urls = '"' + " ".join(f"{photos}{sha256}?size=screen" for sha256 in sorted(row.arrived.split(","))) + '"'
    return f'{row.told[:-1]},"photo_urls":{urls},"record_url":"{records}{row.key}"}}'


def _points(_: Session, rows: Sequence[Any], crs: Crs) -> list[str]:
    if crs is CRS84:
        return [_point(row.lon, row.lat) for row in rows]
    lon, lat = (np.array([getattr(row, name) for row in rows], float) for name in ("lon", "lat"))
    first, second = projections.to_wire(crs, lon, lat)
    shown = np.isfinite(first) & np.isfinite(second)
    pairs = zip(first.tolist(), second.tolist(), shown.tolist(), strict=True)
    return [_point(x, y) if is_shown else "null" for x, y, is_shown in pairs]


def _point(x: float | None, y: float | None) -> str:
    return "null" if x is None else f'{{"type":"Point","coordinates":[{x!r},{y!r}]}}'


def _lines(session: Session, rows: Sequence[Any], crs: Crs) -> list[str]:
    """The way of each patrol; tracks of a single point are no lines."""
    asked = select(Track.patrol_id, Track.points).where(among(session, Track.patrol_id, [row.key for row in rows]))
    ways: dict[Any, list[Any]] = defaultdict(list)
    for patrol_id, points in session.execute(asked.order_by(Track.patrol_id, Track.from_at, Track.id)):
        if len(points) > 1:
            ways[patrol_id].append(_on_wire(crs, np.array(_line(points))).tolist())
    lines = ({"type": "MultiLineString", "coordinates": ways[row.key]} if row.key in ways else None for row in rows)
    return [_json(line) for line in lines]


def _areas(_: Session, rows: Sequence[Any], crs: Crs) -> list[str]:
    if crs is CRS84:
        return [_json(row.drawn) for row in rows]
    return [shapely.to_geojson(shapely.transform(_shape(row.drawn), lambda at: _on_wire(crs, at))) for row in rows]


def _on_wire(crs: Crs, at: Any) -> Any:
    return np.column_stack(projections.to_wire(crs, at[:, 0], at[:, 1]))


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


_DRAWN: Mapping[str | None, Callable[[Session, Sequence[Any], Crs], list[str]]] = {None: _areas, "patrol": _lines}


# ---------------------------------------------------------------- where and when


def extent(session: Session, layer: Layer) -> tuple[list[float], str | None]:
    """The district's box, or the world's where it has no areas; and when the first of the layer's records happened."""
    areas = session.scalars(select(TownshipArea.geometry)).all()
    box = shapely.total_bounds([_shape(drawn) for drawn in areas]).tolist() if areas else [-180.0, -90.0, 180.0, 90.0]
    first = session.execute(select(func.min(layer.instants[0]))).scalar_one()
    if first is None:
        return box, None
    return box, shapes.instant(first) if layer.kind else f"{first}T00:00:00Z"
