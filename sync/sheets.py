"""The files of a reference folder: which there are, their columns, how they are read, and everything that can be wrong.

`SHEETS` documents every column of every file, `FAULTS` every fault. Files are UTF-8, with or without a byte order mark.
CSV: a header with all the columns, an empty cell for what is not known, days as YYYY-MM-DD, flags as 1 or 0, several
words in one cell separated by `;`. GeoJSON: a FeatureCollection in WGS 84, the columns as properties. Nothing here asks
the database; `sync/reference.py` compares and loads.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json.decoder import JSONObject  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, NamedTuple, cast

import shapely
from sqlalchemy import Table

from sync.models import (
    Base,
    Delegation,
    Department,
    DesignatedPlace,
    EnforcementItem,
    EventClass,
    Provision,
    Township,
    TownshipArea,
)

Row = dict[str, Any]
Key = tuple[Any, ...]

#: Everything that can be wrong with a folder: the code is the contract, the words may be improved.
FAULTS: dict[str, tuple[str, str]] = {
    "no-files": ("No file of this name is known here", "文件夹中没有可识别的文件"),
    "unknown-file": ("This file is none of the reference files", "不是基础数据文件"),
    "not-utf8": ("The file is not UTF-8", "文件编码不是 UTF-8"),
    "bad-csv": ("Not readable as CSV", "不是可读的 CSV"),
    "bad-json": ("Not readable as a GeoJSON FeatureCollection", "不是可读的 GeoJSON 要素集合"),
    "missing-column": ("This column is missing", "缺少该列"),
    "unknown-column": ("This column is not known", "未知的列"),
    "missing-value": ("A value is needed here", "缺少必填值"),
    "bad-text": ("The text holds control characters or is too long", "文本含控制字符或过长"),
    "bad-date": ("Not a day as YYYY-MM-DD", "日期格式应为 YYYY-MM-DD"),
    "bad-number": ("Not a whole number from 0 to 2147483647", "应为 0 至 2147483647 的整数"),
    "bad-flag": ("Neither 1 nor 0", "应为 1 或 0"),
    "bad-word": ("Not one of the words allowed here", "不是允许的取值"),
    "bad-township-code": ("A township code has nine digits", "镇街代码应为九位数字"),
    "until-before-from": ("The last day is before the first", "截止日期早于起始日期"),
    "duplicate-row": ("This row was given before", "重复的行"),
    "overlapping-days": ("In force on the same day as another edition", "与另一版本的有效期重叠"),
    "name-mismatch": ("This code has another name", "代码与名称不符"),
    "unknown-township": ("There is no township with this code", "不存在的镇街代码"),
    "unknown-department": ("There is no department with this code", "不存在的部门代码"),
    "unknown-item": ("There is no such edition of an item", "不存在的执法事项或版本"),
    "unknown-event-class": ("No edition has this event class", "不存在的事件类别"),
    "bad-geometry": ("The geometry is not valid", "几何图形无效"),
    "bad-crs": ("Coordinates must be WGS 84 (or CGCS2000)", "坐标系应为 WGS 84 或 CGCS2000"),
    "lon-lat-swapped": ("Latitude stands before longitude", "经纬度顺序颠倒"),
    "lon-lat-out-of-range": ("Not degrees of longitude and latitude", "经纬度超出范围"),
}
#: GeoJSON coordinates are taken as they are in these systems; CGCS2000 differs from WGS 84 by centimetres.
DEGREES_CRS = ("CRS84", "EPSG::4326", "EPSG:4326", "EPSG::4490", "EPSG:4490")
#: The largest number both databases keep in an integer column.
LARGEST_INT = 2**31 - 1


class Fault(NamedTuple):
    """One thing that is wrong, and where."""

    file: str
    line: int
    code: str
    detail: str

    def __str__(self) -> str:
        english, chinese = FAULTS[self.code]
        return f"{self.file}:{self.line}: {self.code} {english} {chinese}: {self.detail}"


# ---------------------------------------------------------------- columns


class _Refused(ValueError):
    """A cell that can't be taken: the fault's code and what to say."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail


def _text(value: str) -> str | None:
    if any(unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\r\n\t" for sign in value):
        raise _Refused("bad-text", repr(value))
    return value or None


def _day(value: str) -> dt.date | None:
    if not value:
        return None
    try:
        day = dt.date.fromisoformat(value)
    except ValueError:
        raise _Refused("bad-date", value) from None
    if day.isoformat() != value:
        raise _Refused("bad-date", value)
    return day


def _number(value: str) -> int | None:
    if not value:
        return None
    if not (re.fullmatch("[0-9]{1,10}", value) and int(value) <= LARGEST_INT):
        raise _Refused("bad-number", value)
    return int(value)


def _flag(value: str) -> bool:
    if value not in ("1", "0"):
        raise _Refused("bad-flag", value)
    return value == "1"


def _words(value: str) -> list[str]:
    return [word.strip() for word in (_text(value) or "").split(";") if word.strip()]


def _scope(value: str) -> str:
    if value not in ("comprehensive", "specialist"):
        raise _Refused("bad-word", value)
    return value


def _township_code(value: str) -> str | None:
    if value and not re.fullmatch("[0-9]{9}", value):
        raise _Refused("bad-township-code", value)
    return value or None


class Column(NamedTuple):
    """A column of a file: how a cell is read, whether it must be filled, and whether it is stored or only compared."""

    name: str
    read: Callable[[str], Any] = _text
    required: bool = True
    stored: bool = True


class Refers(NamedTuple):
    """These columns name a row of another sheet; `name` is the column that must repeat that row's name."""

    columns: tuple[str, ...]
    file: str
    target: tuple[str, ...]
    code: str
    name: str | None = None


@dataclass(frozen=True)
class Sheet:
    """One file: its columns, what makes a row the same row again, and which entity of the journal it belongs to.

    `geometries` are the GeoJSON types allowed, none for a CSV file. Rows that agree in `series` are editions of one
    thing, of which no two may be in force on one day.
    """

    file: str
    model: type[Base]
    kind: str
    key: tuple[str, ...]
    entity: tuple[str, ...]
    columns: tuple[Column, ...]
    refers: tuple[Refers, ...] = ()
    series: tuple[str, ...] = ()
    geometries: frozenset[str] = frozenset()

    @cached_property
    def stored_columns(self) -> tuple[str, ...]:
        names = tuple(column.name for column in self.columns if column.stored)
        return (*names, "geometry") if self.geometries else names

    def key_of(self, row: Row) -> Key:
        return tuple(row[name] for name in self.key)

    def entity_of(self, row: Row) -> tuple[str, str]:
        return self.kind, "@".join(str(row[name]) for name in self.entity)


IN_FORCE = (Column("from_on", _day), Column("until_on", _day, required=False))
EVER_IN_FORCE = (Column("from_on", _day, required=False), Column("until_on", _day, required=False))
OF_TOWNSHIP = (Column("township_code", _township_code), Column("township_name", stored=False))
TO_TOWNSHIP = Refers(("township_code",), "townships.csv", ("code",), "unknown-township", "township_name")

TOWNSHIPS = Sheet(
    "townships.csv",
    Township,
    "township",
    key=("code",),
    entity=("code",),
    columns=(
        Column("code", _township_code),
        Column("name"),
        Column("kind"),
        Column("pinyin", required=False),
        *EVER_IN_FORCE,
        Column("successor_code", _township_code, required=False),
    ),
)
AREAS = Sheet(
    "township_areas.geojson",
    TownshipArea,
    "township",
    key=("township_code", "edition"),
    entity=("township_code",),
    columns=(*OF_TOWNSHIP, Column("edition"), Column("synthetic", _flag), *EVER_IN_FORCE),
    refers=(TO_TOWNSHIP,),
    series=("township_code",),
    geometries=frozenset({"Polygon", "MultiPolygon"}),
)
DEPARTMENTS = Sheet(
    "departments.csv",
    Department,
    "department",
    key=("code",),
    entity=("code",),
    columns=(Column("code"), Column("name")),
)
EVENT_CLASSES = Sheet(
    "event_classes.csv",
    EventClass,
    "event_class",
    key=("edition", "code"),
    entity=("code", "edition"),
    columns=(Column("edition"), Column("code"), Column("name"), Column("group_code"), Column("group_name")),
)
ITEMS = Sheet(
    "enforcement_items.csv",
    EnforcementItem,
    "item",
    key=("code", "from_on"),
    entity=("code", "from_on"),
    columns=(
        Column("code"),
        Column("name"),
        Column("domain"),
        Column("scope", _scope),
        Column("department_code"),
        Column("theme", required=False),
        Column("first_step", required=False),
        Column("fine_condition", required=False),
        Column("fine_modal", required=False),
        Column("person_min_yuan", _number, required=False),
        Column("person_max_yuan", _number, required=False),
        Column("org_min_yuan", _number, required=False),
        Column("org_max_yuan", _number, required=False),
        Column("event_classes", _words, required=False),
        Column("remark", required=False),
        Column("synthetic", _flag),
        *IN_FORCE,
    ),
    refers=(Refers(("department_code",), "departments.csv", ("code",), "unknown-department"),),
    series=("code",),
)
PROVISIONS = Sheet(
    "provisions.csv",
    Provision,
    "item",
    key=("item_code", "item_from_on", "ordinal"),
    entity=("item_code", "item_from_on"),
    columns=(
        Column("item_code"),
        Column("item_from_on", _day),
        Column("ordinal", _number),
        Column("law"),
        Column("prohibition_article", required=False),
        Column("penalty_article", required=False),
        Column("penalty_text", required=False),
    ),
    refers=(Refers(("item_code", "item_from_on"), "enforcement_items.csv", ("code", "from_on"), "unknown-item"),),
)
DELEGATIONS = Sheet(
    "delegations.csv",
    Delegation,
    "delegation",
    key=("township_code", "item_code", "from_on"),
    entity=("township_code", "item_code", "from_on"),
    columns=(*OF_TOWNSHIP, Column("item_code"), *IN_FORCE),
    refers=(TO_TOWNSHIP, Refers(("item_code",), "enforcement_items.csv", ("code",), "unknown-item")),
    series=("township_code", "item_code"),
)
PLACES = Sheet(
    "designated_places.geojson",
    DesignatedPlace,
    "place",
    key=("code",),
    entity=("code",),
    columns=(
        Column("code"),
        *OF_TOWNSHIP,
        Column("name"),
        Column("hours", required=False),
        Column("synthetic", _flag),
        *IN_FORCE,
    ),
    refers=(TO_TOWNSHIP,),
    geometries=frozenset({"Point", "Polygon"}),
)
#: In the order in which they are written: what is referred to comes first.
SHEETS = (TOWNSHIPS, AREAS, DEPARTMENTS, EVENT_CLASSES, ITEMS, PROVISIONS, DELEGATIONS, PLACES)


# ---------------------------------------------------------------- reading a folder


class Line(NamedTuple):
    """A row of a file, and the line it begins on. `row` is what is stored; `names` the cells that are only compared."""

    number: int
    row: Row
    names: dict[str, str]


@dataclass(frozen=True)
class ReferenceFolder:
    """What the files say, by file and key, and every fault that shows without a database."""

    lines: Mapping[str, Mapping[Key, Line]]
    faults: tuple[Fault, ...]


def read(folder: Path) -> ReferenceFolder:
    """The folder's files, read and checked by themselves. Nothing is raised for a bad file: see `faults`."""
    files = {path.name: path for path in sorted(folder.glob("*")) if path.suffix in (".csv", ".geojson")}
    readers = [_Reader(sheet, files[sheet.file].read_bytes()) for sheet in SHEETS if sheet.file in files]
    unknown = sorted(set(files) - {sheet.file for sheet in SHEETS})
    faults = [Fault(name, 0, "unknown-file", name) for name in unknown]
    if not readers:
        faults.append(Fault(folder.name, 0, "no-files", ", ".join(sheet.file for sheet in SHEETS)))
    for reader in readers:
        faults += reader.faults
    return ReferenceFolder({reader.sheet.file: reader.lines for reader in readers}, tuple(faults))


@dataclass
class _Reader:
    """Reads one file: `lines` are its good rows, `faults` what is wrong with the others."""

    sheet: Sheet
    raw: bytes
    lines: dict[Key, Line] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            text = self.raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self._fault(self.raw.count(b"\n", 0, error.start) + 1, "not-utf8", error.reason)
            return
        rows = self._features(text) if self.sheet.geometries else self._records(text)
        for number, cells, geometry in rows:
            self._take(number, cells, geometry)

    def _fault(self, line: int, code: str, detail: str) -> None:
        self.faults.append(Fault(self.sheet.file, line, code, detail))

    def _records(self, text: str) -> Iterator[tuple[int, dict[str, str], None]]:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not self._columns_match(1, header):
                return
            number = reader.line_num + 1
            for record in reader:
                if record and len(record) != len(header):
                    self._fault(number, "bad-csv", f"{len(record)} cells, {len(header)} columns")
                elif record:
                    yield number, dict(zip(header, record, strict=True)), None
                number = reader.line_num + 1
        except csv.Error as error:
            self._fault(reader.line_num, "bad-csv", str(error))

    def _features(self, text: str) -> Iterator[tuple[int, dict[str, str], Any]]:
        try:
            collection = _LineDecoder().decode(text)
            features = collection["features"]
            crs = str((collection.get("crs") or {}).get("properties", {}).get("name", DEGREES_CRS[0]))
            located = [(feature[_LINE], dict(feature["properties"] or {}), feature["geometry"]) for feature in features]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._fault(getattr(error, "lineno", 1), "bad-json", str(error))
            return
        if not crs.endswith(DEGREES_CRS):
            self._fault(1, "bad-crs", crs)
        for number, properties, geometry in located:
            if self._columns_match(number, list(properties)):
                yield number, {name: _cell(value) for name, value in properties.items()}, geometry

    def _columns_match(self, line: int, names: Sequence[str]) -> bool:
        """Whether each column is there, once, and no other: a misspelt one would go unseen."""
        given, known = Counter(names), [column.name for column in self.sheet.columns]
        wrong = [("missing-column", name) for name in known if not given[name]]
        wrong += [("unknown-column", name) for name, times in given.items() if name not in known or times > 1]
        for code, name in wrong:
            self._fault(line, code, name)
        return not wrong

    def _take(self, number: int, cells: Mapping[str, str], geometry: Any) -> None:
        before = len(self.faults)
        row = {column.name: self._value(number, column, cells[column.name]) for column in self.sheet.columns}
        if self.sheet.geometries:
            row["geometry"] = self._geometry(number, geometry)
        if len(self.faults) > before:
            return
        if row.get("from_on") and row.get("until_on") and row["until_on"] < row["from_on"]:
            self._fault(number, "until-before-from", f"{row['from_on']} > {row['until_on']}")
        key = self.sheet.key_of(row)
        if key in self.lines:
            self._fault(number, "duplicate-row", f"line {self.lines[key].number}")
        names = {column.name: row.pop(column.name) for column in self.sheet.columns if not column.stored}
        self.lines.setdefault(key, Line(number, row, names))

    def _value(self, number: int, column: Column, cell: str) -> Any:
        cell = cell.strip()
        limit = _longest(self.sheet, column)
        try:
            if column.required and not cell:
                raise _Refused("missing-value", column.name)
            if limit is not None and len(cell) > limit:
                raise _Refused("bad-text", f"{column.name}: {len(cell)} > {limit}")
            return column.read(cell)
        except _Refused as refused:
            self._fault(number, refused.code, f"{column.name}: {refused.detail}")
            return None

    def _geometry(self, number: int, geometry: Any) -> Any:
        try:
            shape = shapely.from_geojson(json.dumps(geometry))
        except shapely.errors.GEOSException as error:
            self._fault(number, "bad-geometry", str(error))
            return None
        if shape.geom_type not in self.sheet.geometries or shape.is_empty:
            self._fault(number, "bad-geometry", f"{shape.geom_type}, not {'/'.join(sorted(self.sheet.geometries))}")
        elif not _in_range(*shape.bounds):
            west, south, east, north = shape.bounds
            code = "lon-lat-swapped" if _in_range(south, west, north, east) else "lon-lat-out-of-range"
            self._fault(number, code, f"{west}, {south}")
        elif not shape.is_valid:
            self._fault(number, "bad-geometry", shapely.is_valid_reason(shape))
        return {name: geometry.get(name) for name in ("type", "coordinates")}


#: The member of a Feature that holds its line.
_LINE = "line"


class _LineDecoder(json.JSONDecoder):
    """Reads JSON; every Feature also tells, under `_LINE`, the line it begins on."""

    def __init__(self) -> None:
        super().__init__(parse_constant=_refuse_constant)
        self.parse_object = self._with_line
        self.scan_once = py_make_scanner(self)

    def _with_line(self, text_and_start: tuple[str, int], *rest: Any) -> tuple[Any, int]:
        value, end = JSONObject(text_and_start, *rest)
        if value.get("type") == "Feature":
            text, start = text_and_start
            value[_LINE] = text.count("\n", 0, start) + 1
        return value, end


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _cell(value: Any) -> str:
    """A GeoJSON property as the cell of a CSV file would say it."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _longest(sheet: Sheet, column: Column) -> int | None:
    kept = cast(Table, sheet.model.__table__).c.get(column.name)
    return getattr(kept.type, "length", None) if kept is not None else None


def _in_range(west: float, south: float, east: float, north: float) -> bool:
    return -180 <= west <= east <= 180 and -90 <= south <= north <= 90
