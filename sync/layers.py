"""What maps show: the collections of features, their properties with Chinese titles, and what those mean in SQL.

A property is asked for, filtered by and described from one place. Names are those of the lists where the lists have
them. Personal data stay out: a record's address leads to them, for whoever may see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import FromClause, Integer, String, Text, and_, case, cast, func, literal, null, select, type_coerce
from sqlalchemy.sql import ColumnElement

from sync import patrol_log
from sync.cql import Queryable
from sync.models import (
    Account,
    AnnouncedPhoto,
    DesignatedPlace,
    EventClass,
    Incident,
    Patrol,
    PatrolOfficer,
    Township,
    TownshipArea,
    VendorWarning,
)
from sync.shapes import Json

#: How a kind is told in JSON Schema.
_SCHEMAS: Mapping[str, Json] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "uuid": {"type": "string", "format": "uuid"},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
}
#: GeoJSON's schema of any geometry: QGIS sends a box to the server only if it finds this very address.
GEOMETRY_SCHEMA = "https://geojson.org/schema/Geometry.json"


@dataclass(frozen=True)
class Property:
    """One property of a feature. `column` is its SQL, by which it is filtered; without, or with `is_told` false, it is
    added when a feature is written.
    """

    name: str
    kind: str
    title: str
    column: Any = None
    is_told: bool = True

    @property
    def schema(self) -> Json:
        """Its JSON Schema; anything may be null."""
        return {"title": self.title, **_SCHEMAS[self.kind]}


@dataclass(frozen=True, eq=False)
class Layer:
    """One collection. `kind` is that of its records, `None` for lists; `key` identifies a feature; `instants` are the
    SQL of when it began and ended: instants of records, days of lists, NULL where that is open.
    """

    id: str
    title: str
    description: str
    geometry: str
    model: Any
    source: FromClause
    key: Any
    properties: tuple[Property, ...]
    instants: tuple[Any, Any]
    kind: str | None = None
    #: Features on a page at most, and if nothing is said.
    most: int = 1_000
    usual: int = 100

    @cached_property
    def told(self) -> tuple[Property, ...]:
        """The properties that the database tells, in order."""
        return tuple(each for each in self.properties if each.column is not None and each.is_told)

    @cached_property
    def added(self) -> frozenset[str]:
        """The names of those that are added when a feature is written."""
        return frozenset(each.name for each in self.properties) - {each.name for each in self.told}

    @cached_property
    def queryables(self) -> Mapping[str, Queryable]:
        """What a filter may ask about."""
        return {each.name: Queryable(each.kind, each.column) for each in self.properties if each.column is not None}


# ---------------------------------------------------------------- what records have in common


def _words(column: Any) -> ColumnElement[Any]:
    """The words of a list of code words, with blanks between."""
    return func.nullif(func.trim(type_coerce(column, Text)), "", type_=Text)


def _codes(column: Any) -> ColumnElement[Any]:
    """The texts of a JSON list of plain codes, with semicolons between."""
    inner = func.trim(func.replace(type_coerce(column, Text), '","', ";"), '[]"')
    return func.nullif(inner, "", type_=Text)


def _photo_count(model: Any) -> ColumnElement[Any]:
    """How many photos a record announced: so often their digests are named."""
    told, name = type_coerce(model.photos, Text), '"sha256"'
    without = func.length(func.replace(told, name, ""), type_=Integer)
    return (func.length(told, type_=Integer) - without) // literal(len(name))


def photos_told(model: Any) -> ColumnElement[Any]:
    """How many of a record's photos are missing, and after a colon the SHA-256 of those that arrived, with commas
    between; NULL where it has none. One look for each row: two would cost twice."""
    of, arrived = AnnouncedPhoto, AnnouncedPhoto.received_at.is_not(None)
    missing = cast(func.count().filter(~arrived), Text)
    digests = func.coalesce(func.aggregate_strings(of.sha256, ",").filter(arrived), "")
    told = select(missing + ":" + digests).where(of.record_id == model.id).correlate(model).scalar_subquery()
    return case((type_coerce(model.photos, Text) != "[]", told), else_=null()).label("photos")


def _recorded(model: Any) -> tuple[Property, ...]:
    return (
        Property("occurred_at", "date-time", "发生时间", model.occurred_at),
        Property("received_at", "date-time", "接收时间", model.received_at),
        Property("officer", "string", "执法人员账号", Account.username),
        Property("officer_name", "string", "执法人员", Account.full_name),
        Property("township", "string", "镇街代码", model.township_code),
        Property("township_name", "string", "镇街", Township.name),
    )


def _kept(model: Any) -> tuple[Property, ...]:
    return (
        Property("located", "string", "定位归属", model.located),
        Property("error_m", "number", "定位误差（米）", model.error_m),
        Property("notes", "string", "备注代码", _words(model.note_codes)),
        Property("photo_count", "integer", "照片数", _photo_count(model)),
        Property("photo_missing_count", "integer", "缺失照片数", patrol_log.missing_photos(model), is_told=False),
        Property("photo_urls", "string", "照片链接"),
        Property("voided_at", "date-time", "作废时间", model.voided_at),
        Property("version", "integer", "版本", model.version),
        Property("record_url", "string", "记录链接"),
    )


def _with_names(model: Any) -> Any:
    joined = model.__table__.outerjoin(Account.__table__, Account.id == model.officer_id)
    return joined.outerjoin(Township.__table__, Township.code == model.township_code)


# ---------------------------------------------------------------- the collections


def _crew() -> ColumnElement[Any]:
    names = select(func.aggregate_strings(Account.full_name, ";"))
    crew = names.join(PatrolOfficer, PatrolOfficer.account_id == Account.id)
    return crew.where(PatrolOfficer.patrol_id == Patrol.id).correlate(Patrol).scalar_subquery()


def _log(id: str, title: str, description: str, kind: str, properties: tuple[Property, ...], **more: Any) -> Layer:
    model: Any = patrol_log.KINDS[kind]
    told = (*_recorded(model), *properties, *_kept(model))
    more = {"source": _with_names(model), "geometry": "Point"} | more
    instants = (model.occurred_at, model.occurred_at)
    return Layer(
        id, title, description, model=model, key=model.id, properties=told, instants=instants, kind=kind, **more
    )


_INCIDENTS = _log(
    "incidents",
    "Incidents 巡查发现",
    "What officers found on patrol, where it was found; of records about the same event one.",
    "incident",
    (
        Property("event_class", "string", "事件类别代码", Incident.event_class),
        Property("event_class_name", "string", "事件类别", EventClass.name),
        Property("items", "string", "执法事项代码", _codes(Incident.items)),
        Property("item_names", "string", "执法事项"),
        Property("description", "string", "情况描述", Incident.description),
        Property("measures", "string", "处置措施", _words(Incident.measures)),
        Property("designated_place", "string", "引导至指定经营地点", Incident.designated_place),
        Property("no_penalty_reason", "string", "不予处罚理由", Incident.no_penalty_reason),
        Property("vendor", "uuid", "摊贩编号", Incident.vendor_id),
        Property("patrol", "uuid", "巡查编号", Incident.patrol),
    ),
    source=_with_names(Incident).outerjoin(
        EventClass.__table__,
        and_(EventClass.edition == Incident.event_class_edition, EventClass.code == Incident.event_class),
    ),
)
_WARNINGS = _log(
    "warnings",
    "Warnings 教育警告",
    "What vendors were told, where they were told it.",
    "warning",
    (
        Property("step", "string", "步骤", VendorWarning.step),
        Property("text", "string", "内容", VendorWarning.text),
        Property("deadline_on", "date", "整改期限", VendorWarning.deadline_on),
        Property("response", "string", "当事人反应", VendorWarning.response),
        Property("vendor", "uuid", "摊贩编号", VendorWarning.vendor_id),
        Property("incident", "uuid", "巡查发现编号", VendorWarning.incident),
    ),
)
_PATROLS = _log(
    "patrols",
    "Patrols 巡查",
    "Where officers went: a line for each stretch of the way that a phone kept.",
    "patrol",
    (
        Property("started_at", "date-time", "开始时间", Patrol.started_at),
        Property("ended_at", "date-time", "结束时间", Patrol.ended_at),
        Property("purpose", "string", "巡查目的", Patrol.purpose),
        Property("officers", "string", "巡查人员", _crew()),
    ),
    geometry="MultiLineString",
    most=200,
    usual=50,
)
_DATED = ("from_on", "date", "启用日期"), ("until_on", "date", "停用日期")
_PLACES = Layer(
    "designated-places",
    "Designated places 指定经营地点",
    "Where street vendors are guided to, with the days on which each opened and closed.",
    "Point or Polygon",
    DesignatedPlace,
    DesignatedPlace.__table__.outerjoin(Township.__table__, Township.code == DesignatedPlace.township_code),
    DesignatedPlace.code,
    (
        Property("code", "string", "代码", DesignatedPlace.code),
        Property("name", "string", "名称", DesignatedPlace.name),
        Property("township", "string", "镇街代码", DesignatedPlace.township_code),
        Property("township_name", "string", "镇街", Township.name),
        Property("hours", "string", "经营时间", DesignatedPlace.hours),
        Property("synthetic", "boolean", "示例数据", DesignatedPlace.synthetic),
        Property(*_DATED[0], DesignatedPlace.from_on),
        Property(*_DATED[1], DesignatedPlace.until_on),
    ),
    (DesignatedPlace.from_on, DesignatedPlace.until_on),
)
_TOWNSHIPS = Layer(
    "townships",
    "Townships 镇街",
    "The areas of the district's townships, in every edition, with the days on which each came and went.",
    "Polygon or MultiPolygon",
    TownshipArea,
    TownshipArea.__table__.outerjoin(Township.__table__, Township.code == TownshipArea.township_code),
    cast(TownshipArea.id, String),
    (
        Property("code", "string", "镇街代码", TownshipArea.township_code),
        Property("name", "string", "名称", Township.name),
        Property("kind", "string", "类型", Township.kind),
        Property("edition", "string", "版本", TownshipArea.edition),
        Property("synthetic", "boolean", "示例数据", TownshipArea.synthetic),
        Property(*_DATED[0], TownshipArea.from_on),
        Property(*_DATED[1], TownshipArea.until_on),
    ),
    (TownshipArea.from_on, TownshipArea.until_on),
)
#: Every collection, in the order they are listed.
LAYERS: Mapping[str, Layer] = {layer.id: layer for layer in (_INCIDENTS, _WARNINGS, _PATROLS, _PLACES, _TOWNSHIPS)}


# ---------------------------------------------------------------- how they are described


def schema(layer: Layer, address: str, *, queryable: bool) -> Json:
    """The JSON Schema of a layer's features (Part 5), or of what a filter may ask about (Part 3)."""
    named = [each for each in layer.properties if not queryable or each.column is not None]
    role = {} if queryable else {"x-ogc-role": "primary-instant"}
    properties: Json = {each.name: each.schema for each in named}
    geometry: Json = {"title": "位置", "$ref": GEOMETRY_SCHEMA, "format": "geometry-any"}
    if not queryable:
        geometry["x-ogc-role"] = "primary-geometry"
        if layer.kind:
            properties["occurred_at"] = properties["occurred_at"] | role
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": address,
        "type": "object",
        "title": layer.title,
        "properties": {"geometry": geometry, **properties},
        "additionalProperties": False,
    }
