"""What phones say of time and place, with errors as they truly are: clocks that are off, positions in some datum.

How often each happens is set here, with its source or the word ESTIMATE, and was before anything was scored with it.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sync.places import gcj02_from_wgs84

Json = dict[str, Any]
LonLat = tuple[float, float]

CHINA = dt.timezone(dt.timedelta(hours=8))
_MS = dt.timedelta(milliseconds=1)
# Metres per degree at 30.1° N.
_METRES_PER_DEGREE_LON, _METRES_PER_DEGREE_LAT = 96_377.0, 110_860.0


def moved(where: LonLat, east_m: float, north_m: float) -> LonLat:
    """The place so far away."""
    lon, lat = where
    return lon + east_m / _METRES_PER_DEGREE_LON, lat + north_m / _METRES_PER_DEGREE_LAT


def strayed(random: Random, where: LonLat, sigma_m: float) -> LonLat:
    """A place nearby, off by so much to the east and to the north (standard deviation)."""
    return moved(where, random.gauss(0, sigma_m), random.gauss(0, sigma_m))


def metres(one: LonLat, other: LonLat) -> float:
    """How far apart two places of a district are, flat."""
    east = (one[0] - other[0]) * _METRES_PER_DEGREE_LON
    return math.hypot(east, (one[1] - other[1]) * _METRES_PER_DEGREE_LAT)


def uuid_of(random: Random) -> str:
    """An id that follows from the seed."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


# ---------------------------------------------------------------- time

#: What a phone's clocks are like on a day (see `sync.clock`), and how often. ESTIMATE: current apps send all clocks;
#: one phone in fifteen is rebooted before it sends; one in eleven runs an app of before monotonic clocks.
CLOCKS = {"mono": 0.82, "anchor": 0.06, "wall-offset": 0.09, "gnss": 0.01, "wall": 0.02}
#: Wall clocks: set by the network to within seconds, by hand to within minutes, or not at all. ESTIMATE: 90, 8 and 2 %.
_WALL_OFF_S = ((0.90, 1.5), (0.08, 240.0), (0.02, 2 * 86_400.0))
#: A crystal's drift, standard deviation; 20 ppm is what they are sold with.
_DRIFT_PPM = 10.0


@dataclass(frozen=True)
class Clocks:
    """A phone's clocks on one day: `kind` is one of `CLOCKS`, all instants true ones."""

    kind: str
    boot: str
    booted_at: dt.datetime
    signed_in_at: dt.datetime
    wall_off: dt.timedelta
    drift_ppm: float

    def stamp(self, at: dt.datetime) -> Json:
        """What an operation made at that moment says of it."""
        said: Json = {"wall": self._wall(at)}
        if self.kind in ("mono", "anchor"):
            said |= {"mono_ms": self._mono_ms(at), "boot": self.boot}
        if self.kind == "anchor":
            said["anchor"] = {"server": _written(self.signed_in_at), "mono_ms": self._mono_ms(self.signed_in_at)}
        if self.kind == "gnss":
            said["gnss"] = _written(at)
        return said

    def sent(self, at: dt.datetime) -> Json:
        """What a batch that is sent at that moment says of it."""
        if self.kind == "wall":
            return {}
        said: Json = {"wall": self._wall(at)}
        if self.kind == "mono":
            said |= {"mono_ms": self._mono_ms(at), "boot": self.boot}
        if self.kind == "anchor":  # it was rebooted on the way home
            said |= {"mono_ms": 60_000, "boot": f"{self.boot}+"}
        return said

    def _wall(self, at: dt.datetime) -> str:
        return _written(at + self.wall_off)

    def _mono_ms(self, at: dt.datetime) -> int:
        return round((at - self.booted_at) / _MS * (1 + self.drift_ppm / 1e6))


def some_clocks(random: Random, morning: dt.datetime) -> Clocks:
    """The clocks of some phone that was signed in on at about that time."""
    kind = random.choices(list(CLOCKS), list(CLOCKS.values()))[0]
    off_s = random.gauss(0, random.choices([s for _, s in _WALL_OFF_S], [share for share, _ in _WALL_OFF_S])[0])
    return Clocks(
        kind,
        boot=str(random.randrange(1, 400)),
        booted_at=morning - dt.timedelta(minutes=random.randrange(30, 10_000)),
        signed_in_at=morning - dt.timedelta(minutes=random.randrange(1, 20)),
        wall_off=dt.timedelta(milliseconds=round(off_s * 1000)),
        drift_ppm=random.gauss(0, _DRIFT_PPM),
    )


def _written(at: dt.datetime) -> str:
    return at.astimezone(CHINA).isoformat(timespec="milliseconds")


# ---------------------------------------------------------------- place

#: The datum a phone's positions are in, what its app declares, which service it names, and how often. An app is right
#: or wrong always. ESTIMATE: 1 % of phones have an app that takes a map service's GCJ-02 for WGS 84, half of those
#: name the service; 3 % declare nothing.
DATUMS = {
    ("gcj02", "gcj02", "amap"): 0.66,
    ("wgs84", "wgs84", "gps"): 0.30,
    ("gcj02", None, None): 0.015,
    ("wgs84", None, None): 0.015,
    ("gcj02", "wgs84", "amap"): 0.005,
    ("gcj02", "wgs84", "gps"): 0.005,
}
#: Declared accuracy, m: the radius that holds 68 % (android.location.Location). With this median and what is worse than
#: declared, phones are off by 10 m on average; an iPhone 6 in a town was off by 7 to 13 m (Merry and Bettinger 2019,
#: doi:10.1371/journal.pone.0219890).
_ACCURACY_M, _ACCURACY_SPREAD = 9.0, 0.55
#: The declared radius of a two-dimensional error in its standard deviations: sqrt(-2 ln 0.32).
_SIGMAS = 1.51
#: How often an error is so many times what was declared: between houses, or a fix that is a minute old. ESTIMATE.
_WORSE, _TIMES_WORSE = 0.08, 3.0
#: Positions from the network's cells: how often, how many times less accurate. ESTIMATE.
_BY_CELL, _TIMES_COARSER = 0.015, (8, 60)
#: No position at all, and one without accuracy. ESTIMATE.
_NO_FIX, _NO_ACCURACY = 0.01, 0.02


@dataclass(frozen=True)
class Receiver:
    """A phone's positioning: the datum it is in, what is declared of it, and which service it names."""

    datum: str
    declared: str | None
    source: str | None

    def fix(self, random: Random, where: LonLat) -> Json | None:
        """A reading there."""
        if random.random() < _NO_FIX:
            return None
        accuracy_m = max(3, round(random.lognormvariate(math.log(_ACCURACY_M), _ACCURACY_SPREAD)))
        if random.random() < _BY_CELL:
            accuracy_m *= random.randrange(*_TIMES_COARSER)
        worse = _TIMES_WORSE if random.random() < _WORSE else 1.0
        read = strayed(random, where, worse * accuracy_m / _SIGMAS)
        lon, lat = gcj02_from_wgs84(*read) if self.datum == "gcj02" else read
        said: Json = {"lon": round(lon, 6), "lat": round(lat, 6), "age_ms": random.randrange(100, 5_000)}
        if random.random() >= _NO_ACCURACY:
            said["accuracy_m"] = accuracy_m
        declared = {"crs": self.declared, "source": self.source}
        return said | {name: value for name, value in declared.items() if value}


def some_receiver(random: Random) -> Receiver:
    """The positioning of some phone."""
    return Receiver(*random.choices(list(DATUMS), list(DATUMS.values()))[0])


# ---------------------------------------------------------------- photos


@dataclass
class Album:
    """All photos of a day: the dHash of each, by its SHA-256."""

    random: Random
    dhashes: dict[str, int] = field(default_factory=dict)

    def take(self, like: int | None = None, bits: int = 0) -> Json:
        """A photo as announced. `like` is the dHash of a picture that it shows again, so many bits off."""
        dhash = self.random.getrandbits(64) if like is None else like
        for bit in self.random.sample(range(64), bits):
            dhash ^= 1 << bit
        sha256 = f"{self.random.getrandbits(256):064x}"
        self.dhashes[sha256] = dhash
        size = self.random.randrange(400_000, 4_000_000)
        return {"sha256": sha256, "bytes": size, "type": "image/jpeg", "role": self.random.choice(("before", "scene"))}

    def again(self, photo: Json) -> Json:
        """The same picture encoded anew, as a cloud or a messenger gives it back. ESTIMATE: its dHash then
        moves by 0 to 4 bits of 64 (traps.md: a picture re-encoded, even watermarked, is always found by its dHash)."""
        return self.take(self.dhashes[photo["sha256"]], self.random.randrange(5)) | {"role": photo["role"]}
