"""The incidents of a real day, invented: the 18 fields an officer fills in, about 800 bytes of JSON each.

The same seed gives the same days, to the byte. Townships, items, event classes and designated places are those of a
folder for `load-reference` (the demo's); positions lie in the township that is named, in WGS 84 or, as map services
give them, in GCJ-02. Nothing here is anybody's.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import itertools
import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import orjson
import shapely

from sync.places import gcj02_from_wgs84
from tests.demo.people import vendor

Json = dict[str, Any]

#: Incidents in a batch and in a patrol: a phone that was offline for ten outings.
BATCH, PER_PATROL = 500, 50
#: Positions prepared per township; incidents happen within about 10 m of one of them.
_SPOTS, _SPREAD_DEG = 400, 0.0001
#: Days the incidents are spread over, the last of them yesterday.
DAYS = 300
_CHINA = dt.timezone(dt.timedelta(hours=8))
_DAY_MS = 24 * 3_600_000

PLACES = ("在建工地门口", "农贸市场东侧", "小学校门外人行道", "地铁站出口", "滨河步道", "老街十字路口", "医院北门")
SEEN = ("流动摊贩占道经营", "店外堆放杂物", "渣土车带泥上路", "夜间施工无公示", "乱倒装修垃圾", "破损护栏未修复")
DONE = (
    "已批评教育并引导至指定地点",
    "当事人当场改正",
    "已告知期限内整改",
    "已拍照取证并通知社区",
    "现场劝离，无过激行为",
)
MEASURES = (["educate", "guide"], ["educate"], ["inform", "publicise"], ["educate", "order_correction"], ["none"])
REASONS = ("首次发生，情节轻微并及时改正", "当场改正，未造成危害后果", None)


@dataclass(frozen=True)
class Ground:
    """What incidents may point to, from a folder for `load-reference`."""

    folder: Path

    @cached_property
    def items(self) -> dict[str, list[str]]:
        """The codes of the items each township may enforce."""
        found: dict[str, list[str]] = defaultdict(list)
        for row in self._rows("delegations.csv"):
            found[row["township_code"]].append(row["item_code"])
        return found

    @cached_property
    def classes(self) -> list[str]:
        return [row["code"] for row in self._rows("event_classes.csv") if row["edition"] == "GB/T 47678.5-2026"]

    @cached_property
    def guided_to(self) -> dict[str, list[str]]:
        """The designated places of each township."""
        found: dict[str, list[str]] = defaultdict(list)
        for feature in self._features("designated_places.geojson"):
            found[feature["properties"]["township_code"]].append(feature["properties"]["code"])
        return found

    @cached_property
    def spots(self) -> dict[str, list[tuple[float, float]]]:
        """WGS 84 positions inside each township."""
        return {
            feature["properties"]["township_code"]: list(_inside(shapely.geometry.shape(feature["geometry"])))
            for feature in self._features("township_areas.geojson")
        }

    def _rows(self, file: str) -> list[dict[str, str]]:
        with (self.folder / file).open(encoding="utf-8", newline="") as opened:
            return list(csv.DictReader(opened))

    def _features(self, file: str) -> list[Json]:
        return list(json.loads((self.folder / file).read_text(encoding="utf-8"))["features"])


def _inside(area: Any) -> Iterator[tuple[float, float]]:
    random = Random(area.wkt)
    west, south, east, north = area.buffer(-3 * _SPREAD_DEG).bounds
    found = 0
    while found < _SPOTS:
        lon, lat = random.uniform(west, east), random.uniform(south, north)
        if shapely.contains_xy(area, lon, lat):
            found += 1
            yield lon, lat


@dataclass(frozen=True)
class Sender:
    """A phone of the benchmark and who carries it."""

    username: str
    partner: str
    township: str
    install: str


@dataclass(frozen=True)
class Days:
    """Batch after batch of one phone. `seed` tells runs apart: another seed, other records.

    `sent_at` is when the phone sends all of it; its monotonic clock has run since well before the first day.
    """

    ground: Ground
    sender: Sender
    seed: str
    sent_at: dt.datetime

    def batch(self, number: int) -> Json:
        """The envelope of batch 0, 1, 2 …: ten patrols with fifty incidents each, all on one day."""
        random = Random(f"{self.seed} {self.sender.install} {number}")
        ago_ms = (1 + number % DAYS) * _DAY_MS
        first_n = number * (BATCH + BATCH // PER_PATROL) + 1
        ops = list(self._outings(random, first_n, ago_ms))
        return {
            "batch": _uuid(random),
            "install": self.sender.install,
            "app": "3.2.1",
            "sent": self._at(0),
            "next_n": first_n + len(ops),
            "unsent": [],
            "ops": ops,
        }

    def body(self, number: int) -> bytes:
        """The same as a phone sends it: packed."""
        return gzip.compress(orjson.dumps(self.batch(number)), 6, mtime=0)

    def _outings(self, random: Random, first_n: int, ago_ms: int) -> Iterator[Json]:
        counter = itertools.count(first_n)
        for _ in range(BATCH // PER_PATROL):
            patrol = self._operation(random, next(counter), "patrol.create", ago_ms) | {"body": self._patrol(random)}
            yield patrol
            for _ in range(PER_PATROL):
                ago_ms -= random.randrange(20_000, 60_000)
                incident = self._operation(random, next(counter), "incident.create", ago_ms)
                yield incident | self._incident(random, patrol["record"])

    def _operation(self, random: Random, n: int, kind: str, ago_ms: int) -> Json:
        return {"op": _uuid(random), "n": n, "kind": kind, "record": _uuid(random), "at": self._at(ago_ms)}

    def _at(self, ago_ms: int) -> Json:
        wall = (self.sent_at - dt.timedelta(milliseconds=ago_ms)).astimezone(_CHINA)
        return {"wall": wall.isoformat(timespec="milliseconds"), "mono_ms": (DAYS + 9) * _DAY_MS - ago_ms, "boot": "41"}

    def _patrol(self, random: Random) -> Json:
        officers = [self.sender.username, self.sender.partner]
        return {"officers": officers, "township": self.sender.township, "purpose": random.choice(PLACES) + "日常巡查"}

    def _incident(self, random: Random, patrol: str) -> Json:
        """The 18 fields: 6 of the fix, the photos, 11 of the body."""
        township = self.sender.township
        return {
            "fix": self._fix(random),
            "photos": [_photo(random) for _ in range(random.choice((0, 1, 1)))],
            "body": {
                "patrol": patrol,
                "items": random.sample(self.ground.items[township], random.choice((1, 1, 1, 2))),
                "township": township,
                "event_class": random.choice(self.ground.classes),
                "event_class_edition": "GB/T 47678.5-2026",
                "description": f"{random.choice(PLACES)}{random.choice(SEEN)}，{random.choice(DONE)}",
                "measures": random.choice(MEASURES),
                "designated_place": random.choice([None, *self.ground.guided_to[township]]),
                "vendor": self._vendor(random) if random.random() < 0.3 else None,
                "parties": [{"role": "当事人", "name": f"演示{random.randrange(900):03d}"}]
                if random.random() < 0.3
                else [],
                "no_penalty_reason": random.choice(REASONS),
            },
        }

    def _fix(self, random: Random) -> Json:
        lon, lat = random.choice(self.ground.spots[self.sender.township])
        lon, lat = lon + random.uniform(-_SPREAD_DEG, _SPREAD_DEG), lat + random.uniform(-_SPREAD_DEG, _SPREAD_DEG)
        crs, source = random.choice((("wgs84", "gps"), ("gcj02", "amap")))
        if crs == "gcj02":
            lon, lat = gcj02_from_wgs84(lon, lat)
        accuracy_m, age_ms = random.choice((5, 8, 12, 20, 35)), random.randrange(100, 5_000)
        fix = {"lon": round(lon, 6), "lat": round(lat, 6), "accuracy_m": accuracy_m}
        return fix | {"crs": crs, "source": source, "age_ms": age_ms}

    def _vendor(self, random: Random) -> Json:
        """One of the forty vendors this phone's officer meets."""
        seen = vendor(random.randrange(40))
        return seen | {"id": str(uuid.uuid5(uuid.UUID(self.sender.install), seen["name"]))}


def senders(townships: Sequence[str], phones: int, seed: str) -> list[Sender]:
    """Phones of officers who go out in pairs, one pair to a township."""
    names = [f"bench-officer-{number}" for number in range(phones + phones % 2)]
    return [
        Sender(name, names[number ^ 1], townships[number // 2 % len(townships)], _uuid(Random(f"{seed} {name}")))
        for number, name in enumerate(names[:phones])
    ]


def _photo(random: Random) -> Json:
    sha256 = f"{random.getrandbits(256):064x}"
    role = random.choice(("before", "after", "scene"))
    return {"sha256": sha256, "bytes": random.randrange(400_000, 4_000_000), "type": "image/jpeg", "role": role}


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
