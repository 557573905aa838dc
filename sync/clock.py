"""Decides: when something happened, and how sure that is.

A phone's wall clock is only a claim: it may be ten years off. Its monotonic clock counts truly between two moments of
one boot. So the best evidence is, in this order: `mono` (recorded and sent in the same boot: count back from the
arrival), `anchor` (a server's time the phone kept in the boot of the record), `gnss` (the satellites' time),
`wall-offset` (the wall clock corrected by how far off it was when sending), `wall`. The first that is plausible wins;
when none is, the arrival is all there is (`arrival`, without an error in ms: nobody knows).

Nothing here orders, decides who wins or expires anything. Errors in ms.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

#: Days are calendar days in Xiaoshan; China has had one zone and no summer time since 1991.
LOCAL_ZONE = dt.timezone(dt.timedelta(hours=8), "Asia/Shanghai")
#: A monotonic clock's drift: 20 ppm is a usual phone crystal, doubled for heat. ESTIMATE.
DRIFT_PPM = 40
#: How far GNSS time as an app sees it may be off, ms. ESTIMATE: the fix is up to a second old.
GNSS_ERROR_MS = 1_000
#: How far a corrected wall clock may be off, ms: it may have been set between record and sending. ESTIMATE.
WALL_OFFSET_ERROR_MS = 120_000
#: How far an unchecked wall clock may be off, ms. ESTIMATE.
WALL_ERROR_MS = 600_000
#: What nobody can measure of a request's way here, ms, beside what can. ESTIMATE: a bad mobile network.
UNSEEN_TRANSIT_MS = 500
#: An anchor that makes a request take longer than this is not believed, ms.
LONGEST_TRANSIT_MS = 3_600_000
#: Nothing recorded is later than its arrival; this much is forgiven, ms.
FUTURE_SLACK_MS = 5_000
#: A phone that was away for longer than this can't be believed by its clocks alone.
OLDEST = dt.timedelta(days=366)
#: A wall clock further off than this is remarked, ms.
CORRECTED_FROM_MS = 30_000

Note = dict[str, Any]
_MILLISECOND = dt.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a phone says of one moment. `anchor` is (server's time, the monotonic ms when it was received)."""

    wall: dt.datetime | None = None
    mono_ms: int | None = None
    boot: str | None = None
    gnss: dt.datetime | None = None
    anchor: tuple[dt.datetime, int] | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a batch arrived, what the phone's clocks said at sending, and how long it was under way at most, in ms."""

    at: dt.datetime
    sent: Stamp
    transit_ms: int

    @property
    def offset_ms(self) -> int | None:
        """How far the phone's wall clock is ahead of the server's, in ms; `None` if it sent no wall clock."""
        return None if self.sent.wall is None else (self.sent.wall - self.at) // _MILLISECOND


def arrived(at: dt.datetime, sent: Stamp, reading_ms: int) -> Arrival:
    """The arrival of a batch whose body took `reading_ms` to read.

    A server or proxy that collects the whole body first hands it on late and reads it at once; what a phone's anchor in
    `sent` says of the moment of sending shows that.
    """
    transit_ms = reading_ms
    if sent.anchor is not None and sent.mono_ms is not None:
        server_time, mono_ms = sent.anchor
        since_anchor_ms = (at - server_time) // _MILLISECOND
        under_way_ms = since_anchor_ms - (sent.mono_ms - mono_ms)
        transit_ms = max(transit_ms, under_way_ms) if under_way_ms <= LONGEST_TRANSIT_MS else transit_ms
    return Arrival(at, sent, transit_ms + UNSEEN_TRANSIT_MS)


@dataclass(frozen=True, slots=True)
class Occurred:
    """When it happened: `error_ms` is `None` when nobody can say how sure that is."""

    at: dt.datetime
    error_ms: int | None
    method: str


def occurred(stamp: Stamp, arrival: Arrival) -> Occurred:
    """When the stamped moment was, by the best evidence that is plausible."""
    for candidate in _candidates(stamp, arrival):
        if _plausible(candidate.at, arrival.at):
            return candidate if candidate.at <= arrival.at else replace(candidate, at=arrival.at)
    return Occurred(arrival.at, None, "arrival")


def _candidates(stamp: Stamp, arrival: Arrival) -> Iterator[Occurred]:
    sent = arrival.sent
    if stamp.mono_ms is not None:
        if stamp.boot is not None and stamp.boot == sent.boot and sent.mono_ms is not None:
            yield _counted("mono", arrival.at, stamp.mono_ms - sent.mono_ms, arrival.transit_ms)
        if stamp.anchor is not None:
            server_time, mono_ms = stamp.anchor
            yield _counted("anchor", server_time, stamp.mono_ms - mono_ms, arrival.transit_ms)
    if stamp.gnss is not None:
        yield Occurred(stamp.gnss, GNSS_ERROR_MS, "gnss")
    if stamp.wall is not None and arrival.offset_ms is not None:
        yield _shifted("wall-offset", stamp.wall, -arrival.offset_ms, WALL_OFFSET_ERROR_MS + arrival.transit_ms)
    if stamp.wall is not None:
        yield Occurred(stamp.wall, WALL_ERROR_MS, "wall")


def _counted(method: str, since: dt.datetime, elapsed_ms: int, error_ms: int) -> Occurred:
    return _shifted(method, since, elapsed_ms, error_ms + abs(elapsed_ms) * DRIFT_PPM // 1_000_000)


def _shifted(method: str, at: dt.datetime, by_ms: int, error_ms: int) -> Occurred:
    try:
        return Occurred(at + by_ms * _MILLISECOND, error_ms, method)
    except OverflowError:
        return Occurred(dt.datetime.max.replace(tzinfo=dt.UTC), error_ms, method)  # never plausible


def _plausible(at: dt.datetime, arrived_at: dt.datetime) -> bool:
    return arrived_at - OLDEST <= at <= arrived_at + FUTURE_SLACK_MS * _MILLISECOND


def counted_back(stamp: Stamp, mono_ms: int) -> Stamp:
    """The moment of the same boot when the monotonic clock showed `mono_ms`."""
    by = (mono_ms - (stamp.mono_ms or 0)) * _MILLISECOND
    return replace(stamp, mono_ms=mono_ms, wall=_moved(stamp.wall, by), gnss=_moved(stamp.gnss, by))


def _moved(instant: dt.datetime | None, by: dt.timedelta) -> dt.datetime | None:
    try:
        return instant and instant + by
    except OverflowError:
        return None  # no calendar has that day


def clock_notes(stamp: Stamp, when: Occurred) -> list[Note]:
    """Remarks on a clock that was off, with how far, or that told nothing."""
    if when.method == "arrival":
        return [{"code": "clock-unknown"}]
    if stamp.wall is None:
        return []
    off_ms = (stamp.wall - when.at) // _MILLISECOND
    if abs(off_ms) < CORRECTED_FROM_MS:
        return []
    return [{"code": "clock-corrected", "off_ms": off_ms, "method": when.method}]


def local_day(at: dt.datetime) -> dt.date:
    """The calendar day in Xiaoshan on which an instant falls."""
    return at.astimezone(LOCAL_ZONE).date()
