"""Records as intake would leave them, for tests of the read side: each with exactly what the test is about."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync.models import (
    AnnouncedPhoto,
    Base,
    EnforcementItem,
    Incident,
    IncidentItem,
    Patrol,
    PatrolOfficer,
    SignedIn,
    Track,
    TrackBox,
    VendorWarning,
)
from sync.places import box_of
from tests.builders import GUALI

NOW = dt.datetime(2026, 11, 23, 8, 15, tzinfo=dt.UTC)


def make_patrol(session: Session, who: SignedIn, *, crew: Iterable[SignedIn] = (), **columns: Any) -> Patrol:
    """A patrol of this officer and the crew."""
    basis = {"officers": [who.username, *(member.username for member in crew)]}
    patrol = Patrol(**recorded(who) | basis | columns)
    _add(session, patrol)
    _add(session, *(PatrolOfficer(patrol_id=patrol.id, account_id=each.account_id) for each in {who, *crew}))
    return patrol


def make_incident(
    session: Session,
    patrol: Patrol,
    who: SignedIn,
    *,
    items: Sequence[str] = (),
    photos: Sequence[str] = (),
    **columns: Any,
) -> Incident:
    """An incident of the patrol: items are codes of `make_item`, undelegated; photos are SHA-256, announced only."""
    told = [{"sha256": sha256, "bytes": 3, "type": "image/jpeg", "role": "before"} for sha256 in photos]
    basis = {"patrol": patrol.id, "items": list(items), "measures": [], "parties": [], "photos": told}
    incident = Incident(**recorded(who) | basis | columns)
    _add(session, incident)
    for ordinal, code in enumerate(items):
        item = session.scalars(select(EnforcementItem).where(EnforcementItem.code == code)).one()
        _add(
            session,
            IncidentItem(incident_id=incident.id, ordinal=ordinal, item_code=code, item_id=item.id, referred_to="zhzf"),
        )
    for sha256 in photos:
        _add(session, AnnouncedPhoto(record_id=incident.id, sha256=sha256, officer_id=who.account_id, announced_at=NOW))
    return incident


def make_warning(session: Session, incident: Incident, who: SignedIn, **columns: Any) -> VendorWarning:
    """A warning that followed the incident."""
    warning = VendorWarning(**recorded(who) | {"incident": incident.id, "step": "education"} | columns)
    _add(session, warning)
    return warning


def make_track(
    session: Session, patrol: Patrol, who: SignedIn, way: Sequence[tuple[float, float]], **columns: Any
) -> Track:
    """A stretch of the patrol's way, as intake keeps it."""
    points = [[lon, lat, 1000 * n, 5.0] for n, (lon, lat) in enumerate(way)]
    basis = {"id": uuid.uuid4(), "patrol_id": patrol.id, "officer_id": who.account_id, "from_at": NOW}
    track = Track(**basis | {"points": points} | columns)
    _add(session, track)
    if len(points) > 1:
        sides = dict(zip(("west", "south", "east", "north"), box_of(points), strict=True))
        _add(session, TrackBox(track_id=track.id, patrol_id=patrol.id, **sides))
    return track


def recorded(who: SignedIn) -> dict[str, Any]:
    """The columns of every record, in 瓜沥镇, at NOW."""
    return {
        "id": uuid.uuid4(),
        "version": 1,
        "officer_id": who.account_id,
        "install_id": who.install_id,
        "received_at": NOW,
        "occurred_at": NOW,
        "occurred_error_ms": 180,
        "occurred_method": "mono",
        "fix": {"lon": 120.46, "lat": 30.18, "accuracy_m": 12, "crs": "wgs84"},
        "lon": 120.46,
        "lat": 30.18,
        "error_m": 12.0,
        "township": GUALI,
        "township_code": GUALI,
        "located_code": GUALI,
        "located": "inside",
        "located_candidates": [GUALI],
        "areas_edition": "demo",
        "photos": [],
        "notes": [],
        "note_codes": [],
    }


def _add(session: Session, *rows: Base) -> None:
    session.add_all(rows)
    session.flush()
