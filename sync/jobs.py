"""Files that take long: asked for, written behind the requests, kept for a while, fetched by who asked for them.

Any number of processes may write side by side: each claims a job and says time and again how far it is. One that was
claimed and is not heard of was left by a process that died, and whoever comes next takes it. A file is kept in the
store under a key of its claim, so that two that write the same never meet.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from sync.models import ExportJob, SignedIn
from sync.problems import ExportsWaiting, NotFound
from sync.shapes import Columns, Json, instant
from sync.store import export_key

#: Whoever claimed a job and has not said for so long how far it is, is taken for dead.
CLAIM_HOLDS = dt.timedelta(minutes=2)
#: A job whose writing never ends takes processes with it: after so many claims it has failed.
MOST_CLAIMS = 3
#: Jobs of one account that are not finished.
MOST_WAITING = 5


def begin(
    session: Session,
    who: SignedIn,
    kind: str,
    ending: str,
    query: Mapping[str, str],
    *,
    until: dt.datetime,
    now: dt.datetime,
) -> uuid.UUID:
    """The id of a new job, which is forgotten at `until`. Raises ExportsWaiting if the account has too many."""
    mine = (ExportJob.account_id == who.account_id, ExportJob.ended_at.is_(None), ExportJob.expires_at > now)
    if (session.scalar(select(func.count()).where(*mine)) or 0) >= MOST_WAITING:
        raise ExportsWaiting(most=MOST_WAITING)
    id = uuid.uuid4()
    asked = {"id": id, "account_id": who.account_id, "kind": kind, "ending": ending, "query": dict(query)}
    session.execute(insert(ExportJob).values(**asked, created_at=now, expires_at=until, claims=0, records=0))
    return id


def one(session: Session, who: SignedIn, id: uuid.UUID, *, now: dt.datetime) -> Columns:
    """The job. Raises NotFound unless it is this account's and not expired."""
    asked = _columns().where(ExportJob.id == id, ExportJob.account_id == who.account_id, ExportJob.expires_at > now)
    found = session.execute(asked).one_or_none()
    if found is None:
        raise NotFound
    return found


def told(job: Columns) -> Json:
    """How a job stands: `waiting`, `writing`, `ready` or `failed`, and how far it is."""
    state = "failed" if job.failed else "ready" if job.ended_at else "writing" if job.claimed_at else "waiting"
    return {
        "id": str(job.id),
        "state": state,
        "records": job.records,
        "total": job.total,
        "bytes": job.size_bytes,
        "problem": job.failed,
        "created_at": instant(job.created_at),
        "ended_at": instant(job.ended_at),
        "expires_at": instant(job.expires_at),
    }


def _columns() -> Select[Any]:
    return select(*ExportJob.__table__.c)


# ---------------------------------------------------------------- writing


def claim(session: Session, *, now: dt.datetime) -> Columns | None:
    """The oldest job that nobody writes; `None` if there is none. The caller has begun a writing transaction."""
    free = select(ExportJob.id).where(_is_free(now)).order_by(ExportJob.created_at, ExportJob.id).limit(1)
    one = free.with_for_update(skip_locked=True).scalar_subquery()
    claimed = update(ExportJob).where(ExportJob.id == one, _is_free(now))
    mine = claimed.values(claimed_at=now, claims=ExportJob.claims + 1, records=0).returning(*ExportJob.__table__.c)
    return session.execute(mine.execution_options(synchronize_session=False)).one_or_none()


def _is_free(now: dt.datetime) -> ColumnElement[bool]:
    unclaimed = or_(ExportJob.claimed_at.is_(None), ExportJob.claimed_at < now - CLAIM_HOLDS)
    return ExportJob.ended_at.is_(None) & (ExportJob.expires_at > now) & (ExportJob.claims < MOST_CLAIMS) & unclaimed


def go_on(session: Session, job: Columns, *, now: dt.datetime, records: int, total: int | None = None) -> bool:
    """Whether the job is still this claim's; everybody knows how far it is."""
    far = {"claimed_at": now, "records": records} | ({} if total is None else {"total": total})
    return _became(session, job, far)


def put_back(session: Session, job: Columns) -> None:
    """Who claimed the job could not begin: it is nobody's again."""
    _became(session, job, {"claimed_at": None, "claims": job.claims - 1})


def finish(session: Session, job: Columns, *, now: dt.datetime, records: int, size_bytes: int, scope: bytes) -> bool:
    """Whether the file of this claim is the job's, for as long as the account sees what it saw (`scope`)."""
    done = {"ended_at": now, "records": records, "size_bytes": size_bytes, "scope": scope, "key": key_of(job)}
    return _became(session, job, done)


def fail(session: Session, job: Columns, code: str, *, now: dt.datetime) -> None:
    """The job can't be done, and says why."""
    _became(session, job, {"ended_at": now, "failed": code})


def _became(session: Session, job: Columns, values: Mapping[str, Any]) -> bool:
    same = (ExportJob.id == job.id, ExportJob.claims == job.claims, ExportJob.ended_at.is_(None))
    changed = update(ExportJob).where(*same).values(values).returning(ExportJob.id)
    return session.execute(changed.execution_options(synchronize_session=False)).first() is not None


def key_of(job: Columns) -> str:
    """Where the file of this claim is kept."""
    return export_key(f"{job.id.hex}-{job.claims}")


# ---------------------------------------------------------------- the end


def give_up(session: Session, *, now: dt.datetime) -> None:
    """Jobs whose writing never ended have failed."""
    over = (ExportJob.ended_at.is_(None), ExportJob.claims >= MOST_CLAIMS, ExportJob.claimed_at < now - CLAIM_HOLDS)
    session.execute(update(ExportJob).where(*over).values(ended_at=now, failed="internal"))


def forget(session: Session, *, now: dt.datetime) -> Sequence[str]:
    """Jobs that have expired exist no more; these are the keys of their files, to be dropped after the commit."""
    gone = delete(ExportJob).where(ExportJob.expires_at <= now).returning(ExportJob.key)
    return [key for (key,) in session.execute(gone) if key]
