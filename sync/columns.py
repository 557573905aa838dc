"""What goes into a file: a kind of record as typed columns and shapes in the coordinates asked for.

`read` fetches the records of a selection piece by piece, column by column: by one statement, in the order of every
list, under the one visibility (`patrol_log`). How they are written is `formats`' business. Each column has the name
that the API gives it, a Chinese title, and a name of ten letters for Shapefiles, which hold no longer ones. Parties
stay out (the single record names them).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import orjson
from sqlalchemy import Select, and_, cast, func, not_, or_, select, type_coerce
from sqlalchemy import Text as TextType
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import ColumnElement

from sync import patrol_log, places, projections, shapes
from sync.models import (
    Account,
    AnnouncedPhoto,
    EnforcementItem,
    FeedEntry,
    Grouped,
    Incident,
    IncidentItem,
    Link,
    Patrol,
    PatrolOfficer,
    SignedIn,
    Township,
    Track,
    Vendor,
    VendorWarning,
    id_of_text,
    streamed,
    uuid_text,
)
from sync.patrol_log import Log, Selection
from sync.problems import QueryInvalid
from sync.shapes import SelectionQuery
from sync.wire import Text

#: Records fetched and written at once: as many as the database has ready while the last ones are written.
CHUNK = 200
#: Patrols at once: a day's track has thousands of points.
TRACKS_CHUNK = 20
#: Combinations of items kept at hand, so that memory stays flat however many there are.
REMEMBERED = 10_000

_FIELDS = re.compile("[a-z_]+(,[a-z_]+)*")

Values = Sequence[Any]
#: Coordinates of a point, (x, y), or of a line; `None` where nobody knows the place.
Shape = Any


# ---------------------------------------------------------------- coordinate systems


@dataclass(frozen=True, slots=True)
class Target:
    """A coordinate system that files may be in. `epsg` is `None` where the register has none: GCJ-02 is no system of
    its own but WGS 84 distorted, and whoever is not told so takes it for WGS 84 (489–528 m off in Xiaoshan, traps.md).
    `axes` are the names and titles of the columns of x and y: `lon`, `lat` are WGS 84, anything else says so.
    """

    word: str
    epsg: int | None
    label: str
    axes: tuple[tuple[str, str], tuple[str, str]]
    project: Callable[[Any, Any], tuple[Any, Any]]

    @property
    def is_wgs84(self) -> bool:
        return self.epsg == 4326


def _gcj02(lon: Any, lat: Any) -> tuple[Any, Any]:
    there = [places.gcj02_from_wgs84(x, y) for x, y in zip(lon, lat, strict=True)]
    east, north = np.array(there, float).reshape(-1, 2).T
    return east, north


def _spoken(epsg: int) -> Callable[[Any, Any], tuple[Any, Any]]:
    crs = projections.SPOKEN[f"http://www.opengis.net/def/crs/EPSG/0/{epsg}"]
    return lambda lon, lat: crs.project(np.array(lon, float), np.array(lat, float))


#: By the word that asks for it. CGCS2000 is taken as WGS 84, as everywhere (`places`).
TARGETS: Mapping[str, Target] = {
    target.word: target
    for target in (
        Target("EPSG:4326", 4326, "WGS 84", (("lon", "经度"), ("lat", "纬度")), _spoken(4326)),
        Target(
            "EPSG:4490",
            4490,
            "CGCS2000",
            (("cgcs2000_lon", "经度（CGCS2000）"), ("cgcs2000_lat", "纬度（CGCS2000）")),
            _spoken(4490),
        ),
        Target(
            "EPSG:4549",
            4549,
            "CGCS2000, 3-degree zone around 120° E",
            (("east_m", "东坐标（米）"), ("north_m", "北坐标（米）")),
            _spoken(4549),
        ),
        Target("EPSG:3857", 3857, "Web Mercator", (("x_m", "X（米）"), ("y_m", "Y（米）")), _spoken(3857)),
        Target(
            "GCJ-02",
            None,
            "GCJ-02 火星坐标, not WGS 84: for overlay on domestic web maps only",
            (("gcj02_lon", "经度（GCJ-02）"), ("gcj02_lat", "纬度（GCJ-02）")),
            _gcj02,
        ),
    )
}


# ---------------------------------------------------------------- columns


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `type` is `text`, `words` (a list of texts), `int`, `real`, `instant` or `day`; what depends on the
    coordinate system: `x` and `y`, which a file with points has in its shapes, and `crs`, a text that names it;
    or `change`: `put` or `delete`. `heading` is what stands above it."""

    name: str
    title: str
    type: str = "text"
    short: str = ""
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file is of: a name, its columns in order, the system of its shapes, and whether these are lines."""

    name: str
    columns: tuple[Column, ...]
    target: Target
    is_lines: bool

    def attributes(self) -> list[int]:
        """The places of the columns that a file with shapes has; a point's coordinates stand in its shape."""
        return [place for place, column in enumerate(self.columns) if column.type not in ("x", "y")]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records: the values of every column, and the shapes."""

    columns: list[Values]
    shapes: Sequence[Shape]

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass(frozen=True)
class Source:
    """Columns that are read from one expression: `read` gives their values from its values, one list per column."""

    columns: tuple[Column, ...]
    asked: Any
    read: Callable[[Values], Sequence[Values]] = lambda values: [values]


#: How many photos each record waits for, of those that wait for any: few, and counted once for all of them. To count
#: for each record took the database as long as all else that it is asked for (measured).
_MISSING = (
    select(AnnouncedPhoto.record_id, func.count().label("photos"))
    .where(patrol_log.is_missing())
    .group_by(AnnouncedPhoto.record_id)
    .subquery("missing")
)


def _plain(name: str, title: str, asked: Any, type: str = "text", short: str = "") -> Source:
    return Source((Column(name, title, type, short or name),), asked)


def _words(name: str, title: str, asked: Any, short: str) -> Source:
    def read(texts: Values) -> list[Values]:
        return [[text.split() if text else [] for text in texts]]

    return Source((Column(name, title, "words", short),), type_coerce(asked, TextType), read)


def _counted(lists: Values) -> list[Values]:
    return [[len(orjson.loads(each)) for each in lists]]


def _recorded(model: Log) -> list[Source]:
    """What every kind of record has."""
    return [
        _plain("id", "编号", uuid_text(model.id)),
        _plain("version", "版本", model.version, "int"),
        _plain("occurred_at", "发生时间", model.occurred_at, "instant", "occurred"),
        _plain("occurred_error_ms", "时间误差（毫秒）", model.occurred_error_ms, "int", "occ_err_ms"),
        _plain("occurred_method", "时间来源", model.occurred_method, short="occ_method"),
        _plain("received_at", "接收时间", model.received_at, "instant", "received"),
        _plain("officer", "记录人账号", Account.username),
        _plain("officer_full_name", "记录人", Account.full_name, short="officer_nm"),
        _plain("township_code", "镇街代码", model.township_code, short="town_code"),
        _plain("township_name", "镇街", Township.name, short="town_name"),
        _plain("township_chosen", "所选镇街代码", model.township, short="town_chose"),
        _plain("located", "定位结果", model.located),
        _plain("located_code", "定位镇街代码", model.located_code, short="loc_code"),
        _words("located_candidates", "候选镇街代码", model.located_candidates, "loc_cands"),
        _plain("areas_edition", "辖区版本", model.areas_edition, short="areas_ed"),
        _plain("lon", "经度", model.lon, "x"),
        _plain("lat", "纬度", model.lat, "y"),
        _plain("error_m", "定位误差（米）", model.error_m, "real"),
    ]


def _ended(model: Log) -> list[Source]:
    """What every kind of record has besides, behind its own."""
    photos = (Column("photos", "照片数", "int", "photos"),)
    return [
        Source(photos, type_coerce(model.photos, TextType), _counted),
        _plain("photos_missing", "未到照片数", func.coalesce(_MISSING.c.photos, 0), "int", "photos_mis"),
        _words("notes", "备注代码", model.note_codes, "notes"),
        _plain("voided_at", "作废时间", model.voided_at, "instant", "voided"),
        _plain("void_reason", "作废原因", model.void_reason, short="void_why"),
    ]


_VENDOR = (
    Column("vendor_name", "摊主姓名", short="vend_name"),
    Column("vendor_phone", "摊主电话", short="vend_phone"),
    Column("vendor_stall", "摊位", short="vend_stall"),
    Column("vendor_plate", "车牌号", short="vend_plate"),
)
_ITEMS = (
    Column("items", "执法事项代码", "words", "items"),
    Column("item_names", "执法事项", "words", "item_names"),
    Column("domains", "领域", "words", "domains"),
    Column("referred_to", "移送部门", "words", "referred"),
)


def _incidents(session: Session, told: Telling) -> list[Source]:
    return [
        *_recorded(Incident),
        _plain("event_class", "事件类别代码", Incident.event_class, short="evt_class"),
        _plain("event_class_edition", "类别版本", Incident.event_class_edition, short="evt_ed"),
        _plain("description", "描述", Incident.description, short="descr"),
        _words("measures", "处置措施", Incident.measures, "measures"),
        _plain("designated_place", "指定经营地点代码", Incident.designated_place, short="place_code"),
        _plain("no_penalty_reason", "不予处罚理由", Incident.no_penalty_reason, short="no_penalty"),
        _plain("patrol", "巡查编号", uuid_text(Incident.patrol)),
        *_ended(Incident),
        _plain("vendor_id", "摊主编号", uuid_text(Incident.vendor_id)),
        Source(_VENDOR, type_coerce(Incident.vendor, TextType), _vendors(told)),
        Source(_ITEMS, _links(), _Items(session).read),
    ]


def _warnings(session: Session, told: Telling) -> list[Source]:
    known = (Vendor.name, Vendor.phone, Vendor.stall, Vendor.plate)
    return [
        *_recorded(VendorWarning),
        _plain("incident", "巡查发现编号", uuid_text(VendorWarning.incident)),
        _plain("step", "程度", VendorWarning.step),
        _plain("text", "内容", VendorWarning.text),
        _plain("deadline_on", "整改期限", VendorWarning.deadline_on, "day", "deadline"),
        _plain("response", "当事人反应", VendorWarning.response),
        *_ended(VendorWarning),
        _plain("vendor_id", "摊主编号", uuid_text(VendorWarning.vendor_id)),
        *(_of_vendor(column, asked, told) for column, asked in zip(_VENDOR, known, strict=True)),
    ]


def _patrols(session: Session, told: Telling) -> list[Source]:
    return [
        *_recorded(Patrol),
        Source((Column("officers", "巡查人员账号", "words", "officers"),), _crew(), _sorted_words),
        _plain("purpose", "巡查目的", Patrol.purpose),
        _plain("started_at", "开始时间", Patrol.started_at, "instant", "started"),
        _plain("ended_at", "结束时间", Patrol.ended_at, "instant", "ended"),
        *_ended(Patrol),
    ]


_SOURCES: Mapping[str, Callable[[Session, Telling], list[Source]]] = {
    "incident": _incidents,
    "warning": _warnings,
    "patrol": _patrols,
}
#: What files are of, by the kind of their records.
NAMES: Mapping[str, str] = {"incident": "incidents", "warning": "warnings", "patrol": "patrols"}
#: Behind all others: which coordinates these are, in every record, for columns are copied from one file to the next.
_CRS = Column("crs", "坐标系", "crs", "crs")
_CHANGE = Column("change", "变更", "change", "change")


# ---------------------------------------------------------------- what belongs to a record


#: How the values of a vendor are told that many records have under a name.
Telling = Callable[[str, Values], Values]


def _as_told(_name: str, values: Values) -> Values:
    return values


def _vendors(told: Telling) -> Callable[[Values], Sequence[Values]]:
    """The columns of a vendor, from the texts of what a record said of one."""
    names = [column.name.removeprefix("vendor_") for column in _VENDOR]

    def read(texts: Values) -> Sequence[Values]:
        said = [orjson.loads(text) if text else {} for text in texts]
        return [told(name, [each.get(name) for each in said]) for name in names]

    return read


def _of_vendor(column: Column, asked: Any, told: Telling) -> Source:
    name = column.name.removeprefix("vendor_")
    return Source((column,), asked, lambda values: [told(name, values)])


def _links() -> ColumnElement[Any]:
    """An incident's items as one text, a line `ordinal:item_id:referred_to` for each: rows of their own cost twice."""
    referred_to = func.coalesce(IncidentItem.referred_to, "")
    link = cast(IncidentItem.ordinal, TextType) + ":" + cast(IncidentItem.item_id, TextType) + ":" + referred_to
    texts = select(func.aggregate_strings(link, "\n")).where(IncidentItem.incident_id == Incident.id)
    return texts.correlate(Incident).scalar_subquery()


class _Items(dict[str | None, tuple[list[str], ...]]):
    """What the texts of `_links` say. Most incidents share theirs with many others: each is read once."""

    def __init__(self, session: Session) -> None:
        edition = EnforcementItem
        asked = select(edition.id, edition.code, edition.name, edition.domain)
        self._editions = {str(id): texts for id, *texts in session.execute(asked)}

    def read(self, texts: Values) -> Sequence[Values]:
        return list(zip(*map(self.__getitem__, texts), strict=True))

    def __missing__(self, links: str | None) -> tuple[list[str], ...]:
        parts = [link.split(":", 2) for link in links.split("\n")] if links else []
        if len(parts) > 1:
            parts.sort(key=lambda part: int(part[0]))
        codes, names, domains = zip(*(self._editions[id] for _, id, _ in parts), strict=True) if parts else ((), (), ())
        referred = [department for *_, department in parts if department]
        if len(self) >= REMEMBERED:
            self.clear()
        self[links] = (list(codes), list(names), list(domains), referred)
        return self[links]


def _crew() -> ColumnElement[Any]:
    member = aliased(Account)
    names = select(func.aggregate_strings(member.username, " "))
    out = names.join(PatrolOfficer, PatrolOfficer.account_id == member.id)
    return out.where(PatrolOfficer.patrol_id == Patrol.id).correlate(Patrol).scalar_subquery()


def _sorted_words(texts: Values) -> Sequence[Values]:
    return [[sorted(text.split()) if text else [] for text in texts]]


def _stretches() -> ColumnElement[Any]:
    """A patrol's way as one text, a line for each stretch: when it begins, and its points."""
    stretch = cast(Track.from_at, TextType) + "\t" + type_coerce(Track.points, TextType)
    texts = select(func.aggregate_strings(stretch, "\n")).where(Track.patrol_id == Patrol.id)
    return texts.correlate(Patrol).scalar_subquery()


def _way(target: Target, text: str | None) -> Shape:
    """The coordinates of a patrol's way, one line through all its stretches; `None` for a single place."""
    stretches = sorted(text.split("\n")) if text else []
    points = chain.from_iterable(orjson.loads(stretch.partition("\t")[2]) for stretch in stretches)
    way = np.array([point[:2] for point in points], float).reshape(-1, 2)
    if len(np.unique(way, axis=0)) < 2:
        return None
    there = np.column_stack(target.project(way[:, 0], way[:, 1]))
    return None if np.isnan(there).any() else there


# ---------------------------------------------------------------- what is asked for


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file is to hold: a kind of record, which of them, which columns (`None`: all), how titles and shapes are
    told, whether personal data are told in full, and whether only what has changed since a cursor of the feed."""

    kind: str
    selection: Selection
    fields: tuple[str, ...] | None = None
    crs: str = "EPSG:4326"
    lang: str = "en"
    in_full: bool = False
    since: str | None = None


class ExportQuery(SelectionQuery):
    """The filters of a list, and how the records that they leave are to be told."""

    crs = Text(10, one_of=tuple(TARGETS), load_default="EPSG:4326")
    columns = Text(2_000, pattern=_FIELDS, data_key="fields")  # a schema has fields of its own
    lang = Text(2, one_of=("en", "zh"), load_default="en")
    personal = Text(6, one_of=("masked", "full"), load_default="masked")
    since = Text(400)


def read(session: Session, who: SignedIn, wanted: Wanted, since: int | None = None) -> tuple[Layout, Iterator[Chunk]]:
    """The layout, and its records piece by piece, which take the session for themselves until the last one was read.

    With `since`, the number of a link, only what has changed behind it: records as they are now, then the ids of those
    that are none of the selection any more. Raises QueryInvalid if a filter makes no sense for the kind, or there is no
    such column.
    """
    target = TARGETS[wanted.crs]
    sources = _SOURCES[wanted.kind](session, _as_told if wanted.in_full else shapes.masked_column)
    chosen = [*_chosen(wanted, sources), _CRS, *([_CHANGE] * (since is not None))]
    columns = tuple(_headed(column, wanted, target) for column in chosen)
    layout = Layout(NAMES[wanted.kind], columns, target, is_lines=wanted.kind == "patrol")
    names = {column.name for column in chosen}
    needed = [source for source in sources if names & {column.name for column in source.columns}]
    selected = _selected(session, who, wanted)
    if since is None:
        return layout, _chunks(session, _asked(wanted, needed, selected), layout, needed)
    model = patrol_log.KINDS[wanted.kind]
    asked = _asked(wanted, needed, [*selected, _touched(wanted, since)])
    gone = select(uuid_text(model.id)).where(_is_gone(wanted, selected, since)).order_by(model.id)
    return layout, chain(_chunks(session, asked, layout, needed), _gone(session, gone, layout))


def check(session: Session, who: SignedIn, wanted: Wanted) -> None:
    """Raises QueryInvalid where `read` would."""
    patrol_log.matching(session, who, wanted.kind, wanted.selection)
    _chosen(wanted, _SOURCES[wanted.kind](session, _as_told))


def has_changed(session: Session, who: SignedIn, wanted: Wanted, since: int) -> bool:
    """Whether anything has changed behind this link that `read` would tell of."""
    model, selected = patrol_log.KINDS[wanted.kind], _selected(session, who, wanted)
    told = select(model.id).where(_touched(wanted, since), *selected)
    gone = select(model.id).where(_is_gone(wanted, selected, since))
    return any(session.execute(asked.limit(1)).first() is not None for asked in (told, gone))


def _selected(session: Session, who: SignedIn, wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions = patrol_log.matching(session, who, wanted.kind, wanted.selection)
    return [patrol_log.visible_to(patrol_log.KINDS[wanted.kind], who), *conditions]


def _chosen(wanted: Wanted, sources: Sequence[Source]) -> list[Column]:
    """The columns asked for, in the order asked for; the id is always the first."""
    known = {column.name: column for source in sources for column in source.columns}
    if wanted.fields is None:
        return list(known.values())
    for name in wanted.fields:
        if name not in known:
            raise QueryInvalid.of("fields", f"no field of {NAMES[wanted.kind]}: {name}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(("id", *wanted.fields))]


def _headed(column: Column, wanted: Wanted, target: Target) -> Column:
    if column.type in ("x", "y"):
        name, title = target.axes[column.type == "y"]
        column = replace(column, name=name, title=title)
    return replace(column, heading=column.title if wanted.lang == "zh" else column.name)


def _asked(wanted: Wanted, sources: Sequence[Source], conditions: Iterable[ColumnElement[bool]]) -> Select[Any]:
    model = patrol_log.KINDS[wanted.kind]
    told = [source.asked.label(f"told_{place}") for place, source in enumerate(sources)]
    where = [model.lon.label("at_lon"), model.lat.label("at_lat"), *([_stretches().label("way")] * (model is Patrol))]
    asked = (
        select(*told, *where)
        .select_from(model)
        .outerjoin(Account, Account.id == model.officer_id)
        .outerjoin(Township, Township.code == model.township_code)
        .outerjoin(_MISSING, _MISSING.c.record_id == model.id)
        .where(*conditions)
        .order_by(model.occurred_at.desc(), model.id.desc())
    )
    return asked.outerjoin(Vendor, Vendor.id == model.vendor_id) if model is VendorWarning else asked


def _chunks(session: Session, asked: Select[Any], layout: Layout, sources: Sequence[Source]) -> Iterator[Chunk]:
    told_by = {column.name: place for place, column in enumerate(chain.from_iterable(s.columns for s in sources))}
    for rows in streamed(session, asked, TRACKS_CHUNK if layout.is_lines else CHUNK):
        values = list(zip(*rows, strict=True))
        told = [each for source, given in zip(sources, values, strict=False) for each in source.read(given)]
        lon, lat, *ways = values[len(sources) :]
        x, y = (lon, lat) if layout.target.is_wgs84 else _moved(layout.target, lon, lat)
        here: dict[str, Values] = {"x": x, "y": y, "crs": [layout.target.label] * len(rows)}
        here["change"] = ["put"] * len(rows)
        columns = [here[c.type] if c.type in here else told[told_by[c.name]] for c in layout.columns]
        points = [None if east is None else (east, north) for east, north in zip(x, y, strict=True)]
        yield Chunk(columns, [_way(layout.target, text) for text in ways[0]] if ways else points)


def _moved(target: Target, lon: Values, lat: Values) -> tuple[Values, Values]:
    """The coordinates in this system; `None` where there are none, or the system can't show the place."""
    known = [place for place, x in enumerate(lon) if x is not None]
    there = target.project([lon[place] for place in known], [lat[place] for place in known])
    x: list[float | None] = [None] * len(lon)
    y = x.copy()
    for place, east, north in zip(known, there[0].tolist(), there[1].tolist(), strict=True):
        if east == east and north == north:  # not NaN
            x[place], y[place] = east, north
    return x, y


# ---------------------------------------------------------------- what has changed


def _touched(wanted: Wanted, since: int) -> ColumnElement[bool]:
    """True where the record, or something of it that files tell, stands in the feed behind this link.

    Where groups count once, also where that is so of another of its group: another may stand for it now.
    """
    model = patrol_log.KINDS[wanted.kind]
    itself = _has_moved(wanted.kind, model.id, since)
    if wanted.selection.grouped != "once":
        return itself
    mine, theirs = aliased(Grouped), aliased(Grouped)
    mates = select(mine.record_id).join(theirs, theirs.group_id == mine.group_id)
    return or_(itself, model.id.in_(mates.where(_has_moved(wanted.kind, theirs.record_id, since))))


def _has_moved(kind: str, id: Any, since: int) -> ColumnElement[bool]:
    """True of the id of a record that stands in the feed behind this link, or of which a photo or a track does."""
    sent = cast(AnnouncedPhoto.officer_id, TextType) + ":" + AnnouncedPhoto.sha256
    ways = [
        id.in_(_moved_since(kind, since, id_of_text)),
        id.in_(select(AnnouncedPhoto.record_id).where(sent.in_(_moved_since("arrival", since)))),
    ]
    if kind == "patrol":
        ways.append(id.in_(select(Track.patrol_id).where(Track.id.in_(_moved_since("track", since, id_of_text)))))
    return or_(*ways)


def _moved_since(kind: str, since: int, of: Callable[[Any], Any] = lambda entity: entity) -> Select[Any]:
    """The entities of this kind that stand in the feed behind this link."""
    moved = select(of(FeedEntry.entity)).join(Link, Link.key == FeedEntry.link_key)
    return moved.where(Link.number > since, FeedEntry.kind == kind)


def _is_gone(wanted: Wanted, selected: Sequence[ColumnElement[bool]], since: int) -> ColumnElement[bool]:
    """True where a record was there already, has changed, and is not, or no more, among those selected.

    Whether it ever was nobody knows. Of records that were never amended only those are told of that the account sees.
    """
    model, (visible, *_) = patrol_log.KINDS[wanted.kind], selected
    then = select(func.max(Link.at)).where(Link.number <= since).scalar_subquery()
    return and_(
        _touched(wanted, since), model.received_at <= then, not_(and_(*selected)), or_(visible, model.version > 1)
    )


def _gone(session: Session, asked: Select[Any], layout: Layout) -> Iterator[Chunk]:
    for rows in streamed(session, asked, CHUNK):
        nothing: Values = [None] * len(rows)
        told = {
            "id": [id for (id,) in rows],
            "change": ["delete"] * len(rows),
            "crs": [layout.target.label] * len(rows),
        }
        columns = [told.get(c.name, [[]] * len(rows) if c.type == "words" else nothing) for c in layout.columns]
        yield Chunk(columns, nothing)
