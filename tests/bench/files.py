"""The part of the benchmark that takes records out: files over HTTP beside `ogr2ogr` (Debian's gdal-bin).

Both read the same rows of the same table in one run, in turn. `ogr2ogr` is given the columns of the table alone, then
what the export asks for: names, items and photos counted, in order. Memory is that of a worker that has just started.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from sqlalchemy import create_engine, make_url, text

from sync.models import prepare
from tests.bench import phones
from tests.bench.places import PASSWORD, READER, serving
from tests.bench.run import Bench, tell

#: The formats that both write, and what GDAL calls them.
DRIVERS = {"gpkg": "GPKG", "csv": "CSV", "geojson": "GeoJSON", "fgb": "FlatGeobuf"}
#: Formats that are measured without a neighbour.
ALONE = ("geojsonl", "parquet", "kml", "shp.zip", "xlsx")
_SHAPE = "ST_SetSRID(ST_MakePoint(incidents.lon, incidents.lat), 4326) AS geom"


def exports(bench: Bench) -> None:
    """Every incident in every format; those that ogr2ogr writes too, beside it."""
    url = bench.filled
    count = _count(url)
    print(f"    load {os.getloadavg()[0]:.1f}", flush=True)
    statements = STATEMENTS if "postgresql" in url and shutil.which("ogr2ogr") else {}
    for ending in (*DRIVERS, *ALONE):
        found: dict[str, list[float]] = {}
        for _ in range(bench.repeats if ending in DRIVERS else 1):
            seconds, size, before_mb, peak_mb = _served(bench, url, ending)
            found.setdefault("HTTP", []).append(seconds)
            for name, statement in statements.items() if ending in DRIVERS else ():
                found.setdefault(name, []).append(_ogr2ogr(url, statement, DRIVERS[ending]))
        ours = median(found.pop("HTTP"))
        others = (f"{name} {count / median(each):,.0f}/s" for name, each in found.items())
        memory = f"peak {peak_mb:,.0f} MB (idle {before_mb:,.0f})"
        tell(f"{ending} of {count:,}", f"{count / ours:,.0f}/s", f"{size / 1e6:,.0f} MB", memory, *others)


def memory(bench: Bench) -> None:
    """What a worker holds at most, with a tenth of the incidents and with all."""
    url = bench.filled
    for ending in (*DRIVERS, *ALONE):
        few, all_ = _served(bench, url, ending, until=_tenth(url))[3], _served(bench, url, ending)[3]
        tell(f"memory, {ending}", f"a tenth {few:,.0f} MB", f"all {all_:,.0f} MB")


def _served(bench: Bench, url: str, ending: str, until: str = "") -> tuple[float, int, float, float]:
    """Seconds and bytes of the download, and what the worker held before and at most, MB."""
    with serving(url) as server:
        token = bench.run(phones.sign_in, server.address, [READER], PASSWORD)[READER.install]
        path = f"/api/v1/exports/incidents.{ending}"
        before_mb = server.peak_mb()
        _, size, _, seconds = bench.run(phones.download, server.address, token, f"{path}{until}")
        return seconds, size, before_mb, server.peak_mb()


def _tenth(url: str) -> str:
    engine = prepare(create_engine(url))
    with engine.connect() as connection:
        rows = connection.scalar(text("SELECT count(*) FROM incidents")) or 0
        asked = text("SELECT occurred_at FROM incidents ORDER BY occurred_at LIMIT 1 OFFSET :n")
        until = connection.scalar(asked.bindparams(n=rows // 10))
    engine.dispose()
    at = until if isinstance(until, dt.datetime) else dt.datetime.fromisoformat(str(until)).replace(tzinfo=dt.UTC)
    return f"?until_at={at.astimezone(dt.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}"


def _count(url: str) -> int:
    engine = prepare(create_engine(url))
    with engine.connect() as connection:
        count = connection.scalar(text("SELECT count(*) FROM incidents WHERE voided_at IS NULL"))
    engine.dispose()
    return count or 0


#: The columns of the table that files tell of, and what else the export asks the database for.
_OF_TABLE = """id, version, occurred_at, occurred_error_ms, occurred_method, received_at, township_code, township,
located,
located_code, located_candidates, areas_edition, error_m, event_class, event_class_edition, description, measures,
designated_place, no_penalty_reason, patrol, photos, note_codes, voided_at, void_reason, vendor_id, vendor"""
_BESIDE = """, username, full_name, townships.name AS township_name, (SELECT count(*) FROM announced_photos
WHERE record_id = incidents.id AND received_at IS NULL) AS photos_missing, (SELECT string_agg(ordinal || ':' || item_id
|| ':' || coalesce(referred_to, ''), ' ') FROM incident_items WHERE incident_id = incidents.id) AS links"""
_JOINED = """LEFT JOIN accounts ON accounts.id = officer_id LEFT JOIN townships ON townships.code = township_code"""
#: What ogr2ogr is asked to write, by what it is called here.
STATEMENTS = {
    "ogr2ogr, the table": f"SELECT {_OF_TABLE}, {_SHAPE} FROM incidents WHERE voided_at IS NULL",
    "ogr2ogr, the same": "SELECT {}{}, {} FROM incidents {} WHERE voided_at IS NULL ORDER BY {}".format(
        ", ".join(f"incidents.{name.strip()}" for name in _OF_TABLE.split(",")),
        *(_BESIDE, _SHAPE, _JOINED, "occurred_at DESC, incidents.id DESC"),
    ),
}


def _ogr2ogr(url: str, statement: str, driver: str) -> float:
    """How long it takes, s."""
    address = make_url(url)
    source = f"PG:host={address.query['host']} user={address.username} dbname={address.database}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"file.{driver.lower()}"
        began = time.perf_counter()
        subprocess.run(["ogr2ogr", "-f", driver, str(file), source, "-sql", statement, "-nln", "incidents"], check=True)
        return time.perf_counter() - began


PARTS = (exports, memory)
