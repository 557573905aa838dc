"""One patrol day in Xiaoshan: five phones, offline from morning to evening, and all that goes wrong on a real one.

`write` lets the officers live through the day: their phones believe it is some hours ago and record what they see. Then
it is the present, and `send` has the phones say it all over bad networks. Phones live as files in a folder per day, so
that a day that was cut off goes on, and a day that was sent stays sent.

What a phone records by itself follows from the seed. What goes wrong *on purpose* is `CASES`, each with what the server
is to make of it. Places are WGS 84 here; phones see them through a map service, in GCJ-02.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import shutil
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from sync.photo_notes import PHOTO_NOTES
from sync.places import gcj02_from_wgs84
from tests.demo.network import FINE, REPEATED, SWALLOWED, BadNetwork, Trouble, weather
from tests.demo.people import GUALI, JINGJIANG, NANYANG, YINONG, vendor
from tests.demo.phone import CHINA, Answered, Clock, Json, Line, Phone, Returned, utc_now
from tests.demo.photos import Shot, take

SEED = "a patrol day"
#: The day ends now and began so long ago, h.
DAY_H = 9.0
#: Phones send this many operations at a time here, so that a small day still makes many batches.
BATCH_OPS = 25
#: What every phone's line goes through after signing in, before the weather takes over: one of each.
PROLOGUE = (
    *(REPEATED, SWALLOWED, FINE, Trouble(cut_request_after=1_500), FINE, FINE),
    *(Trouble(cut_answer_after=200), FINE, FINE),
)
#: The line of every phone is cut after so many bytes of bodies, again and again.
CUT_EVERY_BYTES = 2_000_000
#: How long the server may take to look at the photos of what was done on purpose, s.
LOOKED_WITHIN_S = 20.0
CLASSES = "GB/T 47678.5-2026"
#: How far an ordinary incident is from where the patrol walks, degrees: about 400 m.
STROLL_DEG = 0.004

#: What the supervisor says of it.
COMMENT = "请写明占道宽度"

LonLat = tuple[float, float]


# ---------------------------------------------------------------- who carries a phone


@dataclass(frozen=True)
class Carrier:
    """An officer and the phone: where they walk, what is wrong with its clock, how bad its network is (a share)."""

    username: str
    about: str
    township: str
    around: LonLat
    incidents: int
    partners: tuple[str, ...]
    badness: float = 0.2
    wall_off: dt.timedelta = dt.timedelta(0)
    drift_ppm: float = 0.0
    reboots_at_h: float | None = None
    newest_first: bool = False

    @property
    def officers(self) -> list[str]:
        return [self.username, *self.partners]


CARRIERS = (
    Carrier("demo-officer", "bad network", YINONG, (120.585, 30.19375), 60, ("demo-officer2",), badness=0.4),
    Carrier(
        *("demo-officer2", "clock 3 days off, sends the newest first", YINONG, (120.59, 30.19), 50, ("demo-officer",)),
        wall_off=dt.timedelta(days=3),
        newest_first=True,
    ),
    Carrier(
        *("demo-officer3", "rebooted at noon, card expired", GUALI, (120.4646, 30.188), 40, ("demo-supervisor",)),
        wall_off=dt.timedelta(minutes=-20),
        reboots_at_h=4.0,
    ),
    Carrier(
        *("demo-officer4", "at the Qiantang limit", NANYANG, (120.41845, 30.2676), 30, ("demo-supervisor",)),
        drift_ppm=150.0,
    ),
    Carrier(
        *("demo-auxiliary", "clock ten years off", YINONG, (120.583, 30.198), 30),
        ("demo-officer", "demo-officer2"),
        wall_off=dt.timedelta(days=-3652),
    ),
)


@dataclass
class Believed:
    """The time a phone lives in: a moment of the day while it is written, the present afterwards."""

    began_at: dt.datetime
    hour: float | None = None

    def __call__(self) -> dt.datetime:
        return utc_now() if self.hour is None else self.began_at + self.hour * dt.timedelta(hours=1)


@dataclass
class Outing:
    """One carrier on the way: the phone, the patrol under way, and what chance has in store."""

    carrier: Carrier
    phone: Phone
    believed: Believed
    dice: Random
    patrol: str = ""
    incidents: list[str] = field(default_factory=list)

    def somewhere(self) -> LonLat:
        lon, lat = self.carrier.around
        return lon + self.dice.uniform(-STROLL_DEG, STROLL_DEG), lat + self.dice.uniform(-STROLL_DEG, STROLL_DEG)

    def fix(self, where: LonLat | None = None, **other: Any) -> Json:
        """A reading of the phone's map service at a place."""
        lon, lat = gcj02_from_wgs84(*(where or self.somewhere()))
        fix = {"lon": round(lon, 6), "lat": round(lat, 6), "crs": "gcj02", "source": "amap"}
        return fix | {"accuracy_m": self.dice.randrange(5, 40), "age_ms": self.dice.randrange(2_000)} | other

    def photo(self, where: LonLat, role: str = "scene") -> Json:
        return self.phone.take_photo(self.shoot(where), role)

    def shoot(self, where: LonLat, days_ago: int = 0, software: str = "") -> bytes:
        """A photo taken there, now unless said otherwise; every third on a phone that was held upright."""
        ago = dt.timedelta(days=days_ago)
        at, wall = self.believed() - ago, self.phone.clock.wall().astimezone(CHINA) - ago
        return take(self.dice, Shot(at, wall, *where, turned=self.dice.random() < 0.3, software=software))

    def see(self, items: Sequence[str], where: LonLat | None = None, **other: Any) -> str:
        """An incident of this patrol, in the carrier's township unless said otherwise; its record id."""
        other = {"township": self.carrier.township, "fix": self.fix(where)} | other
        incident = self.phone.record_incident(self.patrol, items, **other)
        self.incidents.append(incident)
        return incident


Deed = Callable[[Outing], object]


# ---------------------------------------------------------------- an ordinary day


@dataclass(frozen=True)
class Sight:
    """Something officers see often: the item, its event class, what they write, what they do."""

    item: str
    event_class: str
    description: str
    measures: tuple[str, ...]
    by_vendor: bool = False


SIGHTS = (
    Sight("DEMO-SR-001", "09001", "工地北门外人行道上设摊售卖早点，占道约两米", ("educate", "guide"), True),
    Sight("DEMO-SR-001", "09006", "流动三轮车在路口兜售水果，影响通行", ("educate", "publicise", "guide"), True),
    Sight("DEMO-SR-002", "09005", "店家将货架摆出店门外经营", ("educate", "inform")),
    Sight("DEMO-SR-005", "06036", "沿街堆放装修材料，未设围挡", ("inform", "order_correction")),
    Sight("DEMO-SR-006", "06007", "行道树间拉绳晾晒被褥", ("educate",)),
    Sight("DEMO-SR-009", "07001", "电杆上张贴小广告，已当场清除", ("educate",)),
    Sight("DEMO-SR-012", "06010", "绿化带内倾倒生活垃圾一袋", ("educate", "inform")),
    Sight("DEMO-SR-013", "06020", "院外露天焚烧落叶，已扑灭", ("educate", "publicise")),
    Sight("DEMO-JZ-002", "06011", "装修垃圾未堆放到指定地点", ("inform", "order_correction")),
    Sight("DEMO-GD-001", "08004", "工地出入口未设生活垃圾容器", ("inform",)),
    Sight("DEMO-LJ-001", "06041", "可回收物与厨余垃圾混投", ("educate",)),
)
PLACE = "DEMO-DP-{township}-01"
#: Who keeps a stall in a township; the same faces come back.
VENDORS_PER_TOWNSHIP = 12


def _ordinary(outing: Outing) -> None:
    """One thing seen on the way; a vendor is often told something, an entry is sometimes corrected or withdrawn."""
    dice, sight = outing.dice, outing.dice.choice(SIGHTS)
    known: Json = {"event_class": sight.event_class, "event_class_edition": CLASSES, "measures": list(sight.measures)}
    if sight.by_vendor:
        known |= {"vendor": _regular(outing), "designated_place": PLACE.format(township=outing.carrier.township)}
    where = outing.somewhere()
    if dice.random() < 0.25:
        known["photos"] = [outing.photo(where)]
    incident = outing.see([sight.item], where, description=sight.description, **known)
    if sight.by_vendor and dice.random() < 0.6:
        _tell(outing, incident, known["vendor"]["id"])
    if dice.random() < 0.15:
        outing.phone.amend(incident, {"description": f"{sight.description}（补充：已复查）"})
    elif dice.random() < 0.03:
        outing.phone.void(incident, "重复记录")


def _regular(outing: Outing) -> Json:
    return vendor(int(outing.carrier.township[-3:]) * 100 + outing.dice.randrange(VENDORS_PER_TOWNSHIP))


def _tell(outing: Outing, incident: str, vendor_id: str) -> None:
    response = outing.dice.choice(("acknowledged", "acknowledged", "refused"))
    told = {"vendor": vendor_id, "text": "告知相关规定，引导至指定地点经营", "response": response}
    outing.phone.warn(incident, "education", fix=outing.fix(), **told)


def _set_out(outing: Outing) -> None:
    carrier = outing.carrier
    purpose = "在建工地周边流动摊贩专项整治"
    outing.patrol = outing.phone.start_patrol(carrier.officers, carrier.township, purpose=purpose, fix=outing.fix())


def _walk(outing: Outing) -> None:
    """The last hour's way, a point every three minutes."""
    now_ms = outing.phone.clock.mono_ms()
    seen = [now_ms - minutes * 60_000 for minutes in range(57, -1, -3)]
    points = [[*gcj02_from_wgs84(*outing.somewhere()), at_ms, 15.0] for at_ms in seen if at_ms >= 0]
    outing.phone.append_track(outing.patrol, points, "gcj02")


def _go_home(outing: Outing) -> None:
    outing.phone.end_patrol(outing.patrol)


def _reboot(outing: Outing) -> None:
    outing.phone.clock.reboot("2")


# ---------------------------------------------------------------- what goes wrong on purpose


@dataclass(frozen=True)
class Case:
    """Something done on purpose at some hour on one phone, and what the server is to make of the last operation of it.

    `codes` have to be among its notes or be its problem's code; `later` is the outcome in the end, where it changes.
    """

    title: str
    username: str
    hour: float
    outcome: str
    codes: frozenset[str]
    deed: Deed
    later: str = ""


def _vendors_at_the_site(outing: Outing) -> None:
    """The case of the article: nobody is fined, four measures on one record, a place to go to."""
    told, here = ["educate", "publicise", "inform", "guide"], outing.somewhere()
    outing.see(
        ["DEMO-SR-001"],
        here,
        event_class="09001",
        event_class_edition=CLASSES,
        description="在建工地周边流动摊贩聚集，经讲解表示理解和支持",
        measures=told,
        designated_place="DEMO-DP-330109115-02",
        vendor=_regular(outing),
        no_penalty_reason="首次发现，情节轻微，当场改正",
        photos=[outing.photo(here, "before"), outing.photo(here, "after")],
    )


def _the_same_stall(words: str, **vendor_told: str) -> Deed:
    """The stall that two officers come by within minutes: each with a place, words and a vendor's id of its own."""

    def deed(outing: Outing) -> None:
        lon, lat = THE_STALL
        here = lon + outing.dice.uniform(-0.00004, 0.00004), lat + outing.dice.uniform(-0.00004, 0.00004)
        seller = {"id": str(uuid.uuid4()), "phone": "10000000042", **vendor_told}
        known = {"event_class": "09001", "event_class_edition": CLASSES, "measures": ["educate", "guide"]}
        outing.see(["DEMO-SR-001"], here, description=words, vendor=seller, **known)

    return deed


def _damaged_photo(outing: Outing) -> None:
    """The photo's file is damaged on the phone after the record announced it."""
    here = outing.somewhere()
    photo = outing.photo(here)
    outing.see(["DEMO-SR-001"], here, photos=[photo])
    outing.phone.photo_file(photo["sha256"]).write_bytes(outing.shoot(here))


def _with_a_photo(
    taken: LonLat | None = None, change: Callable[[bytes], bytes] = bytes, *, days_ago: int = 0, software: str = ""
) -> Deed:
    """An incident with a photo that was taken there, or where it should be, so many days ago, and then changed."""

    def deed(outing: Outing) -> None:
        here = outing.somewhere()
        content = change(outing.shoot(taken or here, days_ago, software))
        outing.see(["DEMO-SR-001"], here, photos=[outing.phone.take_photo(content, "scene")])

    return deed


def _half_of(photo: bytes) -> bytes:
    return photo[: len(photo) // 2]


def _also_a_zip(photo: bytes) -> bytes:
    """The same picture to a viewer, and an archive to a program that unpacks: both read what they know."""
    file = io.BytesIO(photo)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("demo.txt", "不是照片")
    return file.getvalue()


def _auxiliary_decides(outing: Outing) -> None:
    incident = outing.see(["DEMO-SR-001"], measures=["educate"])
    outing.phone.warn(incident, "order_correction", fix=outing.fix(), deadline_on="2099-12-31")


def _alone(outing: Outing) -> None:
    phone, carrier = outing.phone, outing.carrier
    phone.start_patrol([carrier.username], carrier.township, purpose="独自巡查", fix=outing.fix())


def _op_reused(outing: Outing) -> None:
    body = {"patrol": outing.patrol, "items": ["DEMO-SR-001"], "township": outing.carrier.township}
    op = outing.phone.add("incident.create", str(uuid.uuid4()), body=body, fix=outing.fix())
    outing.phone.add("incident.create", str(uuid.uuid4()), op=op, body=body, fix=outing.fix())


def _see(items: str, where: LonLat | None = None, **other: Any) -> Deed:
    return lambda outing: outing.see(items.split(), where, **other)


def _case(title: str, username: str, hour: float, outcome: str, codes: str, deed: Deed, later: str = "") -> Case:
    return Case(title, username, hour, outcome, frozenset(codes.split()), deed, later)


#: In 南阳 so near to 靖江 that a position 500 m off, GCJ-02 taken for WGS 84, lies in the wrong one.
NEAR_JINGJIANG = (120.44448, 30.26089)
#: In 瓜沥镇, 12 km from where the patrol of 益农镇 walks.
IN_GUALI = (120.4646, 30.188)
#: In the Qiantang river, and beyond the limit of 2021 in what is 钱塘区 now.
IN_THE_RIVER, BEYOND_THE_LIMIT = (120.14, 30.22), (120.5165, 30.285)

#: In 益农镇, where demo-officer and demo-officer2 both come by.
THE_STALL = (120.5875, 30.1925)

CASES = (
    _case("vendors at a building site, nobody fined", "demo-officer", 1.0, "applied", "", _vendors_at_the_site),
    _case(
        *("chosen township is not the located one", "demo-officer", 1.5, "applied", "township-mismatch"),
        _see("DEMO-SR-001", township=GUALI),
    ),
    _case("a photo with the wrong digest", "demo-officer", 2.0, "applied", "photo-damaged", _damaged_photo),
    _case("a photo taken elsewhere", "demo-officer", 2.6, "applied", "photo-elsewhere", _with_a_photo(IN_GUALI)),
    _case("a photo of another day", "demo-officer", 2.8, "applied", "photo-other-time", _with_a_photo(days_ago=1)),
    _case(
        *("a photo that was edited", "demo-officer3", 5.0, "applied", "photo-edited"),
        _with_a_photo(software="Adobe Photoshop 26.1 (Windows)"),
    ),
    _case(
        *("half a photo", "demo-officer4", 5.0, "applied", "photo-undecodable"),
        _with_a_photo(change=_half_of),
    ),
    _case(
        *("a photo that is an archive too", "demo-auxiliary", 5.0, "applied", "photo-polyglot"),
        _with_a_photo(change=_also_a_zip),
    ),
    _case("a fine that is a formula", "demo-officer", 2.2, "applied", "", _see("DEMO-TD-001")),
    _case("one act under two provisions", "demo-officer", 2.4, "applied", "", _see("DEMO-SR-005")),
    _case(
        *("an operation that holds NaN", "demo-officer", 3.0, "quarantined", "unreadable"),
        lambda outing: outing.see(["DEMO-SR-001"], fix=outing.fix(accuracy_m=float("nan"))),
    ),
    _case("an unknown item", "demo-officer", 3.5, "quarantined", "unknown-item", _see("DEMO-NO-SUCH-ITEM")),
    _case("an operation's id used twice", "demo-officer", 4.0, "quarantined", "op-reused", _op_reused),
    _case(
        *("a clock three days off", "demo-officer2", 5.0, "held", "clock-corrected"),
        *(_see("DEMO-SR-002"), "applied"),
    ),
    _case("an incident before its patrol", "demo-officer2", 7.5, "held", "", _see("DEMO-SR-001"), "applied"),
    _case(
        *("one stall, told of by one officer", "demo-officer", 6.0, "applied", ""),
        _the_same_stall("路口煎饼摊占道经营，已劝离", name="演示摊主王建国"),
    ),
    _case(
        *("and by another, minutes later", "demo-officer2", 6.05, "held", "clock-corrected"),
        *(_the_same_stall("煎饼摊占用人行道，已引导至疏导点", name="演示摊主王建囯"), "applied"),
    ),
    _case("a card that has expired", "demo-officer3", 2.0, "applied", "card-expired", _see("DEMO-SR-001")),
    _case("before the phone was rebooted", "demo-officer3", 3.9, "applied", "clock-corrected", _see("DEMO-SR-009")),
    _case(
        "a position in no township",
        "demo-officer4",
        2.0,
        "applied",
        "outside-district",
        _see("DEMO-SR-001", IN_THE_RIVER),
    ),
    _case(
        *("across the Qiantang limit", "demo-officer4", 2.5, "applied", "outside-district"),
        _see("DEMO-SR-001", BEYOND_THE_LIMIT, township=JINGJIANG),
    ),
    _case(
        *("GCJ-02 sent as WGS 84", "demo-officer4", 3.0, "applied", "crs-doubtful township-mismatch"),
        lambda outing: outing.see(["DEMO-SR-001"], fix=outing.fix(NEAR_JINGJIANG, crs="wgs84")),
    ),
    _case(
        *("a township code retired in 2021", "demo-officer4", 3.5, "applied", "township-retired"),
        _see("DEMO-SR-001", BEYOND_THE_LIMIT, township="330109007"),
    ),
    _case("an item not on the township's list", "demo-officer4", 4.0, "applied", "not-delegated", _see("DEMO-SW-001")),
    _case("one officer alone", "demo-officer4", 4.5, "applied", "single-officer", _alone),
    _case("an auxiliary who decides", "demo-auxiliary", 3.0, "applied", "auxiliary-decided", _auxiliary_decides),
    _case("a clock ten years off", "demo-auxiliary", 4.0, "applied", "clock-corrected", _see("DEMO-SR-006")),
)


# ---------------------------------------------------------------- living through the day


@dataclass
class Day:
    """A day that was written: when it began, where each case's operation is, and when each operation truly was."""

    folder: Path
    began_at: dt.datetime
    cases: dict[str, int]
    moments: dict[str, dict[int, dt.datetime]]

    def file(self, carrier: Carrier) -> Path:
        return self.folder / f"{carrier.username}.sqlite"


def today(folder: Path, server: str, password: str) -> Day:
    """The day of this date, written now unless it was before. Only whole days count: nothing of a part was sent."""
    of_the_day = folder / utc_now().astimezone(CHINA).date().isoformat()
    if not (of_the_day / "day.json").exists():
        shutil.rmtree(of_the_day, ignore_errors=True)
        of_the_day.mkdir(parents=True)
        write(of_the_day, server, password)
    told = json.loads((of_the_day / "day.json").read_text())
    moments = {
        username: {int(n): dt.datetime.fromisoformat(at) for n, at in of_phone.items()}
        for username, of_phone in told["moments"].items()
    }
    return Day(of_the_day, dt.datetime.fromisoformat(told["began_at"]), told["cases"], moments)


def write(folder: Path, server: str, password: str) -> None:
    """Every carrier has lived through the day that ends now; nothing but signing in has touched the network."""
    began_at = utc_now() - dt.timedelta(hours=DAY_H)
    cases: dict[str, int] = {}
    moments: dict[str, dict[int, str]] = {}
    for carrier in CARRIERS:
        believed = Believed(began_at)
        file = folder / f"{carrier.username}.sqlite"
        with closing(_phone(carrier, file, _morning(carrier, believed), Line(server), password)) as phone:
            phone.sign_in()
            outing = Outing(carrier, phone, believed, Random(f"{SEED} {carrier.username}"))
            moments[carrier.username] = _live(outing, cases)
    told = {"began_at": began_at.isoformat(), "cases": cases, "moments": moments}
    (folder / "day.json").write_text(json.dumps(told, ensure_ascii=False))


def _live(outing: Outing, cases: dict[str, int]) -> dict[int, str]:
    """All that happens to a carrier, in order; when each operation truly was."""
    moments: dict[int, str] = {}
    for hour, title, deed in sorted(_plan(outing), key=lambda planned: planned[0]):
        outing.believed.hour = hour
        first = outing.phone.next_n
        deed(outing)
        moments |= dict.fromkeys(range(first, outing.phone.next_n), outing.believed().isoformat())
        if title:
            cases[title] = outing.phone.next_n - 1
    outing.believed.hour = None
    return moments


def _plan(outing: Outing) -> Iterator[tuple[float, str, Deed]]:
    """(hour, title of the case or nothing, what is done)."""
    carrier, dice = outing.carrier, outing.dice
    yield 0.2, "", _set_out
    for _ in range(carrier.incidents):
        yield dice.uniform(0.3, 8.4), "", _ordinary
    for hour in range(1, 9):
        yield float(hour), "", _walk
    for case in CASES:
        if case.username == carrier.username:
            yield case.hour, case.title, case.deed
    if carrier.reboots_at_h is not None:
        yield carrier.reboots_at_h, "", _reboot
    yield 8.6, "", _go_home


def _phone(carrier: Carrier, file: Path, clock: Clock, line: Line, password: str) -> Phone:
    return Phone(
        *(file, line, clock, carrier.username, lambda: password),
        batch_ops=BATCH_OPS,
        newest_first=carrier.newest_first,
        rest=lambda rest_s: time.sleep(rest_s / 5),  # a demo has no evening to wait for
    )


def _morning(carrier: Carrier, believed: Believed) -> Clock:
    """The clocks of a phone that was switched on an hour before the day began.

    Signing in happens in the present, so the anchor is later than what it will date; the line through both is the same.
    """
    switched_on = believed.began_at - dt.timedelta(hours=1)
    return Clock(switched_on, "1", carrier.wall_off, carrier.drift_ppm, true=believed)


def _evening(carrier: Carrier, began_at: dt.datetime) -> Clock:
    clock = _morning(carrier, Believed(began_at))
    if carrier.reboots_at_h is not None:
        clock.boot, clock.booted_at = "2", began_at + carrier.reboots_at_h * dt.timedelta(hours=1)
    return clock


# ---------------------------------------------------------------- sending it


@dataclass(frozen=True)
class Told:
    """What one phone was told in the end. `now` counts the outcomes as they stand on the server.

    `photos_bytes` is what the photos weigh that it has just sent, `uploaded_bytes` what left it for that.
    """

    carrier: Carrier
    recorded: int
    waiting: int
    now: Counter[str]
    replayed: int
    notes: Counter[str]
    photos_sent: int
    photos_damaged: int
    photos_bytes: int
    uploaded_bytes: int
    holes: list[list[int]]
    troubles: int


def photos_bytes(day: Day) -> int:
    """What the photos weigh that the phones have yet to send."""
    return sum(photo.stat().st_size for carrier in CARRIERS for photo in _photos_here(day, carrier))


def _photos_here(day: Day, carrier: Carrier) -> list[Path]:
    with closing(_home_again(day, carrier, "", "")) as phone:
        return [phone.photo_file(sha256) for sha256, _, _ in phone.photos("here")]


#: Told a photo's SHA-256, how many of its bytes the server holds for good, and how many it has.
Sending = Callable[[str, int, int], object]


def send(
    day: Day, server: str, password: str, said: Callable[[Told], object], sending: Sending = lambda *_: None
) -> list[Told]:
    """Every phone has said everything, all at the same time, each over its bad network; each is reported when done."""
    with ThreadPoolExecutor(len(CARRIERS)) as pool:
        return list(pool.map(partial(_send_one, day, server, password, said, sending), CARRIERS))


def _send_one(
    day: Day, server: str, password: str, said: Callable[[Told], object], sending: Sending, carrier: Carrier
) -> Told:
    where, weights = urlsplit(server), dict[str, int]()
    plan = chain(PROLOGUE, weather(f"{SEED} {carrier.username}", carrier.badness))
    with (
        BadNetwork((where.hostname or "", where.port or 80), plan, cut_every_bytes=CUT_EVERY_BYTES) as network,
        closing(_home_again(day, carrier, network.url, password)) as phone,
    ):
        phone.sending = partial(_weighed, weights, sending)
        phone.sync()
        told = _told(carrier, phone, network, sum(weights.values()))
    said(told)
    return told


def _weighed(weights: dict[str, int], sending: Sending, sha256: str, held: int, length: int) -> None:
    weights[sha256] = length
    sending(sha256, held, length)


def _home_again(day: Day, carrier: Carrier, server: str, password: str) -> Phone:
    return _phone(carrier, day.file(carrier), _evening(carrier, day.began_at), Line(server), password)


def _told(carrier: Carrier, phone: Phone, network: BadNetwork, photos_bytes: int) -> Told:
    answers = phone.answers()
    return Told(
        carrier=carrier,
        recorded=phone.next_n - 1,
        waiting=len(phone.waiting()),
        now=Counter(str(operation["outcome"]) for operation in phone.look_up()),
        replayed=sum(answer.result["replayed"] for answer in answers),
        notes=Counter(note["code"] for answer in answers for note in answer.result["notes"]),
        photos_sent=len(phone.photos("sent")),
        photos_damaged=len(phone.photos("damaged")),
        photos_bytes=photos_bytes,
        uploaded_bytes=network.sent_bytes("/api/v1/uploads"),
        holes=phone.holes,
        troubles=network.troubles,
    )


# ---------------------------------------------------------------- what became of what was done on purpose


@dataclass(frozen=True)
class Seen:
    """What became of a case's operation: the outcome it was answered with, all codes told of it, the outcome now."""

    outcome: str
    codes: frozenset[str]
    now: str

    def is_as_meant(self, case: Case) -> bool:
        return self._went_as(case) and case.codes <= self.codes

    def is_yet_to_be_looked_at(self, case: Case) -> bool:
        """Whether nothing but what the photo says is missing, which comes once the server has looked."""
        return self._went_as(case) and frozenset() != case.codes - self.codes <= PHOTO_NOTES

    def _went_as(self, case: Case) -> bool:
        return (self.outcome, self.now) == (case.outcome, case.later or case.outcome)


def became(day: Day, server: str, password: str) -> Iterator[tuple[Case, Seen]]:
    """Each case, and what became of it. Waits a while for the server to look at photos."""
    until = time.monotonic() + LOOKED_WITHIN_S
    for carrier in CARRIERS:
        with closing(_home_again(day, carrier, server, password)) as phone:
            now = {operation["n"]: operation for operation in phone.look_up()}
            told_of = {answer.n: answer for answer in phone.answers()}
            for case in CASES:
                if case.username == carrier.username:
                    n = day.cases[case.title]
                    yield case, _seen(case, phone, told_of[n], now[n], until)


def _seen(case: Case, phone: Phone, answer: Answered, now: Json, until: float) -> Seen:
    result = answer.result
    codes = {note["code"] for note in [*result["notes"], *now["notes"]]}
    if result["problem"]:
        codes.add(result["problem"]["code"])
    if answer.record in {record for _, _, record in phone.photos("damaged")}:
        codes.add("photo-damaged")
    if case.codes & PHOTO_NOTES:
        codes |= _once_looked_at(phone, answer.record, case.codes, until)
    return Seen(result["outcome"], frozenset(codes), now["outcome"])


def _once_looked_at(phone: Phone, incident: str, codes: frozenset[str], until: float) -> set[str]:
    """The notes on an incident, as soon as these are among them; what there is by then, if they take too long."""
    while True:
        found = {note["code"] for note in phone.get(f"/api/v1/incidents/{incident}").json["notes"]}
        if codes <= found or time.monotonic() > until:
            return found
        time.sleep(0.2)


# ---------------------------------------------------------------- the same thing twice

#: Records that the reinstalled app sends again.
SENT_AGAIN = 3


def sent_again(day: Day, server: str, password: str) -> list[Json]:
    """What a reinstalled app is told that sends some records of the first phone's day again, as records of its own."""
    carrier = CARRIERS[0]
    with closing(_home_again(day, carrier, server, password)) as phone:
        made = [operation for operation in phone.exported() if operation["kind"] == "incident.create"]
        live = {answer.op for answer in phone.answers() if answer.result["outcome"] == "applied"}
    file, clock = day.folder / "reinstalled.sqlite", _evening(carrier, day.began_at)
    with closing(_phone(carrier, file, clock, Line(server), password)) as reinstalled:
        if reinstalled.next_n == 1:
            for old in [operation for operation in made if operation["op"] in live][:SENT_AGAIN]:
                content = {name: old[name] for name in ("at", "fix", "photos", "body") if name in old}
                reinstalled.add(old["kind"], str(uuid4()), **content)
        reinstalled.sync()
        return [answer.result for answer in reinstalled.answers()]


def alike(day: Day, server: str, password: str) -> Json | None:
    """The pair of the stall that two officers told of, as it waits for a supervisor; `None` if it doesn't."""
    records = set()
    for carrier in CARRIERS[:2]:
        with closing(_home_again(day, carrier, server, password)) as phone:
            told_of = {answer.n: answer.record for answer in phone.answers()}
            records |= {told_of[n] for title, n in day.cases.items() if title in THE_STALL_CASES and n in told_of}
    line, headers = Line(server), _signed_in(Line(server), password)
    waiting = line.ask("GET", "/api/v1/review/inbox?kind=alike&limit=500", None, headers).json["items"]
    pairs = (pair for pair in waiting if {side["id"] for side in pair["records"]} <= records)
    return next(pairs, None)


#: The two cases that are one event.
THE_STALL_CASES = ("one stall, told of by one officer", "and by another, minutes later")


# ---------------------------------------------------------------- what a person wants changed


def returned(day: Day, server: str, password: str) -> tuple[int, Returned]:
    """How much the first phone has taken along, and a record of its day that a supervisor wants changed."""
    with closing(_home_again(day, CARRIERS[0], server, password)) as phone:
        phone.pull()
        if not phone.returned():
            record, told = next(iter(phone.told("incident").items()))
            _send_back(phone.line, password, record, told["version"])
            phone.pull()
        return sum(len(phone.told(type)) for type in ("item", "delegation", "place", "warning")), phone.returned()[0]


def _send_back(line: Line, password: str, record: str, version: int) -> None:
    said = {"action": "return", "version": version, "comment": COMMENT}
    headers = _signed_in(line, password)
    line.ask("POST", f"/api/v1/review/records/{record}", json.dumps(said).encode(), headers)


def _signed_in(line: Line, password: str) -> dict[str, str]:
    """What the supervisor's requests say of who sends them."""
    who = {"username": "demo-supervisor", "password": password, "install": str(uuid4())}
    headers = {"Content-Type": "application/json"}
    signed_in = line.ask("POST", "/api/v1/auth/login", json.dumps(who).encode(), headers)
    return headers | {"Authorization": f"Bearer {signed_in.json['access_token']}"}
