"""The access log as views write it: with the address that the request came from."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import request
from sqlalchemy.orm import Session

from sync import access_log
from sync.models import SignedIn


def enter(
    session: Session, who: SignedIn, action: str, entity: str, details: dict[str, Any], *, now: dt.datetime
) -> None:
    """The log says who does this, as soon as the view has committed."""
    access_log.enter(session, who, action, entity, details, address=request.remote_addr, now=now)
