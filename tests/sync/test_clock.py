"""When something happened: the best evidence that is plausible, however wrong a phone's clocks are."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync.clock import (
    FUTURE_SLACK_MS,
    GNSS_ERROR_MS,
    OLDEST,
    WALL_ERROR_MS,
    WALL_OFFSET_ERROR_MS,
    Arrival,
    Occurred,
    Stamp,
    clock_notes,
    local_day,
    occurred,
)

ARRIVED = dt.datetime(2026, 11, 23, 8, 15, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
HOUR_MS = 3_600_000
TRANSIT_MS = 500
#: When the things of this page truly happened: three hours before they were sent.
TRUE = ARRIVED - 3 * HOUR
TEN_YEARS = dt.timedelta(days=3652)
#: An hour counts 144 ms of drift at 40 ppm.
DRIFT_MS_PER_HOUR = 144
LARGEST = 2**53 - 1


def stamp(true: dt.datetime, *, off: dt.timedelta = dt.timedelta(0), mono_ms: int | None = None, **more: Any) -> Stamp:
    """What a phone says of a moment; its wall clock is `off`."""
    return Stamp(wall=true + off, mono_ms=mono_ms, **more)


def arrival(**sent: Any) -> Arrival:
    return Arrival(ARRIVED, stamp(ARRIVED, **sent), TRANSIT_MS)


SENT = {"mono_ms": 9 * HOUR_MS, "boot": "7"}
WALL_OFFSET_MS = WALL_OFFSET_ERROR_MS + TRANSIT_MS

METHODS: list[tuple[str, Stamp, Arrival, Occurred]] = [
    (
        "same boot",
        stamp(TRUE, mono_ms=6 * HOUR_MS, boot="7"),
        arrival(**SENT),
        Occurred(TRUE, TRANSIT_MS + 3 * DRIFT_MS_PER_HOUR, "mono"),
    ),
    (
        "same boot, the wall clock ten years slow",
        stamp(TRUE, off=-TEN_YEARS, mono_ms=6 * HOUR_MS, boot="7"),
        arrival(off=-TEN_YEARS, **SENT),
        Occurred(TRUE, TRANSIT_MS + 3 * DRIFT_MS_PER_HOUR, "mono"),
    ),
    (
        "same boot, the wall clock set in between",
        stamp(TRUE, off=TEN_YEARS, mono_ms=6 * HOUR_MS, boot="7"),
        arrival(**SENT),
        Occurred(TRUE, TRANSIT_MS + 3 * DRIFT_MS_PER_HOUR, "mono"),
    ),
    (
        "a reboot between, with an anchor kept before",
        stamp(TRUE, off=-TEN_YEARS, mono_ms=6 * HOUR_MS, boot="7", anchor=(TRUE - HOUR, 5 * HOUR_MS)),
        arrival(mono_ms=60_000, boot="8"),
        Occurred(TRUE, TRANSIT_MS + DRIFT_MS_PER_HOUR, "anchor"),
    ),
    (
        "a reboot between, with an anchor kept later in the same boot",
        stamp(TRUE, off=-TEN_YEARS, mono_ms=6 * HOUR_MS, boot="7", anchor=(TRUE + HOUR, 7 * HOUR_MS)),
        arrival(mono_ms=60_000, boot="8"),
        Occurred(TRUE, TRANSIT_MS + DRIFT_MS_PER_HOUR, "anchor"),
    ),
    (
        "a reboot between, no anchor, satellites",
        stamp(TRUE, off=-TEN_YEARS, mono_ms=6 * HOUR_MS, boot="7", gnss=TRUE),
        arrival(mono_ms=60_000, boot="8"),
        Occurred(TRUE, GNSS_ERROR_MS, "gnss"),
    ),
    (
        "a reboot between and a wall clock ten years slow ever since",
        stamp(TRUE, off=-TEN_YEARS, mono_ms=6 * HOUR_MS, boot="7"),
        arrival(off=-TEN_YEARS, mono_ms=60_000, boot="8"),
        Occurred(TRUE, WALL_OFFSET_MS, "wall-offset"),
    ),
    (
        "a reboot between and a wall clock ten years fast ever since",
        stamp(TRUE, off=TEN_YEARS, mono_ms=6 * HOUR_MS, boot="7"),
        arrival(off=TEN_YEARS, mono_ms=60_000, boot="8"),
        Occurred(TRUE, WALL_OFFSET_MS, "wall-offset"),
    ),
    (
        "a wall clock set right before sending, far off when recording",
        stamp(TRUE, off=-TEN_YEARS),
        arrival(),
        Occurred(ARRIVED, None, "arrival"),
    ),
    ("nothing but the wall clock", stamp(TRUE), Arrival(ARRIVED, Stamp(), 0), Occurred(TRUE, WALL_ERROR_MS, "wall")),
    ("nothing at all", Stamp(), Arrival(ARRIVED, Stamp(), 0), Occurred(ARRIVED, None, "arrival")),
    (
        "the year 1970",
        Stamp(wall=dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
        Arrival(ARRIVED, Stamp(), 0),
        Occurred(ARRIVED, None, "arrival"),
    ),
    (
        "the year 2036",
        Stamp(wall=dt.datetime(2036, 2, 7, tzinfo=dt.UTC)),
        Arrival(ARRIVED, Stamp(), 0),
        Occurred(ARRIVED, None, "arrival"),
    ),
    (
        "satellites of 2006, a week number rolled over",
        Stamp(gnss=TRUE - dt.timedelta(weeks=1024), wall=TRUE),
        Arrival(ARRIVED, Stamp(), 0),
        Occurred(TRUE, WALL_ERROR_MS, "wall"),
    ),
    (
        "a count that ran backwards",
        stamp(TRUE, mono_ms=10 * HOUR_MS, boot="7", gnss=TRUE),
        arrival(**SENT),
        Occurred(TRUE, GNSS_ERROR_MS, "gnss"),
    ),
    (
        "a count a second ahead of the send is forgiven",
        stamp(ARRIVED, mono_ms=9 * HOUR_MS + 1_000, boot="7"),
        arrival(**SENT),
        Occurred(ARRIVED, TRANSIT_MS, "mono"),
    ),
    (
        "no boot said, neither then nor now",
        stamp(TRUE, mono_ms=6 * HOUR_MS),
        arrival(mono_ms=9 * HOUR_MS),
        Occurred(TRUE, WALL_OFFSET_MS, "wall-offset"),
    ),
    (
        "no count at sending",
        stamp(TRUE, mono_ms=6 * HOUR_MS, boot="7"),
        arrival(boot="7"),
        Occurred(TRUE, WALL_OFFSET_MS, "wall-offset"),
    ),
    (
        "counts as large as they get",
        stamp(TRUE, mono_ms=0, boot="7", gnss=TRUE),
        arrival(mono_ms=LARGEST, boot="7"),
        Occurred(TRUE, GNSS_ERROR_MS, "gnss"),
    ),
    (
        "an anchor beyond all reason",
        stamp(TRUE, mono_ms=LARGEST, boot="7", anchor=(dt.datetime.max.replace(tzinfo=dt.UTC), 0), gnss=TRUE),
        arrival(mono_ms=1, boot="8"),
        Occurred(TRUE, GNSS_ERROR_MS, "gnss"),
    ),
]


@pytest.mark.parametrize(("name", "what", "how", "when"), METHODS, ids=[case[0] for case in METHODS])
def test_the_best_plausible_evidence_wins(name: str, what: Stamp, how: Arrival, when: Occurred) -> None:
    assert occurred(what, how) == when


@pytest.mark.parametrize(
    ("ago", "believed"),
    [
        (OLDEST, True),
        (OLDEST + dt.timedelta(milliseconds=1), False),
        (dt.timedelta(milliseconds=-FUTURE_SLACK_MS), True),
        (dt.timedelta(milliseconds=-FUTURE_SLACK_MS - 1), False),
    ],
)
def test_a_year_back_is_believed_and_the_future_is_not(ago: dt.timedelta, believed: bool) -> None:
    found = occurred(Stamp(gnss=ARRIVED - ago), Arrival(ARRIVED, Stamp(), 0))
    assert found.method == ("gnss" if believed else "arrival")
    assert found.at <= ARRIVED


_instants = st.datetimes(timezones=st.just(dt.UTC)) | st.timedeltas(-3 * OLDEST, HOUR).map(ARRIVED.__add__)
_counts = st.integers(0, LARGEST) | st.integers(0, 10 * HOUR_MS)
_stamps = st.builds(
    Stamp,
    wall=st.none() | _instants,
    mono_ms=st.none() | _counts,
    boot=st.sampled_from([None, "7", "8"]),
    gnss=st.none() | _instants,
    anchor=st.none() | st.tuples(_instants, _counts),
)
FIRST, LAST = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)


@settings(max_examples=500, deadline=None)
@given(_stamps, _stamps, st.integers(0, 600_000))
@example(Stamp(FIRST, 0, "7", FIRST, (FIRST, LARGEST)), Stamp(LAST, LARGEST, "7"), 0)
@example(Stamp(LAST, LARGEST, "7", LAST, (LAST, 0)), Stamp(FIRST, 0, "7"), 0)
def test_whatever_the_clocks_say_an_instant_comes_out(what: Stamp, sent: Stamp, transit_ms: int) -> None:
    found = occurred(what, Arrival(ARRIVED, sent, transit_ms))
    assert ARRIVED - OLDEST <= found.at <= ARRIVED
    assert (found.error_ms is None) == (found.method == "arrival")
    assert found.error_ms is None or found.error_ms >= 0
    assert all(isinstance(note["code"], str) for note in clock_notes(what, found))
    assert abs(local_day(found.at) - found.at.date()) <= dt.timedelta(days=1)


@settings(deadline=None)
@given(st.timedeltas(-TEN_YEARS, TEN_YEARS), st.integers(0, 300 * 24 * HOUR_MS))
def test_with_one_boot_the_wall_clock_does_not_matter(off: dt.timedelta, ago_ms: int) -> None:
    happened = ARRIVED - dt.timedelta(milliseconds=ago_ms)
    sent = Arrival(ARRIVED, stamp(ARRIVED, off=off, mono_ms=LARGEST, boot="7"), TRANSIT_MS)
    found = occurred(stamp(happened, off=-off, mono_ms=LARGEST - ago_ms, boot="7"), sent)
    assert (found.at, found.method) == (happened, "mono")


NOTES: list[tuple[dt.timedelta | None, str, list[dict[str, Any]]]] = [
    (dt.timedelta(seconds=29.999), "mono", []),
    (dt.timedelta(seconds=-29.999), "mono", []),
    (dt.timedelta(seconds=30), "mono", [{"code": "clock-corrected", "off_ms": 30_000, "method": "mono"}]),
    (-HOUR, "gnss", [{"code": "clock-corrected", "off_ms": -HOUR_MS, "method": "gnss"}]),
    (None, "mono", []),
    (dt.timedelta(0), "arrival", [{"code": "clock-unknown"}]),
    (None, "arrival", [{"code": "clock-unknown"}]),
]


@pytest.mark.parametrize(("off", "method", "notes"), NOTES)
def test_a_clock_that_was_off_is_remarked(off: dt.timedelta | None, method: str, notes: Any) -> None:
    wall = None if off is None else TRUE + off
    assert clock_notes(Stamp(wall=wall), Occurred(TRUE, 1, method)) == notes


def test_how_far_a_phone_is_ahead_is_told() -> None:
    assert Arrival(ARRIVED, Stamp(wall=ARRIVED + HOUR), 0).offset_ms == HOUR_MS
    assert Arrival(ARRIVED, Stamp(wall=ARRIVED - HOUR), 0).offset_ms == -HOUR_MS
    assert Arrival(ARRIVED, Stamp(), 0).offset_ms is None


def test_a_day_is_a_day_in_xiaoshan() -> None:
    assert local_day(dt.datetime(2026, 11, 23, 15, 59, 59, tzinfo=dt.UTC)) == dt.date(2026, 11, 23)
    assert local_day(dt.datetime(2026, 11, 23, 16, 0, tzinfo=dt.UTC)) == dt.date(2026, 11, 24)
    assert local_day(dt.datetime(1990, 7, 1, 16, 0, tzinfo=dt.UTC)) == dt.date(1990, 7, 2)
