"""How records are written: one writer for each format, to a file that is whole only when the writer has returned.

All write piece by piece, so that memory stays flat. CSV and GeoJSON need nothing; for the others the libraries of
`requirements-gis.txt` have to be there. Formats that know no instants get them as text in UTC
with a `Z`, a spreadsheet as dates in Beijing time and says so above the column. No text becomes a formula.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely

from sync import projjson
from sync.clock import LOCAL_ZONE
from sync.columns import Chunk, Column, Layout, Shape, Target, Values
from sync.problems import ExportTooLarge, FormatNotInstalled, QueryInvalid
from sync.shapes import instant

try:  # optional, see requirements-gis.txt; without them their formats are refused
    import arro3.core as arrow
    import arro3.io as arrow_files
    import pyogrio
    import xlsxwriter
except ImportError:
    pyogrio = None

#: What a spreadsheet may take for a formula (OWASP, CSV injection); Chinese Excel takes the full width forms too.
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
_BOM = "\ufeff"
_NUMBERS = frozenset({"int", "real", "x", "y"})
#: What Excel holds: rows of a sheet with the one above them, characters of a cell (its specifications).
EXCEL_ROWS, EXCEL_CHARS = 1_048_576, 32_767
#: Texts of a Shapefile end after this many bytes (dBASE), of UTF-8 in ours.
SHAPEFILE_BYTES = 254
#: Rows of a Parquet file that are compressed together.
PARQUET_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Format:
    """One format: what it is sent as, its writer, whether it needs `requirements-gis.txt`, and which coordinate systems
    it may be in: some can't say that theirs is not WGS 84."""

    mimetype: str
    write: Callable[[Layout, Iterator[Chunk], Path], None]
    is_extra: bool = True
    only_wgs84: bool = False


def check(ending: str, target: Target) -> Format:
    """The format of this ending. Raises QueryInvalid if there is none, or it can't be in that coordinate system, and
    FormatNotInstalled if its libraries are missing."""
    if ending not in FORMATS:
        raise QueryInvalid.of("format", f"{ending} is no format; there are {', '.join(FORMATS)}")
    format = FORMATS[ending]
    if format.only_wgs84 and not target.is_wgs84:
        raise QueryInvalid.of("crs", f"{ending} is always WGS 84")
    if format.is_extra and pyogrio is None:
        raise FormatNotInstalled(format=ending, install="pip install -r requirements-gis.txt")
    return format


# ---------------------------------------------------------------- CSV (RFC 4180)


def _csv(layout: Layout, chunks: Iterator[Chunk], path: Path) -> None:
    """UTF-8 with a byte order mark. A list is `a;b`; a text never what could be run as a formula."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(_BOM)
        csv.writer(file).writerow([column.heading for column in layout.columns])
        for chunk in chunks:
            told = zip(layout.columns, _texts(layout.columns, chunk.columns), strict=True)
            cells = [_cells(column, values) for column, values in told]
            file.write("".join(map("%s\r\n".__mod__, map(",".join, zip(*cells, strict=True)))))


def _cells(column: Column, values: Values) -> Values:
    """What stands in the cells. Most columns need no care, and are told by what all their texts hold together."""
    if column.type in _NUMBERS:
        return ["" if value is None else str(value) for value in values]
    texts = [value or "" for value in values] if None in values else values
    if column.type == "instant" or not any(texts):
        return texts
    whole = "".join(texts)
    if '"' in whole or "," in whole or "\n" in whole or "\r" in whole:
        return [_cell(text) for text in texts]
    return texts if _FORMULA.isdisjoint({text[:1] for text in texts}) else [_cell(text) for text in texts]


def _cell(text: str) -> str:
    if text[:1] in _FORMULA:
        text = f"'{text}"
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(mark in text for mark in '",\r\n') else text


def _texts(columns: Sequence[Column], values: Sequence[Values], *, instants: bool = False) -> list[Values]:
    """The columns with lists as texts, days too, and instants unless they are to be left."""
    return [_text(column, each, instants) for column, each in zip(columns, values, strict=True)]


def _text(column: Column, values: Values, instants: bool) -> Values:
    if column.type == "words":
        return [";".join(words) if words else None for words in values]
    if column.type == "day":
        return [None if day is None else day.isoformat() for day in values]
    return [instant(at) for at in values] if column.type == "instant" and not instants else values


# ---------------------------------------------------------------- GeoJSON (RFC 7946)


#: Whatever has no name, or an unknown one, GDAL takes for WGS 84; this it takes for a system of nobody's.
_NO_SYSTEM = 'ENGCRS["GCJ-02",EDATUM["GCJ-02"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'


def _geojson(layout: Layout, chunks: Iterator[Chunk], path: Path) -> None:
    """A FeatureCollection; what is not WGS 84 says so as GeoJSON 2008 did, which GDAL reads."""
    name = _NO_SYSTEM if layout.target.epsg is None else f"urn:ogc:def:crs:EPSG::{layout.target.epsg}"
    crs = {"type": "name", "properties": {"name": name}}
    head: dict[str, Any] = {"type": "FeatureCollection", "name": layout.name}
    head |= {} if layout.target.is_wgs84 else {"crs": crs}
    with path.open("wb") as file:
        file.write(orjson.dumps(head)[:-1] + b',"features":[')
        separator = b""
        for chunk in chunks:
            file.write(separator + orjson.dumps(_features(layout, chunk), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
            separator = b",\n"
        file.write(b"]}\n")


def _geojsonl(layout: Layout, chunks: Iterator[Chunk], path: Path) -> None:
    with path.open("wb") as file:
        for chunk in chunks:
            for feature in _features(layout, chunk):
                file.write(orjson.dumps(feature, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))


def _features(layout: Layout, chunk: Chunk) -> list[dict[str, Any]]:
    kept = layout.attributes()[1:]
    headings = [layout.columns[place].heading for place in kept]
    values = [chunk.columns[place] for place in kept]
    for at, place in enumerate(kept):
        if layout.columns[place].type == "instant":
            values[at] = [instant(each) for each in values[at]]
    kind = _kind(layout)
    return [
        {
            "type": "Feature",
            "id": id,
            "geometry": None if shape is None else {"type": kind, "coordinates": shape},
            "properties": dict(zip(headings, told, strict=True)),
        }
        for id, shape, told in zip(chunk.columns[0], chunk.shapes, zip(*values, strict=True), strict=True)
    ]


def _kind(layout: Layout) -> str:
    return "LineString" if layout.is_lines else "Point"


# ---------------------------------------------------------------- Arrow, and what GDAL writes from it


def _types(*, instants: bool) -> Mapping[str, Any]:
    text, at = arrow.DataType.string(), arrow.DataType.timestamp("ms", tz="UTC")
    number, whole = arrow.DataType.float64(), arrow.DataType.int64()
    return {"int": whole, "real": number, "x": number, "y": number, "instant": at if instants else text}


def _batches(
    layout: Layout, chunks: Iterator[Chunk], kept: Sequence[int], headings: Sequence[str], *, instants: bool
) -> Any:
    """An Arrow stream of these columns, the shapes last as WKB; it is asked for one piece after the other."""
    types, text = _types(instants=instants), arrow.DataType.string()
    columns = [layout.columns[place] for place in kept]
    told = [types.get(column.type, text) for column in columns]
    fields = [arrow.Field(heading, type) for heading, type in zip(headings, told, strict=True)]
    wkb = arrow.Field("geometry", arrow.DataType.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    schema = arrow.Schema([*fields, wkb])

    def made() -> Iterator[Any]:
        for chunk in chunks:
            values = _texts(columns, [chunk.columns[place] for place in kept], instants=instants)
            arrays = [_array(column, each, type) for column, each, type in zip(columns, values, told, strict=True)]
            shapes = arrow.Array(_wkb(layout, chunk.shapes), type=arrow.DataType.binary())
            yield arrow.RecordBatch.from_arrays([*arrays, shapes], schema=schema)

    return arrow.RecordBatchReader.from_batches(schema, made())


def _array(column: Column, values: Values, type: Any) -> Any:
    if column.type != "instant" or type == arrow.DataType.string():
        return arrow.Array(values, type=type)
    since = [None if at is None else int(at.timestamp() * 1000) for at in values]
    return arrow.Array(since, type=arrow.DataType.int64()).cast(type)


#: A point of well-known binary, little end first.
_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])


def _wkb(layout: Layout, shapes: Sequence[Shape]) -> list[bytes | None]:
    if layout.is_lines:
        return [None if way is None else shapely.to_wkb(shapely.linestrings(way), byte_order=1) for way in shapes]
    points = np.zeros(len(shapes), _POINT)
    points["order"], points["kind"] = 1, 1
    points["x"], points["y"] = np.array([(0.0, 0.0) if at is None else at for at in shapes], float).reshape(-1, 2).T
    packed, size = points.tobytes(), _POINT.itemsize
    return [None if at is None else packed[n * size : (n + 1) * size] for n, at in enumerate(shapes)]


def _by_gdal(
    driver: str,
    *,
    instants: bool = True,
    short: bool = False,
    id_as: str = "id",
    **options: str,
) -> Callable[[Layout, Iterator[Chunk], Path], None]:
    """A writer of GDAL's. What it warns of is what the format can't hold, and is told in the README."""

    def write(layout: Layout, chunks: Iterator[Chunk], path: Path) -> None:
        kept = layout.attributes()
        headings = [layout.columns[place].short if short else layout.columns[place].heading for place in kept]
        headings = [id_as if heading == "id" else heading for heading in headings]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pyogrio.write_arrow(
                _batches(layout, chunks, kept, headings, instants=instants),
                path,
                layer=layout.name,
                driver=driver,
                geometry_name="geometry",
                geometry_type=_kind(layout),
                crs=None if layout.target.epsg is None else f"EPSG:{layout.target.epsg}",
                **options,
            )

    return write


_SHAPEFILE = _by_gdal("ESRI Shapefile", instants=False, short=True, ENCODING="UTF-8")


def _shapefile(layout: Layout, chunks: Iterator[Chunk], path: Path) -> None:
    """The files of a Shapefile, zipped, with a list of what its short names mean."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _SHAPEFILE(layout, chunks, Path(folder) / f"{layout.name}.shp")
        columns = (layout.columns[place] for place in layout.attributes())
        names = io.StringIO()
        csv.writer(names).writerows([("name", "is"), *((column.short, column.heading) for column in columns)])
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(Path(folder).iterdir()):
                packed.write(file, file.name)
            packed.writestr("columns.txt", _BOM + names.getvalue())


def _parquet(layout: Layout, chunks: Iterator[Chunk], path: Path) -> None:
    """GeoParquet 1.1, compressed by zstd."""
    kept = layout.attributes()
    batches = _batches(layout, chunks, kept, [layout.columns[place].heading for place in kept], instants=True)
    shapes: dict[str, Any] = {"encoding": "WKB", "geometry_types": [_kind(layout)]}
    if not layout.target.is_wgs84:  # which is what it is in if nothing is said
        shapes["crs"] = projjson.of(layout.target.epsg)
    told = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": shapes}}
    arrow_files.write_parquet(
        batches,
        path,
        compression="zstd(3)",
        max_row_group_size=PARQUET_ROWS,
        key_value_metadata={"geo": orjson.dumps(told).decode()},
    )


# ---------------------------------------------------------------- a spreadsheet


def _xlsx(layout: Layout, chunks: Iterator[Chunk], path: Path) -> None:
    """One sheet, with instants as dates in Beijing time. Raises ExportTooLarge if there are more rows than it holds."""
    options = {"constant_memory": True, "tmpdir": str(path.parent), "strings_to_urls": False}
    book = xlsxwriter.Workbook(path, options | {"strings_to_formulas": False, "strings_to_numbers": False})
    try:
        _fill(book, layout, chunks)
    finally:
        book.close()


def _fill(book: Any, layout: Layout, chunks: Iterator[Chunk]) -> None:
    sheet, plain = book.add_worksheet(layout.name), book.add_format()
    formats = {
        "instant": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        "day": book.add_format({"num_format": "yyyy-mm-dd"}),
    }
    sheet.freeze_panes(1, 1)
    sheet.set_column(0, len(layout.columns) - 1, 18)
    for place, column in enumerate(layout.columns):
        sheet.write_string(0, place, f"{column.heading} (UTC+8)" if column.type == "instant" else column.heading)
    kinds = [(column.type, formats.get(column.type, plain)) for column in layout.columns]
    for number, row in enumerate(_rows(layout, chunks), start=1):
        if number >= EXCEL_ROWS:
            raise ExportTooLarge(most=EXCEL_ROWS - 1)
        for place, ((type, format), value) in enumerate(zip(kinds, row, strict=True)):
            if value is not None:
                _put(sheet, number, place, type, value, format)


def _rows(layout: Layout, chunks: Iterator[Chunk]) -> Iterator[tuple[Any, ...]]:
    for chunk in chunks:
        yield from zip(*chunk.columns, strict=True)


def _put(sheet: Any, row: int, place: int, type: str, value: Any, format: Any) -> None:
    if type == "instant":
        sheet.write_datetime(row, place, value.astimezone(LOCAL_ZONE).replace(tzinfo=None), format)
    elif type == "day":
        sheet.write_datetime(row, place, dt.datetime.combine(value, dt.time()), format)
    elif type in _NUMBERS:
        sheet.write_number(row, place, value)
    else:
        text = ";".join(value) if type == "words" else value
        sheet.write_string(row, place, text[:EXCEL_CHARS])


#: By the ending of the file's name.
FORMATS: Mapping[str, Format] = {
    "gpkg": Format("application/geopackage+sqlite3", _by_gdal("GPKG")),
    # Its index wants all boxes in memory, and refuses records without a place.
    "fgb": Format("application/flatgeobuf", _by_gdal("FlatGeobuf", SPATIAL_INDEX="NO")),
    "geojson": Format("application/geo+json", _geojson, is_extra=False),
    "geojsonl": Format("application/x-ndjson", _geojsonl, is_extra=False, only_wgs84=True),
    "csv": Format("text/csv", _csv, is_extra=False),
    # A placemark has an id of its own.
    "kml": Format(
        "application/vnd.google-earth.kml+xml",
        _by_gdal("KML", instants=False, id_as="record_id"),
        only_wgs84=True,
    ),
    "shp.zip": Format("application/zip", _shapefile),
    "parquet": Format("application/vnd.apache.parquet", _parquet),
    "xlsx": Format("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", _xlsx),
}
