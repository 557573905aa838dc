"""Patrol days with doubles whose truth is known: what a township's phones send, and what stands behind each record.

The same seed gives the same days, to the byte. Crews of two walk their beats and a market; each sees things once, in
the order of the way. Then what is rare is put in: the same seen again, by themselves or by others, and one event told
by two officers; last, some apps are reinstalled from a backup and send again what had arrived. Nothing is labelled
while it is made: `case` reads from what truly happened what two records are to each other.

How often things happen stands below, with its source or the word ESTIMATE. Most was set before anything was scored.
Four were reconsidered once, after the first figures: shops worth a record are not neighbours (`SHOP_APART_M`), they are
named (`SHOP_NAMED`), texts may give a door's number, and of a vendor what can be seen is noted more often than what has
to be asked (`ASKED`). With less noted (0.70, 0.45, 0.60, 0.70, and of one in twenty nothing) recall is 0.02 lower, with
as many wrong proposals. Nothing here is anybody's.
"""

from __future__ import annotations

import copy
import datetime as dt
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import shapely

from tests.bench import wording
from tests.bench.day import Ground
from tests.bench.handsets import (
    CHINA,
    Album,
    Clocks,
    Json,
    LonLat,
    Receiver,
    metres,
    moved,
    some_clocks,
    some_receiver,
    strayed,
    uuid_of,
)
from tests.bench.wording import Pen, Place, Sight, Vendor

#: Crews of two in a township. They make about 700 records a day: the district is to expect 10,000 to 30,000 a day from
#: 22 townships (workload_parameters.json, `records_per_day`: ESTIMATE).
CREWS = 20
#: The two outings of a day, hours; the shift is 07:00 to 21:30 (workload_parameters.json, published for Hangzhou).
OUTINGS = ((7.0, 11.5), (13.5, 18.5))
#: Stalls of a market street ("40+ stalls" in one night, 24 of them fined: workload_parameters.json, published), one
#: street for so many crews; shops and single sights of a crew's beat. ESTIMATE.
MARKET_STALLS, CREWS_PER_MARKET, SHOPS, SINGLES = 40, 5, 14, 16
#: Stalls stand side by side; of shops and of what lies about only some are worth a record; doors have numbers, every
#: other one on a side; m. ESTIMATE.
STALL_APART_M, SHOP_APART_M, SPOT_APART_M, DOOR_M = (2.0, 8.0), (8.0, 50.0), (5.0, 40.0), 8.0
#: How far a beat reaches from its middle, m. ESTIMATE.
BEAT_M = 450.0

#: Share of what is seen that a second officer tells of too; of those tellings, the share that is the partner's, the
#: others being those of a crew that came along. ESTIMATE.
TOLD_TWICE, BY_PARTNER = 0.016, 0.7
#: A scene lasts some minutes, and each tells of it at some moment: minutes between the two, median and spread
#: (lognormal); one in twenty is over 13 minutes, one in a hundred over 24. ESTIMATE.
TOLD_APART_MIN, TOLD_APART_SPREAD = 3.0, 0.9
#: Share of what is seen again by the same officer 25 to 90 minutes later; by another crew 25 to 90 minutes later; by
#: anybody 2 to 6 hours later; and of vendors who move on and are met elsewhere. ESTIMATE.
AGAIN, BY_ANOTHER_CREW, LATER, ELSEWHERE = 0.02, 0.01, 0.03, 0.015
#: Share of a day's phones whose app is reinstalled. ESTIMATE: far more than in life, to have some to measure.
REINSTALLED = 0.03
#: Of reinstalled apps, the share on a new phone; of what they send again, the share of photos that the backup encoded
#: anew, or has not; of vendors with a new id; of descriptions touched up before they are sent. ESTIMATE.
NEW_PHONE, ENCODED_ANEW, NOT_IN_BACKUP, NEW_VENDOR_ID, TOUCHED_UP = 0.3, 0.15, 0.15, 0.3, 0.06

#: What officers note down of a vendor, one thing at least, and how often nothing at all. ESTIMATE: a stall and a plate
#: are there to be seen, a name has to be asked for, a telephone more so. Whether it is the first time decides what may
#: follow, so they are to ask who it is; many don't say.
NO_VENDOR = 0.03
ASKED = {"name": 0.75, "phone": 0.50, "stall": 0.75, "plate": 0.85}
#: Shops that are named: a record on a shop that doesn't say which helps nobody. ESTIMATE.
SHOP_NAMED = 0.8
#: Vendors whom the township knows already, so that every phone has them in its list; how often they are picked.
#: ESTIMATE.
KNOWN_VENDORS, PICKED = 0.30, 0.85
#: A colleague chooses another item or event class for the same; leaves the class out. ESTIMATE.
OTHER_ITEM, NO_CLASS = 0.08, 0.20
#: A partner who records too hangs on the crew's patrol, or has one of the own. ESTIMATE.
BOTH_RECORD, OWN_PATROL = 0.5, 0.4
#: In a market both officers of a crew take stalls in turn; one photo shows two stalls. ESTIMATE.
IN_TURN, ONE_PHOTO = 0.35, 0.15
#: Written up later and elsewhere: how often, minutes, m. ESTIMATE.
LATE, LATE_MIN, LATE_M = 0.02, (4, 15), 60.0
#: Photos of a record (3 to 6: workload_parameters.json, ESTIMATE; quick entries have fewer); two officers' pictures of
#: one scene that look alike to a dHash. ESTIMATE.
PHOTOS, ALIKE = (0, 1, 2, 3, 4), 0.02
#: Vendors who are told something; who are told the next step some minutes later. ESTIMATE.
WARNED, NEXT_STEP = 0.4, 0.08
#: Phones that send at noon too. ESTIMATE; the others wait for the evening (workload_parameters.json, `sync_burst`).
AT_NOON = 0.3
#: How far from what they see officers stand, m. ESTIMATE.
STANDS_M = 4.0

BATCH_OPS = 200
CLASSES = "GB/T 47678.5-2026"
STEPS = ("education", "warning", "order_correction")
_MINUTE = dt.timedelta(minutes=1)
_FIRST_DAY = dt.date(2026, 9, 1)


# ---------------------------------------------------------------- what there is to see, and who walks there


@dataclass
class Subject:
    """What can be seen again: a stall with its vendor, a shop, or something that lies about."""

    number: int
    where: LonLat
    sight: Sight
    place: Place
    vendor: Vendor | None = None
    shop: str | None = None
    listed: Json | None = None

    @property
    def words(self) -> Sequence[str]:
        """What is sold there, or whose it is."""
        return self.vendor.goods if self.vendor else (self.shop,) if self.shop else ()


@dataclass
class Phone:
    """An installation on a day: whose it is, how it tells time and place, whom it has met, what it has to send."""

    username: str
    install: str
    clocks: Clocks
    receiver: Receiver
    pen: Pen
    met: dict[int, Json] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    sends_at: list[dt.datetime] = field(default_factory=list)


@dataclass(frozen=True)
class Told:
    """A record, and what truly stands behind it: the event, who told of it in which report, when and where it was."""

    record: str
    kind: str
    event: str
    report: str
    username: str
    at: dt.datetime
    where: LonLat
    subject: int | None


@dataclass
class Draft:
    """A record on a phone before it has a counter and a stamp."""

    at: dt.datetime
    told: Told
    body: Json
    fix: Json | None = None
    photos: list[Json] = field(default_factory=list)
    stamp: Json | None = None


@dataclass
class Crew:
    """Two officers, what is left to see on their beat, and the patrol that each one's records hang on, by outing."""

    phones: tuple[Phone, Phone]
    streets: list[list[Subject]]
    both_record: bool
    patrols: list[dict[str, str]] = field(default_factory=list)

    def partner_of(self, phone: Phone) -> Phone:
        return self.phones[phone is self.phones[0]]


@dataclass(frozen=True)
class Seen:
    """Something seen: an event."""

    event: str
    at: dt.datetime
    subject: Subject
    where: LonLat
    measures: Sequence[str]
    crew: Crew
    phone: Phone


@dataclass(frozen=True)
class Sending:
    """A batch on its way: who is signed in on which installation, and when it arrives."""

    username: str
    install: str
    at: dt.datetime
    envelope: Json


# ---------------------------------------------------------------- a day


class Day:
    """One day of a township. `sendings` come in the order of arrival; `told` is the truth of every record by its id."""

    def __init__(self, seed: str, number: int, township: str, middle: LonLat, crews: int = CREWS) -> None:
        self.random = Random(f"{seed} {township} {number}")
        self.township, self.station, self.on = township, middle, _FIRST_DAY + dt.timedelta(days=number)
        self.album = Album(self.random)
        self.told: dict[str, Told] = {}
        self.sendings: list[Sending] = []
        self._ids = itertools.count()
        self._live(_town(Random(f"{seed} {township}"), middle, crews), crews, seed)

    # ------------------------------------------------------------ living through it

    def _live(self, streets: list[list[list[Subject]]], crews: int, seed: str) -> None:
        people = [self._crew(seed, number, streets[number]) for number in range(crews)]
        markets = streets[crews:]
        seen: list[Seen] = []
        for first_h, last_h in OUTINGS:
            for number, crew in enumerate(people):
                self._set_out(crew, first_h)
                seen += self._outing(crew, markets[number % len(markets)], first_h, last_h)
        for each in list(seen):
            self._rarely(each, people)
        phones = [phone for crew in people for phone in crew.phones]
        self._some_reinstalled(phones)
        for phone in phones:
            self._send(phone)
        self.sendings.sort(key=lambda sending: (sending.at, sending.install))

    def _crew(self, seed: str, number: int, streets: list[list[Subject]]) -> Crew:
        phones = []
        for each in (2 * number, 2 * number + 1):
            of_officer = Random(f"{seed} {self.township} officer {each}")
            username = f"officer-{self.township}-{each:02d}"
            clocks = some_clocks(self.random, self._hour(OUTINGS[0][0]))
            phones.append(
                Phone(username, uuid_of(self.random), clocks, some_receiver(of_officer), wording.a_pen(of_officer))
            )
        return Crew((phones[0], phones[1]), [list(street) for street in streets], self.random.random() < BOTH_RECORD)

    def _hour(self, hour: float) -> dt.datetime:
        return dt.datetime.combine(self.on, dt.time(), CHINA).astimezone(dt.UTC) + hour * dt.timedelta(hours=1)

    def _set_out(self, crew: Crew, first_h: float) -> None:
        """A patrol; two of them where the partner has one of the own."""
        outing, (first, second) = f"outing {next(self._ids)}", crew.phones
        at = self._hour(first_h) + self.random.gauss(0, 5) * _MINUTE
        patrol = self._patrol(crew, first, outing, at)
        crew.patrols.append({phone.username: patrol for phone in crew.phones})
        if crew.both_record and self.random.random() < OWN_PATROL:
            at += abs(self.random.gauss(0, 4)) * _MINUTE
            crew.patrols[-1][second.username] = self._patrol(crew, second, outing, at)

    def _patrol(self, crew: Crew, phone: Phone, outing: str, at: dt.datetime) -> str:
        """Everybody sets out from the station, where a third switch positioning on only later."""
        names = [phone.username, crew.partner_of(phone).username]
        purpose = self.random.choice(("日常巡查", "日常巡查", "市容巡查", "流动摊贩整治", None))
        body = {"officers": names, "township": self.township, "purpose": purpose}
        where = strayed(self.random, self.station, 20)
        fix = phone.receiver.fix(self.random, where) if self.random.random() < 0.67 else None
        return self._write(phone, "patrol", outing, at, self.station, None, body, fix)

    def _outing(self, crew: Crew, market: list[list[Subject]], first_h: float, last_h: float) -> Iterator[Seen]:
        """What a crew sees on the way: a stretch of its beat or of the market, a walk, the next."""
        at, until = self._hour(first_h) + 10 * _MINUTE, self._hour(last_h)
        while at < until:
            to_market = self.random.random() < 0.12
            streets = [street for street in (market if to_market else crew.streets) if street]
            street = self.random.choice(streets) if streets else []
            stretch = [street.pop(0) for _ in range(min(len(street), self.random.randrange(2, 11)))]
            in_turn = crew.both_record and to_market and self.random.random() < IN_TURN
            carrier = crew.phones[crew.both_record and self.random.random() < 0.3]
            photos: list[Json] = []
            for subject in stretch:
                at += self.random.uniform(0.4, 4.0) * _MINUTE
                seen = Seen(f"scene {next(self._ids)}", at, subject, subject.where, self._done(subject), crew, carrier)
                shared = photos if not in_turn and self.random.random() < ONE_PHOTO else []
                photos = self._record(seen, carrier, at, shared)
                yield seen
                carrier = crew.partner_of(carrier) if in_turn else carrier
            at += self.random.uniform(15, 75) * _MINUTE

    def _done(self, subject: Subject) -> Sequence[str]:
        usual = subject.sight.measures
        return self.random.choice((usual, usual, usual[:1], (*usual, "publicise")))

    # ------------------------------------------------------------ what is rare

    def _rarely(self, seen: Seen, people: Sequence[Crew]) -> None:
        """What else may come of something seen."""
        dice = self.random
        if dice.random() < TOLD_TWICE:
            self._tell_again(seen, people)
        if dice.random() < AGAIN:
            self._see_again(seen, seen.crew, seen.phone, dice.uniform(25, 90))
        if dice.random() < BY_ANOTHER_CREW:
            self._met_by(seen, self._another(people, seen.crew), dice.uniform(25, 90))
        if dice.random() < LATER:
            crew = seen.crew if dice.random() < 0.6 else self._another(people, seen.crew)
            self._met_by(seen, crew, dice.uniform(120, 360))
        if seen.subject.vendor and dice.random() < ELSEWHERE:
            crew = seen.crew if dice.random() < 0.5 else self._another(people, seen.crew)
            away = moved(seen.where, *(dice.choice((-1, 1)) * dice.uniform(150, 1_200) for _ in range(2)))
            self._met_by(seen, crew, dice.uniform(15, 120), away)

    def _another(self, people: Sequence[Crew], crew: Crew) -> Crew:
        return self.random.choice([other for other in people if other is not crew])

    def _tell_again(self, seen: Seen, people: Sequence[Crew]) -> None:
        """A second officer, who is there too, tells of the same event."""
        by_partner = self.random.random() < BY_PARTNER
        crew = seen.crew if by_partner else self._another(people, seen.crew)
        phone = crew.partner_of(seen.phone) if by_partner else crew.phones[0]
        apart_min = self.random.lognormvariate(math.log(TOLD_APART_MIN), TOLD_APART_SPREAD)
        at = seen.at + self.random.choice((-1, 1)) * apart_min * _MINUTE
        self._record(Seen(seen.event, seen.at, seen.subject, seen.where, seen.measures, crew, phone), phone, at, [])

    def _met_by(self, seen: Seen, crew: Crew, after_min: float, where: LonLat | None = None) -> None:
        self._see_again(seen, crew, crew.phones[0], after_min, where)

    def _see_again(self, seen: Seen, crew: Crew, phone: Phone, after_min: float, where: LonLat | None = None) -> None:
        """The same stall, shop or heap later, perhaps elsewhere: another event."""
        at = seen.at + after_min * _MINUTE
        again = Seen(
            f"scene {next(self._ids)}", at, seen.subject, where or seen.where, self._done(seen.subject), crew, phone
        )
        self._record(again, phone, at, [])

    # ------------------------------------------------------------ writing a record

    def _record(self, seen: Seen, phone: Phone, at: dt.datetime, photos: list[Json]) -> list[Json]:
        """The officer tells of it, perhaps later and elsewhere, and perhaps of what the vendor was told. The photos."""
        dice, subject = self.random, seen.subject
        standing = strayed(dice, seen.where, STANDS_M)
        if dice.random() < LATE:
            at, standing = at + dice.uniform(*LATE_MIN) * _MINUTE, strayed(dice, standing, LATE_M)
        photos = photos or self._photos(seen)
        body = self._body(seen, phone, seen.crew.patrols[at >= self._hour(OUTINGS[1][0])][phone.username])
        fix = phone.receiver.fix(dice, standing)
        incident = self._write(phone, "incident", seen.event, at, seen.where, subject, body, fix, photos)
        if body["vendor"] and dice.random() < WARNED:
            self._warn(seen, phone, at, incident, body["vendor"]["id"], standing)
        return photos

    def _photos(self, seen: Seen) -> list[Json]:
        scene = Random(seen.event).getrandbits(64)
        alike = [scene if self.random.random() < ALIKE else None for _ in range(self.random.choice(PHOTOS))]
        return [self.album.take(like, 4 if like is not None else 0) for like in alike]

    def _body(self, seen: Seen, phone: Phone, patrol: str) -> Json:
        dice, subject = self.random, seen.subject
        sight = subject.sight
        item, event_class = sight.code, sight.event_class
        if sight.others and dice.random() < OTHER_ITEM:
            item, event_class = dice.choice(sight.others)
        vehicle = wording.vehicle_of(subject.vendor.stall) if subject.vendor else ()
        told = wording.described(dice, phone.pen, sight, subject.place, subject.words, vehicle[0] if vehicle else None)
        classed = dice.random() >= NO_CLASS
        guided = "guide" in seen.measures and dice.random() < 0.5
        return {
            "patrol": patrol,
            "items": [item],
            "township": self.township,
            "event_class": event_class if classed else None,
            "event_class_edition": CLASSES if classed else None,
            "description": told,
            "measures": list(seen.measures if dice.random() < 0.7 else seen.measures[:1]),
            "designated_place": f"DEMO-DP-{self.township}-01" if guided else None,
            "vendor": self._vendor(phone, subject),
            "parties": self._parties(subject),
        }

    def _vendor(self, phone: Phone, subject: Subject) -> Json | None:
        """The vendor as this phone has them: from the township's list, from an earlier meeting, or asked anew."""
        dice, vendor = self.random, subject.vendor
        if vendor is None or dice.random() < NO_VENDOR:
            return None
        if subject.listed and dice.random() < PICKED:
            return subject.listed
        if subject.number in phone.met and dice.random() < PICKED:
            return phone.met[subject.number]
        phone.met[subject.number] = asked(dice, vendor)
        return phone.met[subject.number]

    def _parties(self, subject: Subject) -> list[Json]:
        if subject.shop is None or self.random.random() >= SHOP_NAMED:
            return []
        return [{"role": "商户", "name": wording.shop_told(self.random, subject.shop)}]

    def _warn(self, seen: Seen, phone: Phone, at: dt.datetime, incident: str, vendor: str, where: LonLat) -> None:
        """What the vendor was told, and, where that did not help, the next step."""
        dice, step = self.random, self.random.choices(STEPS, (0.8, 0.12, 0.08))[0]
        at += dice.uniform(0.5, 3) * _MINUTE
        self._warning(seen, phone, at, f"{seen.event} {step}", incident, vendor, step, where)
        if step != STEPS[-1] and dice.random() < NEXT_STEP:
            at += dice.uniform(5, 15) * _MINUTE
            step = STEPS[STEPS.index(step) + 1]
            self._warning(seen, phone, at, f"{seen.event} {step}", incident, vendor, step, where)

    def _warning(
        self,
        seen: Seen,
        phone: Phone,
        at: dt.datetime,
        event: str,
        incident: str,
        vendor: str,
        step: str,
        where: LonLat,
    ) -> None:
        dice = self.random
        body = {
            "incident": incident,
            "vendor": vendor,
            "step": step,
            "text": dice.choice((*wording.TOLD, None)),
            "response": dice.choice(("acknowledged", "acknowledged", "refused", None)),
        }
        fix = phone.receiver.fix(dice, where) if dice.random() < 0.5 else None
        self._write(phone, "warning", event, at, seen.where, seen.subject, body, fix)

    def _write(
        self,
        phone: Phone,
        kind: str,
        event: str,
        at: dt.datetime,
        where: LonLat,
        subject: Subject | None,
        body: Json,
        fix: Json | None,
        photos: Sequence[Json] = (),
    ) -> str:
        record, report = uuid_of(self.random), f"report {next(self._ids)}"
        number = subject.number if subject else None
        told = Told(record, kind, event, report, phone.username, at, where, number)
        phone.drafts.append(Draft(at, told, body, fix, list(photos)))
        return record

    # ------------------------------------------------------------ reinstalled, and sent

    def _some_reinstalled(self, phones: list[Phone]) -> None:
        often = max(1, sum(self.random.random() < REINSTALLED for _ in phones))
        busy = [phone for phone in phones if len(phone.drafts) > 4]
        phones += [self._reinstalled(phone) for phone in self.random.sample(busy, min(often, len(busy)))]

    def _reinstalled(self, phone: Phone) -> Phone:
        """The app is installed anew from a backup, some time after it sent what it had: it sends all that again, with
        new ids, and goes on. Stamps are as the first installation made them."""
        dice = self.random
        phone.drafts.sort(key=lambda draft: draft.at)
        cut = dice.randrange(3, len(phone.drafts))
        kept, rest = phone.drafts[:cut], phone.drafts[cut:]
        phone.drafts = kept
        at = kept[-1].at + dice.uniform(5, 60) * _MINUTE
        phone.sends_at = [at]
        anew = dice.random() < NEW_PHONE
        clocks = some_clocks(dice, at) if anew else phone.clocks
        new = Phone(phone.username, uuid_of(dice), clocks, phone.receiver, phone.pen)
        ids: dict[str, str] = {draft.told.record: uuid_of(dice) for draft in kept}
        vendors: dict[str, str] = {}
        new.drafts = [self._again(draft, phone.clocks, ids, vendors) for draft in kept]
        for draft in rest:
            draft.body = _renamed(draft.body, ids)
        new.drafts += rest
        return new

    def _again(self, draft: Draft, clocks: Clocks, ids: dict[str, str], vendors: dict[str, str]) -> Draft:
        dice, told = self.random, draft.told
        vendor = (draft.body.get("vendor") or {}) if told.kind == "incident" else {}
        if vendor and dice.random() < NEW_VENDOR_ID:
            vendors.setdefault(vendor["id"], uuid_of(dice))
        body = _renamed(draft.body, ids | vendors)
        if body.get("description") and dice.random() < TOUCHED_UP:
            body["description"] += "（补报）"
        photos = [photo for photo in draft.photos if dice.random() >= NOT_IN_BACKUP]
        photos = [self.album.again(photo) if dice.random() < ENCODED_ANEW else photo for photo in photos]
        where = (told.username, told.at, told.where, told.subject)
        again = Told(ids[told.record], told.kind, told.event, told.report, *where)
        return Draft(draft.at, again, body, draft.fix, photos, clocks.stamp(draft.at))

    def _send(self, phone: Phone) -> None:
        """Everything leaves the phone: what it sent on the way, the rest in the evening."""
        phone.drafts.sort(key=lambda draft: draft.at)
        last = max((draft.at for draft in phone.drafts), default=self._hour(OUTINGS[1][1]))
        evening = max(last, self._hour(OUTINGS[1][1])) + self.random.uniform(2, 90) * _MINUTE
        numbered = list(enumerate(phone.drafts, start=1))
        noon = self._hour(OUTINGS[0][1] + self.random.random())
        for at in [*(phone.sends_at or [noon][: self.random.random() < AT_NOON]), evening]:
            due = [(n, draft) for n, draft in numbered if draft.at <= at]
            numbered = numbered[len(due) :]
            for start in range(0, len(due), BATCH_OPS):
                self._arrive(phone, due[start : start + BATCH_OPS], at + start * dt.timedelta(milliseconds=10))

    def _arrive(self, phone: Phone, due: Sequence[tuple[int, Draft]], at: dt.datetime) -> None:
        under_way_s = self.random.uniform(0.05, 0.5) if self.random.random() < 0.9 else self.random.uniform(0.5, 5)
        envelope = {
            "batch": uuid_of(self.random),
            "install": phone.install,
            "app": "3.2.1",
            "sent": phone.clocks.sent(at),
            "next_n": due[-1][0] + 1,
            "unsent": [],
            "ops": [self._operation(phone, n, draft) for n, draft in due],
        }
        arrival = at + dt.timedelta(seconds=under_way_s)
        self.sendings.append(Sending(phone.username, phone.install, arrival, envelope))
        self.told |= {draft.told.record: draft.told for _, draft in due}

    def _operation(self, phone: Phone, n: int, draft: Draft) -> Json:
        said = {"op": uuid_of(self.random), "n": n, "kind": f"{draft.told.kind}.create", "record": draft.told.record}
        with_fix = {"fix": draft.fix} if draft.fix else {}
        at = draft.stamp or phone.clocks.stamp(draft.at)
        return said | {"at": at} | with_fix | {"photos": draft.photos, "body": draft.body}


# ---------------------------------------------------------------- the truth

#: Cases in which two records tell of the same event.
SAME = ("resubmission", "two-officers")


def case(one: Told, other: Told) -> str:
    """What two records of one kind are to each other: one of `SAME`, or else a name for why they look alike."""
    if one.event == other.event:
        return "resubmission" if one.report == other.report else "two-officers"
    apart_min = abs(one.at - other.at) / _MINUTE
    mine = one.username == other.username
    if one.kind == "patrol":
        return "another-outing" if mine else "setting-out-together" if apart_min <= 20 else "different"
    if one.subject is not None and one.subject == other.subject:
        return _seen_again(one, other, apart_min, mine=mine)
    if metres(one.where, other.where) <= 10 and apart_min <= 5:
        return "two-stalls" if mine else "side-by-side"
    return "different"


def _seen_again(one: Told, other: Told, apart_min: float, *, mine: bool) -> str:
    if metres(one.where, other.where) > 100:
        return "same-vendor-elsewhere"
    if one.kind == "warning" and apart_min <= 25:
        return "next-step"
    if apart_min > 100:
        return "same-stall-later"
    return "walking-past-again" if mine else "passing-after-another"


def _renamed(body: Json, ids: dict[str, str]) -> Json:
    """The body with these ids of records and vendors exchanged."""
    body = copy.deepcopy(body)
    for name in ("patrol", "incident", "vendor"):
        if isinstance(body.get(name), str):
            body[name] = ids.get(body[name], body[name])
    if isinstance(body.get("vendor"), dict):
        body["vendor"]["id"] = ids.get(body["vendor"]["id"], body["vendor"]["id"])
    return body


def asked(random: Random, vendor: Vendor) -> Json:
    """A vendor as an officer notes them down, with a new id: what was asked and told, each with its slips."""
    told = {
        "name": wording.name_told(random, vendor),
        "phone": wording.phone_told(random, vendor.phone),
        "stall": wording.stall_told(random, vendor.stall),
        "plate": wording.plate_told(random, vendor.plate) if vendor.plate else None,
    }
    known = {name: value for name, value in told.items() if value and random.random() < ASKED[name]}
    return {"id": uuid_of(random)} | (known or {"name": told["name"]})


# ---------------------------------------------------------------- the town


def _town(random: Random, middle: LonLat, crews: int) -> list[list[list[Subject]]]:
    """The streets of each crew's beat, and after them those of each market."""
    numbers = itertools.count(1)
    side = math.ceil(math.sqrt(crews))
    beats = []
    for number in range(crews):
        east, north = (number % side - side / 2) * 2 * BEAT_M, (number // side - side / 2) * 2 * BEAT_M
        beats.append(_beat(random, moved(middle, east, north), numbers))
    markets = [
        [_street(random, strayed(random, middle, 2 * BEAT_M), numbers, MARKET_STALLS, STALL_APART_M, _stall)]
        for _ in range(max(1, crews // CREWS_PER_MARKET))
    ]
    return [*beats, *markets]


def _beat(random: Random, middle: LonLat, numbers: Iterator[int]) -> list[list[Subject]]:
    shops = _street(random, middle, numbers, SHOPS, SHOP_APART_M, _shop)
    singles = []
    for _ in range(SINGLES):
        where = moved(middle, random.uniform(-BEAT_M, BEAT_M), random.uniform(-BEAT_M, BEAT_M))
        make, apart_m = (_hawker, STALL_APART_M) if random.random() < 0.6 else (_spot, SPOT_APART_M)
        singles.append(_street(random, where, numbers, random.choice((1, 1, 1, 2, 3)), apart_m, make))
    return [shops, *singles]


Maker = Callable[[Random, int, LonLat, Place, int], Subject]


def _street(
    random: Random, start: LonLat, numbers: Iterator[int], count: int, apart_m: tuple[float, float], make: Maker
) -> list[Subject]:
    """So many along a line, side by side."""
    road, landmark, door = random.choice(wording.ROADS), random.choice(wording.LANDMARKS), random.randrange(1, 300)
    bearing, where, made, gone_m = random.uniform(0, 2 * math.pi), start, [], 0.0
    for along in range(1, count + 1):
        place = Place(road, landmark, door + 2 * int(gone_m / DOOR_M))
        made.append(make(random, next(numbers), where, place, along))
        step_m = random.uniform(*apart_m)
        gone_m += step_m
        where = moved(where, step_m * math.sin(bearing), step_m * math.cos(bearing))
    return made


def _stall(random: Random, number: int, where: LonLat, place: Place, along: int) -> Subject:
    return _sold_at(random, number, where, place, wording.a_vendor(random, number, f"A{along}"))


def _hawker(random: Random, number: int, where: LonLat, place: Place, _along: int) -> Subject:
    return _sold_at(random, number, where, place, wording.a_vendor(random, number, None))


def _sold_at(random: Random, number: int, where: LonLat, place: Place, vendor: Vendor) -> Subject:
    listed = asked(random, vendor) if random.random() < KNOWN_VENDORS else None
    return Subject(number, where, wording.STALL, place, vendor=vendor, listed=listed)


def _shop(random: Random, number: int, where: LonLat, place: Place, _along: int) -> Subject:
    return Subject(number, where, wording.SHOP, place, shop=wording.a_shop(random))


def _spot(random: Random, number: int, where: LonLat, place: Place, _along: int) -> Subject:
    return Subject(number, where, random.choice(wording.SPOTS), place)


def days(seed: str, count: int, folder: Path, *, crews: int = CREWS) -> Iterator[Day]:
    """So many days of one township, which follows from the seed; its area is in `folder` (see `load-reference`).

    Stalls, shops and those who carry phones are the same every day.
    """
    spots = Ground(folder).spots
    township = Random(seed).choice(sorted(spots))
    middle = shapely.MultiPoint(spots[township]).centroid
    for number in range(count):
        yield Day(seed, number, township, (middle.x, middle.y), crews)
