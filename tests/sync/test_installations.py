"""Phones: who looks after them, what they owe, what is declared lost, and permits to send what is left."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from sync import accounts, evidence, inbox, installations, intake, shapes
from sync.accounts import Claims, Counted, Throttle
from sync.installations import Selection
from sync.models import (
    Account,
    Desk,
    Installation,
    Loss,
    Operation,
    Permit,
    Posting,
    SignedIn,
    TokenFamily,
    begin_write,
)
from sync.problems import (
    DecidedMeanwhile,
    DecisionInvalid,
    EnvelopeInvalid,
    InstallRevoked,
    NotFound,
    PermitInvalid,
    QueryInvalid,
    SignInThrottled,
    TokenInvalid,
)
from tests.builders import YINONG, make_account, make_installation, make_lists, make_signed_in
from tests.counting import count_statements
from tests.sync.days import YARDSTICK, batch, outcomes, patrol, push

THROTTLE = Throttle(window=dt.timedelta(minutes=15), max_per_account=3, max_per_address=5)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def people(session: Session, officer: SignedIn) -> dict[str, SignedIn]:
    """Who may look: a supervisor of the officer's township and one of another, and those of the district."""
    found = {role: make_signed_in(session, username=role, role=role) for role in ("supervisor", "reviewer", "admin")}
    found["elsewhere"] = make_signed_in(session, username="elsewhere", role="supervisor", townships=[YINONG])
    session.commit()
    return found


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [patrol() | {"n": n} for n in numbers]


def says(session: Session, who: SignedIn, now: dt.datetime, *numbers: int, **parts: Any) -> Any:
    """The receipt of a batch with these counters."""
    return push(session, who, batch(who, *numbered(*numbers), **parts), now)


def told(session: Session, who: SignedIn, install_id: Any, now: dt.datetime) -> Any:
    session.rollback()
    found = orjson.loads(orjson.dumps(installations.one(session, who, install_id, now=now)))
    assert shapes.InstallationDocument().validate(found) == {}
    return found


def listed(session: Session, who: SignedIn, now: dt.datetime, **asked: Any) -> set[str]:
    session.rollback()
    page = installations.page(session, who, Selection(**asked), limit=500, cursor=None, now=now)
    return {item["id"] for item in page.items}


def in_inbox(session: Session, who: SignedIn, now: dt.datetime) -> list[str]:
    session.rollback()
    page = inbox.page(session, who, "holes", YARDSTICK, limit=50, cursor=None, now=now)
    assert page.counts["holes"] == len(page.items)
    return [item["id"] for item in page.items]


def writing(session: Session, doing: Callable[[], Any]) -> Any:
    session.rollback()
    begin_write(session)
    try:
        done = doing()
    except Exception:
        session.rollback()
        raise
    session.commit()
    return done


def lose(session: Session, who: SignedIn, install_id: Any, ranges: list[list[int]], now: dt.datetime) -> Any:
    said = {"ranges": ranges, "reason": "手机摔坏"}
    return writing(session, lambda: installations.declare_lost(session, who, install_id, said, now=now))


# ---------------------------------------------------------------- what phones owe

#: (counters that arrive, next_n, unsent) one after the other; then holes, unsent.
OWES = {
    "nothing": ([([1, 2], 3, [])], [], []),
    "a hole": ([([1, 3], 4, [])], [[2, 2]], []),
    "a queue": ([([1], 6, [[2, 5]])], [], [[2, 5]]),
    "both": ([([2], 6, [[4, 5]])], [[1, 1], [3, 3]], [[4, 5]]),
    "a hole that came after all": ([([1, 3], 4, []), ([2], 4, [])], [], []),
    "a queue that went out": ([([1], 3, [[2, 2]]), ([2], 3, [])], [], []),
    "an old batch that was long under way": ([([3], 6, [[4, 5]]), ([1, 2], 3, [])], [], [[4, 5]]),
    "what is declared twice": ([([1], 4, [[2, 3], [3, 3]])], [], [[2, 3]]),
    "what has not been made yet": ([([1], 2, [[2, 9_007_199_254_740_991]])], [], []),
}


@pytest.mark.parametrize("name", OWES)
def test_a_phone_owes_what_it_counted_and_never_sent(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime, name: str
) -> None:
    batches, gone, unsent = OWES[name]
    for numbers, next_n, declared in batches:
        says(session, officer, now, *numbers, next_n=next_n, unsent=declared)
    phone = told(session, people["supervisor"], officer.install_id, now)
    assert (phone["holes"]["ranges"], phone["unsent"]["ranges"]) == (gone, unsent)
    assert (phone["holes"]["since"] is not None, phone["unsent"]["since"] is not None) == (bool(gone), bool(unsent))
    assert phone["unsent"]["count"] == sum(last - first + 1 for first, last in unsent)
    own = str(officer.install_id)
    assert (own in listed(session, people["supervisor"], now, holes=True)) == bool(gone)
    assert (own in listed(session, people["supervisor"], now, unsent=True)) == bool(unsent)
    assert (own in in_inbox(session, people["supervisor"], now)) == bool(gone)


def test_a_hole_is_as_old_as_it_was_first_seen(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    says(session, officer, now - 3 * DAY, 1, 3)
    says(session, officer, now - 2 * DAY, 5)
    assert told(session, people["supervisor"], officer.install_id, now)["holes"] == {
        "count": 2,
        "ranges": [[2, 2], [4, 4]],
        "since": shapes.instant(now - 3 * DAY),
    }
    says(session, officer, now - DAY, 2, 4, next_n=6)
    says(session, officer, now, 7, next_n=8)
    phone = told(session, people["supervisor"], officer.install_id, now)
    assert phone["holes"]["since"] == shapes.instant(now)
    assert (phone["last_sync_at"], phone["next_n"], phone["app"]) == (shapes.instant(now), 8, "3.2.1")


def test_a_batch_takes_no_more_statements_for_what_the_phone_owes(
    session: Session, engine: Engine, officer: SignedIn, now: dt.datetime
) -> None:
    says(session, officer, now, 1)
    counts = set()
    for numbers, parts in (((2,), {}), ((5,), {}), ((6,), {"next_n": 9, "unsent": [[7, 8]]})):
        with count_statements(engine) as counted:
            says(session, officer, now, *numbers, **parts)
        counts.add(counted.statements)
    assert len(counts) == 1


# ---------------------------------------------------------------- possible loss


@pytest.mark.parametrize(
    ("unsent", "revoked", "newer_days", "lost"),
    [
        (True, False, None, False),
        (False, True, None, False),
        (True, True, None, True),
        (True, False, 1, True),  # a newer phone, made after this one was last heard of
        (True, False, -1, False),  # a second phone that there was before
        (False, False, 1, False),
    ],
)
def test_a_phone_out_of_use_may_have_taken_what_it_declared_unsent(
    session: Session,
    officer: SignedIn,
    people: dict[str, SignedIn],
    now: dt.datetime,
    unsent: bool,
    revoked: bool,
    newer_days: int | None,
    lost: bool,
) -> None:
    says(session, officer, now - 2 * DAY, 1, next_n=3, unsent=[[2, 2]] if unsent else [])
    says(session, officer, now - 2 * DAY, *([] if unsent else [2]), next_n=3, unsent=[[2, 2]] if unsent else [])
    if revoked:
        writing(session, lambda: accounts.revoke_installation(session, officer.install_id, now=now))  # type: ignore[arg-type]
    if newer_days is not None:
        newer = make_installation(session, session.get_one(Account, officer.account_id))
        newer.created_at = now - 2 * DAY + newer_days * DAY
        session.commit()
    supervisor, own = people["supervisor"], str(officer.install_id)
    assert told(session, supervisor, officer.install_id, now)["possible_loss"] is lost
    assert (own in listed(session, supervisor, now, possible_loss=True)) is lost
    assert (own in listed(session, supervisor, now, possible_loss=False)) is not lost
    assert (own in in_inbox(session, supervisor, now)) is lost
    if lost:
        lose(session, supervisor, officer.install_id, [[2, 2]], now)
        assert in_inbox(session, supervisor, now) == []
    else:
        with pytest.raises(DecidedMeanwhile):
            lose(session, supervisor, officer.install_id, [[2, 2]], now)


# ---------------------------------------------------------------- who looks after them


def test_a_supervisor_looks_after_phones_that_officers_posted_there_signed_in_on(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    other = make_signed_in(session, username="other", townships=[YINONG])
    begin_family(session, other.account_id, officer.install_id)  # the officer's phone was handed on once
    desk = make_installation(session, session.get_one(Account, people["supervisor"].account_id))
    session.add(Desk(account_id=people["supervisor"].account_id, install_id=desk.id))  # no phone
    session.commit()
    seen = {name: listed(session, who, now) for name, who in people.items()}
    everyone = {str(who.install_id) for who in (officer, other, *people.values())}
    assert seen["admin"] == seen["reviewer"] == everyone
    assert seen["supervisor"] == {str(people[n].install_id) for n in ("supervisor", "reviewer", "admin")} | {
        str(officer.install_id)
    }
    assert seen["elsewhere"] == {str(who.install_id) for who in (people["elsewhere"], other, officer)}
    names = told(session, people["elsewhere"], officer.install_id, now)["officers"]
    assert [name["username"] for name in names] == ["officer", "other"]
    session.execute(update(Posting).values(until_on=(now - DAY).date()))
    session.commit()
    assert listed(session, people["supervisor"], now) == set()
    with pytest.raises(NotFound):
        installations.one(session, people["supervisor"], officer.install_id, now=now)  # type: ignore[arg-type]


def begin_family(session: Session, account_id: int, install_id: Any) -> None:
    family = {"id": uuid.uuid4(), "account_id": account_id, "install_id": install_id, "generation": 1}
    session.add(TokenFamily(**family, created_at=dt.datetime(2026, 1, 5, tzinfo=dt.UTC)))
    session.flush()


def test_phones_are_filtered_and_paged(
    session: Session, engine: Engine, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    account = session.get_one(Account, officer.account_id)
    made = [make_installation(session, account) for _ in range(5)]
    for days, phone in enumerate(made):
        phone.created_at = now - days * DAY
        phone.last_sync_at = now - days * DAY if days else None
        phone.revoked_at = now if days == 3 else None
    session.commit()
    ids = [str(phone.id) for phone in made]
    admin = people["admin"]
    assert listed(session, admin, now, officer="officer") == {*ids, str(officer.install_id)}
    assert listed(session, admin, now, officer="nobody") == set()
    assert listed(session, admin, now, revoked=True) == {ids[3]}
    silent = listed(session, admin, now, officer="officer", silent_since=now - 2 * DAY, revoked=False)
    assert silent == {ids[0], ids[4], str(officer.install_id)}
    asked, cursor, found, statements = Selection(officer="officer"), None, [], set()
    for _ in range(3):
        session.rollback()
        with count_statements(engine) as counted:
            page = installations.page(session, admin, asked, limit=2, cursor=cursor, now=now)
        statements.add(counted.statements)
        found += [item["id"] for item in page.items]
        cursor = page.next
    assert (found, cursor, statements) == ([*ids, str(officer.install_id)], None, {2})
    first = installations.page(session, admin, asked, limit=2, cursor=None, now=now).next
    with pytest.raises(QueryInvalid):
        installations.page(session, admin, Selection(), limit=2, cursor=first, now=now)


def test_the_inbox_lists_phones_oldest_first_in_as_many_statements_as_ever(
    session: Session, engine: Engine, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    account = session.get_one(Account, officer.account_id)
    phones = [replace(officer, install_id=make_installation(session, account).id) for _ in range(3)]
    session.commit()
    for days, phone in enumerate(phones):
        says(session, phone, now - days * DAY, 2)
    expected = [str(phone.install_id) for phone in reversed(phones)]
    assert in_inbox(session, people["supervisor"], now) == in_inbox(session, people["reviewer"], now) == expected
    assert in_inbox(session, people["elsewhere"], now) == []
    found, cursor, statements = [], None, set()
    for limit in (1, 2):
        session.rollback()
        with count_statements(engine) as counted:
            page = inbox.page(session, people["reviewer"], "holes", YARDSTICK, limit=limit, cursor=cursor, now=now)
        statements.add(counted.statements)
        found, cursor = found + [item["id"] for item in page.items], page.next
    assert (found, cursor, statements) == (expected, None, {3})


# ---------------------------------------------------------------- declared lost


def test_what_is_declared_lost_is_waited_for_no_more_and_taken_all_the_same(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    says(session, officer, now, 1, 4, 6)
    supervisor = people["supervisor"]
    phone = lose(session, supervisor, officer.install_id, [[3, 3], [5, 5]], now)
    assert (phone["holes"]["ranges"], phone["lost"]["count"]) == ([[2, 2]], 2)
    assert in_inbox(session, supervisor, now) == [str(officer.install_id)]
    lose(session, supervisor, officer.install_id, [[2, 2]], now + HOUR)
    assert in_inbox(session, supervisor, now) == []
    receipt = says(session, officer, now, 3, next_n=7)
    assert outcomes(receipt) == ["applied"]
    assert receipt["holes"] == [[2, 2], [5, 5]]  # the phone is told what the server has not
    losses = session.scalars(select(Loss).order_by(Loss.at)).all()
    assert [(loss.ranges, loss.reason, loss.account_id) for loss in losses] == [
        ([[3, 3], [5, 5]], "手机摔坏", supervisor.account_id),
        ([[2, 2]], "手机摔坏", supervisor.account_id),
    ]
    says(session, officer, now, 9)
    assert told(session, supervisor, officer.install_id, now)["holes"]["ranges"] == [[7, 8]]


@pytest.mark.parametrize(
    ("ranges", "refused"),
    [
        ([[1, 1]], DecidedMeanwhile),  # it came
        ([[2, 3]], DecidedMeanwhile),  # one of the two did
        ([[5, 5]], DecidedMeanwhile),  # the phone says that it has it
        ([[6, 6]], DecidedMeanwhile),  # not made yet
        ([[2, 2], [2**53 - 1, 2**53 - 1]], DecidedMeanwhile),
        ([[3, 2]], EnvelopeInvalid),
    ],
)
def test_only_what_is_missing_is_declared_lost(
    session: Session,
    officer: SignedIn,
    people: dict[str, SignedIn],
    now: dt.datetime,
    ranges: list[list[int]],
    refused: type[Exception],
) -> None:
    says(session, officer, now, 1, 3, 4, next_n=6, unsent=[[5, 5]])
    with pytest.raises(refused):
        lose(session, people["supervisor"], officer.install_id, ranges, now)
    assert session.scalars(select(Loss)).all() == []


def test_a_phone_of_others_is_not_there(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    says(session, officer, now, 2)
    for install_id in (officer.install_id, uuid.uuid4()):
        with pytest.raises(NotFound):
            lose(session, people["elsewhere"], install_id, [[1, 1]], now)


@pytest.mark.parametrize("tampering", [update(Loss).values(reason="x"), delete(Loss)], ids=["other words", "gone"])
def test_what_was_declared_lost_is_sworn_to(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime, tampering: Any
) -> None:
    says(session, officer, now, 2)
    lose(session, people["supervisor"], officer.install_id, [[1, 1]], now)
    assert list(evidence.verify(session))
    session.rollback()
    writing(session, lambda: session.execute(tampering))
    with pytest.raises(evidence.Break):
        list(evidence.verify(session))


# ---------------------------------------------------------------- a phone handed to another officer


def test_what_two_officers_send_from_one_phone_stays_theirs_and_neithers_is_a_hole(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    other = replace(make_signed_in(session, username="other"), install_id=officer.install_id)
    session.commit()
    first, second = numbered(1, 2), numbered(3, 4)
    own, theirs = batch(officer, first[0], next_n=3, unsent=[[2, 2]]), batch(other, *second, next_n=5, unsent=[[2, 2]])
    assert push(session, officer, own, now)["holes"] == []
    assert push(session, other, theirs, now)["holes"] == []
    assert in_inbox(session, people["supervisor"], now) == []
    assert push(session, officer, batch(officer, first[1], next_n=5), now)["holes"] == []
    assert told(session, people["supervisor"], officer.install_id, now)["unsent"]["count"] == 0
    sent = dict(session.execute(select(Operation.n, Operation.officer_id)).all())
    assert sent == {1: officer.account_id, 2: officer.account_id, 3: other.account_id, 4: other.account_id}
    for who, numbers in ((officer, [1, 2]), (other, [3, 4])):
        held = intake.operations(session, who, officer.install_id, 1, 9, YARDSTICK)  # type: ignore[arg-type]
        assert [each["n"] for each in held] == numbers
    with pytest.raises(NotFound):
        intake.receipt(session, other, uuid.UUID(own["batch"]), YARDSTICK)


def test_a_batch_id_that_another_officer_used_on_the_phone_mixes_no_receipts(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    other = replace(make_signed_in(session, username="other"), install_id=officer.install_id)
    session.commit()
    (mine,), (theirs,) = numbered(1), numbered(2)
    first = batch(officer, mine)
    push(session, officer, first, now)
    assert outcomes(push(session, other, batch(other, theirs, batch=first["batch"]), now)) == ["applied"]
    again = intake.receipt(session, officer, uuid.UUID(first["batch"]), YARDSTICK)
    assert [result["op"] for result in again["results"]] == [mine["op"]]


# ---------------------------------------------------------------- permits


def permit(session: Session, who: SignedIn, install_id: Any, now: dt.datetime, username: str | None = None) -> Any:
    return writing(session, lambda: accounts.issue_permit(session, who, install_id, username, "停用", now=now))


def use(session: Session, install_id: Any, code: str, now: dt.datetime, address: str = "10.0.0.1") -> accounts.Grant:
    counted = writing(session, lambda: accounts.begin_permit(session, install_id, address, THROTTLE, now=now))
    return writing(session, lambda: accounts.use_permit(session, counted, install_id, code, now=now))  # type: ignore[no-any-return]


def claims(grant: accounts.Grant) -> Claims:
    return Claims(grant.who.account_id, grant.who.install_id, grant.family_id, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("who", "username", "found"),
    [
        ("supervisor", None, True),
        ("supervisor", "officer", True),
        ("supervisor", "Officer ", True),
        ("supervisor", "other", False),  # posted elsewhere
        ("supervisor", "partner", False),  # never signed in on this phone
        ("supervisor", "reviewer", False),  # signed in there, and sends nothing
        ("elsewhere", None, False),
        ("elsewhere", "other", True),
        ("reviewer", "other", True),
        ("admin", None, True),
    ],
)
def test_a_permit_is_for_an_officer_of_ones_own_who_signed_in_there(
    session: Session,
    officer: SignedIn,
    people: dict[str, SignedIn],
    now: dt.datetime,
    who: str,
    username: str | None,
    found: bool,
) -> None:
    other = make_signed_in(session, username="other", townships=[YINONG])
    for account_id in (other.account_id, people["reviewer"].account_id):
        begin_family(session, account_id, officer.install_id)
    session.commit()
    if not found:
        with pytest.raises(NotFound):
            permit(session, people[who], officer.install_id, now, username)
        return
    issued = permit(session, people[who], officer.install_id, now, username)
    grant = use(session, officer.install_id, issued.code, now)
    assert grant.who.username == issued.username == (username or "officer").strip().lower()
    row = session.scalars(select(Permit)).one()
    assert (row.issued_by, row.reason, row.family_id) == (people[who].account_id, "停用", grant.family_id)
    assert issued.code.replace("-", "").encode() not in row.code_hash


STATES = {
    "the account is disabled": lambda session, who, now: accounts.disable(session, who.username, now=now),
    "the password was changed": lambda session, who, now: accounts.set_password(
        session, who.username, "x" * 9, now=now
    ),
    "nothing": lambda session, who, now: None,
}


@pytest.mark.parametrize("state", STATES)
def test_a_permit_is_a_sign_in_for_sending_until_two_hours_are_over(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime, state: str
) -> None:
    writing(session, lambda: STATES[state](session, officer, now))
    issued = permit(session, people["supervisor"], officer.install_id, now)
    grant = use(session, officer.install_id, issued.code.lower().replace("-", " "), now + 23 * HOUR)
    assert grant.push_until_at == now + 25 * HOUR
    assert accounts.signed_in(session, claims(grant), now=now + 25 * HOUR - dt.timedelta(seconds=1)) == grant
    with pytest.raises(TokenInvalid):
        accounts.signed_in(session, claims(grant), now=now + 25 * HOUR)


WRONG: dict[str, tuple[type[Exception], Callable[..., Any]]] = {
    "another code": (PermitInvalid, lambda s, who, code, now: use(s, who.install_id, "AAAA-AAAA-AAAA", now)),
    "no text that can be kept": (PermitInvalid, lambda s, who, code, now: use(s, who.install_id, "\ud800\0", now)),
    "another phone": (PermitInvalid, lambda s, who, code, now: use(s, uuid.uuid4(), code, now)),
    "too late": (PermitInvalid, lambda s, who, code, now: use(s, who.install_id, code, now + 24 * HOUR)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_permit_is_good_for_its_phone_and_its_day(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime, name: str
) -> None:
    issued = permit(session, people["supervisor"], officer.install_id, now)
    refused, using = WRONG[name]
    with pytest.raises(refused):
        using(session, officer, issued.code, now)
    assert use(session, officer.install_id, issued.code, now).who.username == "officer"


def test_a_permit_is_used_once_and_another_takes_its_place(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    first = permit(session, people["supervisor"], officer.install_id, now)
    second = permit(session, people["admin"], officer.install_id, now)
    assert first.code != second.code
    with pytest.raises(PermitInvalid):
        use(session, officer.install_id, first.code, now)
    grant = use(session, officer.install_id, second.code, now)
    with pytest.raises(PermitInvalid):
        use(session, officer.install_id, second.code, now)
    assert accounts.signed_in(session, claims(grant), now=now) == grant


def test_of_many_that_use_one_permit_at_once_exactly_one_gets_in(
    engine: Engine, session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    code = permit(session, people["supervisor"], officer.install_id, now).code
    ready = threading.Barrier(4)

    def go(_: int) -> bool:
        with Session(engine) as own:
            ready.wait()
            counted = Counted(f"permit {officer.install_id}", "address x")
            try:
                writing(own, lambda: accounts.use_permit(own, counted, officer.install_id, code, now=now))  # type: ignore[arg-type]
            except PermitInvalid:
                return False
            return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(go, range(4))) == 1


def test_a_revoked_phone_gets_no_permit_and_loses_those_it_has(
    session: Session, officer: SignedIn, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    grant = use(session, officer.install_id, permit(session, people["admin"], officer.install_id, now).code, now)
    unused = permit(session, people["supervisor"], officer.install_id, now).code
    writing(session, lambda: accounts.revoke_installation(session, officer.install_id, now=now))  # type: ignore[arg-type]
    with pytest.raises(InstallRevoked):
        accounts.signed_in(session, claims(grant), now=now)
    with pytest.raises(InstallRevoked):
        use(session, officer.install_id, unused, now)
    with pytest.raises(DecisionInvalid):
        permit(session, people["admin"], officer.install_id, now)
    first = session.get_one(Installation, officer.install_id).revoked_at
    writing(session, lambda: accounts.revoke_installation(session, officer.install_id, now=now + DAY))  # type: ignore[arg-type]
    assert session.get_one(Installation, officer.install_id).revoked_at == first == now


@pytest.mark.parametrize(("addresses", "tries"), [(["a"] * 4, 3), ([str(i) for i in range(4)], 3)])
def test_guesses_at_a_permit_are_counted_by_phone_and_by_address(
    session: Session, officer: SignedIn, now: dt.datetime, addresses: list[str], tries: int
) -> None:
    for address in addresses[:tries]:
        with pytest.raises(PermitInvalid):
            use(session, officer.install_id, "AAAA", now, address)
    with pytest.raises(SignInThrottled):
        use(session, officer.install_id, "AAAA", now, addresses[-1])
    for _ in range(4 if addresses[0] == "a" else 0):
        with pytest.raises((PermitInvalid, SignInThrottled)):
            use(session, uuid.uuid4(), "AAAA", now, "a")
    if addresses[0] == "a":
        with pytest.raises(SignInThrottled):
            use(session, uuid.uuid4(), "AAAA", now, "a")
