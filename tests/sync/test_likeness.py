"""How much two records resemble each other, why, and which is another sent again."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.fellegi_sunter import score_of
from sync.likeness import (
    COMPARATORS,
    EVIDENCE,
    KINDS,
    SCALES,
    Sketch,
    is_resubmission,
    likeness,
    read_table,
    scale_name,
    weight_or_none,
)
from sync.places import gcj02_from_wgs84

TOLD = orjson.loads(resources.files("sync").joinpath("likeness.json").read_bytes())
TABLE = read_table(TOLD)
AT = dt.datetime(2026, 11, 23, 1, 0, tzinfo=dt.UTC)
LON, LAT = 120.46, 30.18
_METRES_PER_DEGREE_LON = 96_377.0
#: Pictures with detail, by their dHash: the second is the first, encoded anew, the third is another.
PICTURE, ENCODED_ANEW, ANOTHER = 0x0F0F_3333_5555_00FF, 0x0F0F_3333_5555_00FC, 0xF0F0_CCCC_AAAA_FF00
TEXT = "在建工地门口有人占道卖水果，已批评教育并引导至指定地点"


def identity(number: int) -> uuid.UUID:
    """An id by its number."""
    return uuid.UUID(int=number)


SEEN = Sketch(
    id=identity(1),
    kind="incident",
    officer_id=1,
    install_id=identity(11),
    patrol_id=identity(21),
    incident_id=None,
    occurred_at=AT,
    occurred_error_ms=1_500,
    lon=LON,
    lat=LAT,
    error_m=10.0,
    crew=frozenset({"one", "two"}),
    items=frozenset({"DEMO-SR-001"}),
    event_class="09001",
    vendor_id=identity(31),
    vendor={"name": "王建国", "phone": "10000012345", "stall": "A12", "plate": None},
    photos=frozenset({"ab"}),
    dhashes=(PICTURE,),
    text=TEXT,
    content=b"\x01",
)


def like(of: Sketch = SEEN, *, metres: float = 0.0, minutes: float = 0.0, **said: Any) -> Sketch:
    """Another record that says the same but for this, so far east and so much later."""
    changed = {"id": identity(2), "lon": of.lon and of.lon + metres / _METRES_PER_DEGREE_LON} | said
    return replace(of, occurred_at=of.occurred_at + dt.timedelta(minutes=minutes), **changed)


def sent_again(of: Sketch = SEEN, **said: Any) -> Sketch:
    """The record as a reinstalled app sends it."""
    again = {"install_id": identity(12), "patrol_id": identity(22), "vendor_id": identity(32)}
    return like(of, **again | said)


def partners(of: Sketch = SEEN, **said: Any) -> Sketch:
    """The record as the partner writes it three minutes later, some metres off, with an own photo and own words."""
    own = {"officer_id": 2, "install_id": identity(13), "photos": frozenset({"cd"}), "dhashes": (ANOTHER,)}
    own |= {"vendor_id": identity(33), "vendor": {"name": "王健国", "phone": "100 0001 2345"}, "content": b"\x02"}
    own |= {"text": "工地门口水果摊占道，当场劝离", "metres": 8.0, "minutes": 3.0}
    return like(of, **own | said)


def anothers(**said: Any) -> Sketch:
    """The record as an officer of another crew writes it."""
    return partners(**{"officer_id": 3, "patrol_id": identity(23), "crew": frozenset({"three", "four"})} | said)


#: what happened, another record, least and most score
LIKE: list[tuple[str, Sketch, float, float]] = [
    ("sent again", sent_again(), 0.999, 1.0),
    ("sent again with another clock", sent_again(minutes=1.2, occurred_error_ms=120_000), 0.99, 1.0),
    ("sent again with pictures encoded anew", sent_again(photos=frozenset({"ef"}), dhashes=(ENCODED_ANEW,)), 0.99, 1.0),
    ("sent again without photos", sent_again(photos=frozenset(), dhashes=()), 0.99, 1.0),
    ("sent again without a position", sent_again(lon=None, lat=None, error_m=None), 0.99, 1.0),
    ("sent again, worded anew", sent_again(text="占道经营，已劝离", content=b"\x03"), 0.9, 1.0),
    ("the partner tells of it too", partners(), 0.9, 1.0),
    ("the partner, who knows the vendor by phone only", partners(vendor={"phone": "10000012345"}), 0.9, 1.0),
    ("another crew tells of it too", anothers(), 0.8, 1.0),
    ("the partner, without the vendor", partners(vendor={}, vendor_id=None), 0.05, 0.9),
    ("another crew, without the vendor", anothers(vendor={}, vendor_id=None), 0.001, 0.5),
    ("the partner takes the next stall", partners(vendor={"name": "李芳", "phone": "10000099999"}), 0.0, 0.02),
    (
        "walking past again",
        like(minutes=40, metres=4, photos=frozenset({"x"}), dhashes=(), content=b"\x04"),
        0.0,
        0.001,
    ),
    (
        "the same stall hours later",
        like(minutes=200, metres=6, photos=frozenset(), dhashes=(), content=b""),
        0.0,
        0.001,
    ),
    ("another crew meets the vendor hours later", anothers(minutes=200.0), 0.0, 0.05),
    ("another crew meets the vendor elsewhere", anothers(minutes=50.0, metres=700.0), 0.0, 0.05),
    (
        "two stalls side by side, by one officer on one photo",
        like(minutes=1.5, metres=5, vendor={"name": "李芳", "stall": "A13"}, vendor_id=identity(34), content=b"\x05"),
        0.0,
        0.01,
    ),
    ("the same phrase, quite elsewhere", anothers(metres=2_000.0, vendor={}, vendor_id=None, text=TEXT), 0.0, 0.05),
]


@pytest.mark.parametrize(("other", "least", "most"), [row[1:] for row in LIKE], ids=[row[0] for row in LIKE])
def test_three_things_that_look_alike_are_told_apart(other: Sketch, least: float, most: float) -> None:
    answer = likeness(SEEN, other, TABLE)
    assert least <= answer.score <= most, answer


@pytest.mark.parametrize("other", [row[1] for row in LIKE], ids=[row[0] for row in LIKE])
def test_the_answer_explains_itself(other: Sketch) -> None:
    answer = likeness(SEEN, other, TABLE)
    names = [piece.name for piece in answer.evidence]
    assert len(names) == len(set(names))
    assert "kind" in names
    assert answer.weight == pytest.approx(sum(piece.weight for piece in answer.evidence))
    assert answer.score == score_of(answer.weight)
    assert [abs(piece.weight) for piece in answer.evidence] == sorted(
        (abs(p.weight) for p in answer.evidence), reverse=True
    )
    assert answer.version == TOLD["version"]
    json.dumps([piece.values for piece in answer.evidence], allow_nan=False)


def test_evidence_shows_what_both_say() -> None:
    found = {piece.name: piece for piece in likeness(partners(), SEEN, TABLE).evidence}
    assert found["kind"].level == "incident/partner"
    assert found["distance"].values == {"distance_m": 8.0, "error_m": 20.6}
    assert found["time"].values == {"apart_s": 180.0, "error_s": 3.0}
    assert found["item"].values == (["DEMO-SR-001"], ["DEMO-SR-001"])
    assert found["vendor_name"].values == ("王建国", "王健国")  # of the smaller id first
    assert found["vendor_name"].level == "same-sound"
    assert found["photo"].values == {"equal": []}
    assert found["text"].values == (TEXT, "工地门口水果摊占道，当场劝离")
    assert "vendor_plate" not in found  # nobody said anything of one
    again = {piece.name: piece for piece in likeness(SEEN, sent_again(dhashes=(ENCODED_ANEW,)), TABLE).evidence}
    assert again["photo"].values == {"equal": ["ab"]}
    assert again["picture"].values == {"bits": 2}


# ---------------------------------------------------------------- by level

#: evidence, another record, level
LEVELS: list[tuple[str, Sketch, str | None]] = [
    ("time", like(), "same-moment"),
    ("time", partners(minutes=0.016), "same-moment"),
    ("time", partners(minutes=2.0), "2-minutes"),
    ("time", partners(minutes=2.04), "2-minutes"),  # beyond what both may be off
    ("time", partners(minutes=2.1), "5-minutes"),
    ("time", partners(minutes=-9.0), "10-minutes"),
    ("time", partners(minutes=19.0), "20-minutes"),
    ("time", partners(minutes=44.0), "45-minutes"),
    ("time", partners(minutes=170.0), "3-hours"),
    ("time", partners(minutes=190.0), "later"),
    ("time", partners(minutes=5.0, occurred_error_ms=600_000), "unsure"),
    ("time", partners(minutes=11.0, occurred_error_ms=600_000), "2-minutes"),
    ("time", like(minutes=5.0, occurred_error_ms=600_000), "5-minutes"),  # one clock was off alike
    ("time", partners(occurred_error_ms=None), None),
    ("distance", like(), "same-fix"),
    ("distance", like(metres=8), "close"),
    ("distance", like(metres=18), "near"),
    ("distance", like(metres=28), "edge"),
    ("distance", like(metres=50), "apart"),
    ("distance", like(metres=70), "beyond"),
    ("distance", like(metres=70, error_m=60.0), "apart-rough"),
    ("distance", like(metres=60, error_m=60.0), "near-rough"),
    ("distance", like(metres=60, error_m=700.0), "unsure"),
    ("distance", like(metres=60, error_m=None), "near-rough"),
    ("distance", like(lon=gcj02_from_wgs84(LON, LAT)[0], lat=gcj02_from_wgs84(LON, LAT)[1]), "shifted"),
    ("distance", like(metres=510), "beyond"),  # as far, but another way
    ("distance", like(lon=None, lat=None), None),
    ("installation", like(), "same"),
    ("installation", sent_again(), "another"),
    ("incident", like(incident_id=identity(5)), None),
    ("item", like(items=frozenset({"DEMO-SR-001", "DEMO-SR-002"})), "overlap"),
    ("item", like(items=frozenset({"DEMO-SR-002"})), "differs"),
    ("item", like(items=frozenset()), None),
    ("event_class", like(event_class="09005"), "differs"),
    ("event_class", like(event_class=None), None),
    ("photo", like(photos=frozenset({"ab", "cd"})), "equal"),
    ("photo", like(photos=frozenset({"cd"})), "differs"),
    ("photo", like(photos=frozenset()), None),
    ("picture", like(dhashes=(ANOTHER, ENCODED_ANEW)), "close"),
    ("picture", like(dhashes=(PICTURE ^ 0x3FF,)), "close"),  # ten bits
    ("picture", like(dhashes=(PICTURE ^ 0x7FF,)), "differs"),
    ("picture", like(dhashes=(0,)), None),  # the night
    ("picture", like(dhashes=()), None),
    ("vendor", like(), "equal"),
    ("vendor", like(vendor_id=identity(9)), "differs"),
    ("vendor", like(vendor_id=None), None),
    ("vendor_stall", like(vendor={"stall": "a-12号摊"}), "equal"),
    ("vendor_phone", like(vendor={"phone": "10000012346"}), "similar"),
    ("vendor_name", like(vendor={}), None),
    ("party", like(), None),
    ("content", like(content=b"\x02"), "differs"),
    ("content", like(content=b""), None),
    ("text", like(text=None), None),
]


@pytest.mark.parametrize(("evidence", "other", "level"), LEVELS)
def test_records_agree_at_a_level(evidence: str, other: Sketch, level: str | None) -> None:
    assert COMPARATORS[evidence](SEEN, other) == level
    assert COMPARATORS[evidence](other, SEEN) == level
    assert level is None or level in EVIDENCE[evidence].levels


def test_every_level_that_evidence_may_have_is_tried() -> None:
    tried = {(name, level) for name, _, level in LEVELS}
    simple = {("incident", "equal"), ("incident", "differs"), ("party", "equal"), ("party", "differs")}
    of_names = {
        (name, level) for name in EVIDENCE for level in EVIDENCE[name].levels if name.startswith(("vendor_", "text"))
    }
    all_levels = {(name, level) for name, compared in EVIDENCE.items() for level in compared.levels}
    assert all_levels - tried - simple - of_names == {
        ("item", "equal"),
        ("event_class", "equal"),
        ("content", "equal"),
    }


#: another record, scale
WHO: list[tuple[Sketch, str]] = [
    (sent_again(), "incident/same-officer"),
    (like(), "incident/same-officer"),
    (partners(), "incident/partner"),
    (partners(patrol_id=identity(24)), "incident/partner"),  # on a patrol of the own, which names both
    (partners(crew=frozenset()), "incident/partner"),  # on one patrol
    (anothers(), "incident/other"),
    (anothers(crew=frozenset()), "incident/other"),
]


@pytest.mark.parametrize(("other", "scale"), WHO)
def test_who_wrote_it_decides_by_which_scale_it_is_weighed(other: Sketch, scale: str) -> None:
    assert scale_name(SEEN, other) == scale_name(other, SEEN) == scale


# ---------------------------------------------------------------- for any two records


def told_of_vendors() -> st.SearchStrategy[dict[str, str | None]]:
    texts = (
        st.none() | st.text(max_size=12) | st.sampled_from(["王建国", "王师傅", "13800001111", "A-12号", "浙A12345"])
    )
    return st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "phone", "stall", "plate"), texts))


FEW_IDS = st.integers(1, 3).map(identity)
ANY = st.builds(
    Sketch,
    id=st.uuids(),
    kind=st.just("incident"),
    officer_id=st.integers(1, 3),
    install_id=FEW_IDS,
    patrol_id=st.none() | FEW_IDS,
    incident_id=st.none() | FEW_IDS,
    occurred_at=st.datetimes(timezones=st.just(dt.UTC))
    | st.integers(-300, 300).map(lambda m: AT + dt.timedelta(minutes=m)),
    occurred_error_ms=st.none() | st.integers(0, 10**12),
    lon=st.none() | st.floats(-180, 180) | st.floats(120.45, 120.47),
    lat=st.none() | st.floats(-90, 90) | st.floats(30.17, 30.19),
    error_m=st.none() | st.floats(0, 1e7),
    crew=st.frozensets(st.sampled_from(["one", "two", "three"])),
    items=st.frozensets(st.sampled_from(["A", "B", "C"])),
    event_class=st.none() | st.text(max_size=3),
    vendor_id=st.none() | FEW_IDS,
    vendor=told_of_vendors(),
    parties=st.frozensets(st.sampled_from(["one", "two"])),
    photos=st.frozensets(st.sampled_from(["ab", "cd", "ef"])),
    dhashes=st.lists(st.integers(0, 2**64 - 1), max_size=3).map(tuple),
    text=st.none() | st.text(st.characters(), max_size=30),
    content=st.binary(max_size=1),
)


@given(one=ANY, other=ANY, kind=st.sampled_from(KINDS))
def test_any_two_records_resemble_each_other_the_same_from_both_sides(one: Sketch, other: Sketch, kind: str) -> None:
    one, other = replace(one, kind=kind), replace(other, kind=kind)
    answer = likeness(one, other, TABLE)
    assert answer == likeness(other, one, TABLE)
    assert 0 <= answer.score <= 1
    assert is_resubmission(one, other) == is_resubmission(other, one)
    json.dumps([piece.values for piece in answer.evidence], allow_nan=False)


@given(one=ANY, other=ANY, least=st.floats(-30, 30))
def test_crowds_of_pairs_are_weighed_the_same(one: Sketch, other: Sketch, least: float) -> None:
    weight = likeness(one, other, TABLE).weight
    told = weight if weight >= least else None
    assert weight_or_none(one, other, TABLE, least) == weight_or_none(other, one, TABLE, least) == told


@given(one=ANY, other=ANY)
def test_what_one_side_does_not_say_weighs_nothing(one: Sketch, other: Sketch) -> None:
    silent = {"lon": None, "occurred_error_ms": None, "items": frozenset(), "event_class": None, "vendor_id": None}
    silent |= {"vendor": {}, "parties": frozenset(), "photos": frozenset(), "dhashes": (), "text": None, "content": b""}
    answer = likeness(one, replace(other, **silent), TABLE)
    assert {piece.name for piece in answer.evidence} <= {"kind", "installation", "incident"}


def test_records_of_two_kinds_are_not_the_same() -> None:
    assert weight_or_none(SEEN, replace(SEEN, kind="patrol"), TABLE, -1e9) is None
    assert not is_resubmission(SEEN, sent_again(kind="patrol"))


# ---------------------------------------------------------------- the table


def pieces() -> Iterator[tuple[str, str]]:
    """Every piece of evidence of every scale of records."""
    return ((name, piece.name) for name in SCALES for piece in TABLE.scales[name].pieces)


@pytest.mark.parametrize(("scale", "piece"), list(pieces()))
def test_no_evidence_alone_carries_a_pair(scale: str, piece: str) -> None:
    prior = TABLE.scales[scale].prior
    most = max(TABLE.scales[scale].bits[piece].values())
    assert score_of(prior + most) <= max(0.9, score_of(prior))


def test_every_weight_has_its_reason() -> None:
    assert all(piece.reason for scale in TABLE.scales.values() for piece in scale.pieces)
    assert all(scale.reason for scale in TABLE.scales.values())
    assert TABLE.reason


def test_a_table_that_does_not_fit_is_refused() -> None:
    told = orjson.loads(orjson.dumps(TOLD))
    told["scales"]["incident/other"]["pieces"][0]["name"] = "weather"
    with pytest.raises(ValueError, match="weather"):
        read_table(told)
    del told["scales"]["incident/other"]
    with pytest.raises(ValueError, match="incident/other"):
        read_table(told)


# ---------------------------------------------------------------- sent again

WARNING = replace(SEEN, kind="warning", incident_id=identity(41), photos=frozenset(), dhashes=())

#: why, one, another record, whether one is the other, sent again
RESUBMISSIONS: list[tuple[str, Sketch, Sketch, bool]] = [
    ("everything is equal", SEEN, sent_again(), True),
    ("equal content without a photo", replace(SEEN, photos=frozenset()), sent_again(photos=frozenset()), True),
    ("an equal photo, worded anew", SEEN, sent_again(text="占道经营，已劝离", content=b"\x02"), True),
    ("equal content, pictures encoded anew", SEEN, sent_again(photos=frozenset({"x"}), dhashes=(ENCODED_ANEW,)), True),
    ("the clock is off by less than it says", SEEN, sent_again(minutes=1.9, occurred_error_ms=120_000), True),
    ("no position, the very moment", replace(SEEN, lon=None), sent_again(lon=None), True),
    ("another reading of the position, the very moment", SEEN, sent_again(metres=15), True),
    ("a name that was not told again", SEEN, sent_again(vendor={"phone": "10000012345"}, content=b"\x02"), True),
    ("another kind", SEEN, sent_again(kind="patrol"), False),
    ("another officer", SEEN, sent_again(officer_id=2), False),
    ("the same installation", SEEN, like(), False),
    (
        "neither photo nor content are equal",
        SEEN,
        sent_again(photos=frozenset({"x"}), dhashes=(), content=b"\x02"),
        False,
    ),
    ("nothing to be equal", SEEN, sent_again(photos=frozenset(), content=b""), False),
    ("equal content, other pictures", SEEN, sent_again(photos=frozenset({"x"}), dhashes=(ANOTHER,)), False),
    (
        "equal content, other photos that nobody has looked at",
        SEEN,
        sent_again(photos=frozenset({"x"}), dhashes=()),
        False,
    ),
    ("the times are farther apart than both are off", SEEN, sent_again(minutes=0.1), False),
    ("nobody knows when", SEEN, sent_again(occurred_error_ms=None), False),
    ("the places are farther apart than both are off", SEEN, sent_again(metres=25), False),
    (
        "within all errors, but neither the very moment nor the very fix",
        SEEN,
        sent_again(metres=5, minutes=1.5, occurred_error_ms=120_000),
        False,
    ),
    ("no position, and not the very moment", SEEN, sent_again(lon=None, minutes=1, occurred_error_ms=120_000), False),
    ("another phone", SEEN, sent_again(vendor={"phone": "10000054321"}), False),
    ("a digit of the phone off", SEEN, sent_again(vendor={"phone": "10000012346"}), False),
    ("the next stall", SEEN, sent_again(vendor={"stall": "A13"}), False),
    ("another name", SEEN, sent_again(vendor={"name": "李芳"}), False),
    ("another item", SEEN, sent_again(items=frozenset({"DEMO-SR-002"})), False),
    ("a warning of one incident", WARNING, sent_again(WARNING), True),
    ("a warning of another incident", WARNING, sent_again(WARNING, incident_id=identity(42)), False),
    ("a warning of no incident", replace(WARNING, incident_id=None), sent_again(WARNING, incident_id=None), False),
]


@pytest.mark.parametrize(("one", "other", "again"), [r[1:] for r in RESUBMISSIONS], ids=[r[0] for r in RESUBMISSIONS])
def test_a_record_is_another_sent_again_if_nothing_speaks_against_it(one: Sketch, other: Sketch, again: bool) -> None:
    assert is_resubmission(one, other) is again
    assert is_resubmission(other, one) is again


def test_a_warning_of_an_incident_that_was_sent_again_is_too() -> None:
    other = sent_again(WARNING, incident_id=identity(42))
    assert is_resubmission(WARNING, other, same_incident=True)
    assert not is_resubmission(WARNING, replace(other, officer_id=2), same_incident=True)


def test_of_every_ten_thousand_pairs_of_neighbours_none_is_grouped_by_itself() -> None:
    """One officer, a reinstalled app, rough clocks, one set phrase, one photo of all: stalls side by side."""
    bare = replace(SEEN, vendor={}, vendor_id=None, occurred_error_ms=600_000)
    stalls = [like(bare, id=identity(100 + n), metres=3.0 * n, minutes=0.5 * n) for n in range(100)]
    again = [sent_again(stall, id=identity(1_000 + n)) for n, stall in enumerate(stalls)]
    grouped = {(n, m) for n, one in enumerate(stalls) for m, other in enumerate(again) if is_resubmission(one, other)}
    assert grouped == {(n, n) for n in range(100)}
