"""Accounts and signing in, on a bare session."""

from __future__ import annotations

import datetime as dt
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sync import accounts
from sync.models import Account, Desk, Installation, Posting, SignInFailures, TokenFamily, begin_write
from sync.problems import (
    AccountDisabled,
    AccountInvalid,
    BadCredentials,
    InstallRevoked,
    NotFound,
    SignInThrottled,
    TokenInvalid,
)
from tests.builders import GUALI, YINONG, make_townships
from tests.counting import count_statements

PASSWORD = "correct horse battery"
PHONE = uuid.UUID("0b5c1d52-6d7e-4c59-9c5b-3f4d1f6f0a01")
THROTTLE = accounts.Throttle(dt.timedelta(minutes=15), max_per_account=3, max_per_address=5)


@pytest.fixture
def officer(session: Session, now: dt.datetime) -> str:
    begin_write(session)
    make_townships(session)
    accounts.add(session, "Wang", PASSWORD, full_name="王", role="officer", townships=[GUALI], now=now)
    session.commit()
    return "wang"


def begin(session: Session, username: str, now: dt.datetime, address: str = "10.0.0.1") -> accounts.Attempt:
    begin_write(session)
    attempt = accounts.begin_sign_in(session, username, address, THROTTLE, now=now)
    session.commit()
    return attempt


def sign_in(session: Session, username: str, now: dt.datetime, install: uuid.UUID = PHONE) -> accounts.Grant:
    attempt = begin(session, username, now)
    accounts.check_password(attempt, PASSWORD)
    begin_write(session)
    grant = accounts.sign_in(session, attempt, install, "3.2.1", now=now)
    session.commit()
    return grant


def fail(session: Session, username: str, now: dt.datetime, address: str = "10.0.0.1") -> None:
    attempt = begin(session, username, now, address)
    with pytest.raises(BadCredentials):
        accounts.check_password(attempt, "wrong")


def claims(grant: accounts.Grant, generation: int | None = None) -> accounts.Claims:
    assert grant.who.install_id is not None
    return accounts.Claims(grant.who.account_id, grant.who.install_id, grant.family_id, generation)


def refresh(session: Session, grant: accounts.Grant, generation: int, now: dt.datetime) -> accounts.Grant | None:
    begin_write(session)
    try:
        return accounts.refresh(session, claims(grant, generation), now=now)
    finally:
        session.commit()


def test_a_sign_in_says_who_it_is_and_where_they_work(session: Session, officer: str, now: dt.datetime) -> None:
    grant = sign_in(session, " WANG ", now)
    assert (grant.who.username, grant.who.role, grant.who.townships) == ("wang", "officer", {GUALI})
    assert (grant.full_name, grant.generation, grant.who.install_id) == ("王", 1, PHONE)
    installation = session.get_one(Installation, PHONE)
    assert (installation.received, installation.unsent, installation.next_n) == ([], [], 1)
    assert installation.app == "3.2.1"


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": "wang"},
        {"username": "two words"},
        {"username": ""},
        {"role": "user"},
        {"password": "short"},
        {"townships": ["999999999"]},
    ],
    ids=str,
)
def test_an_account_that_makes_no_sense_is_not_made(
    session: Session, officer: str, now: dt.datetime, wrong: dict[str, object]
) -> None:
    given = {"username": "li", "password": PASSWORD, "full_name": "李", "role": "officer", "now": now} | wrong
    begin_write(session)
    with pytest.raises(AccountInvalid):
        accounts.add(session, **given)  # type: ignore[arg-type]
    assert session.scalar(select(func.count()).select_from(Account)) == 1


def test_only_postings_of_today_count_and_today_is_in_xiaoshan(session: Session, officer: str) -> None:
    late_on_the_23rd_in_london = dt.datetime(2026, 11, 23, 16, 30, tzinfo=dt.UTC)
    begin_write(session)
    posting = session.scalars(select(Posting)).one()
    posting.until_on = dt.date(2026, 11, 23)
    session.add(Posting(account_id=posting.account_id, township_code=YINONG, from_on=dt.date(2026, 11, 24)))
    session.commit()
    assert sign_in(session, officer, late_on_the_23rd_in_london).who.townships == {YINONG}


def test_an_unknown_name_and_a_wrong_password_get_the_same_answer_after_the_same_work(
    session: Session, officer: str, now: dt.datetime
) -> None:
    known, unknown = begin(session, officer, now), begin(session, "nobody", now)
    for attempt in (known, unknown):
        with pytest.raises(BadCredentials):
            accounts.check_password(attempt, "wrong")
    assert known.password_hash.rsplit("$", 2)[0] == unknown.password_hash.rsplit("$", 2)[0]


def test_a_name_that_failed_too_often_waits_for_the_end_of_the_window(
    session: Session, officer: str, now: dt.datetime
) -> None:
    for _ in range(3):
        fail(session, officer, now)
    later = now + dt.timedelta(minutes=5)
    with pytest.raises(SignInThrottled) as throttled:
        begin(session, officer, later, "10.0.0.2")
    session.rollback()
    assert throttled.value.details == {"retry_after_s": 600}
    sign_in(session, officer, now + dt.timedelta(minutes=15))


def test_an_address_that_failed_too_often_waits_whatever_name_it_tries(
    session: Session, officer: str, now: dt.datetime
) -> None:
    for i in range(5):
        fail(session, f"guess{i}", now)
    with pytest.raises(SignInThrottled):
        begin(session, officer, now)


def test_signing_in_clears_the_name_but_gives_the_address_only_its_own_attempt_back(
    session: Session, officer: str, now: dt.datetime
) -> None:
    fail(session, officer, now)
    fail(session, officer, now)
    sign_in(session, officer, now)
    assert dict(session.execute(select(SignInFailures.key, SignInFailures.failures)).all()) == {"address 10.0.0.1": 2}


def test_windows_that_are_over_are_forgotten(session: Session, officer: str, now: dt.datetime) -> None:
    fail(session, "somebody", now, "10.0.0.9")
    fail(session, officer, now + dt.timedelta(hours=1))
    assert set(session.scalars(select(SignInFailures.key))) == {"account wang", "address 10.0.0.1"}


def test_many_guesses_at_once_do_not_outrun_the_count(engine: Engine, officer: str, now: dt.datetime) -> None:
    def guess(_: int) -> bool:
        with Session(engine) as session:
            try:
                begin(session, officer, now)
            except SignInThrottled:
                return False
            return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(guess, range(12))) == 3


def test_a_throttled_name_does_not_trouble_a_phone_that_is_signed_in(
    session: Session, officer: str, now: dt.datetime
) -> None:
    grant = sign_in(session, officer, now)
    for _ in range(3):
        fail(session, officer, now)
    assert accounts.signed_in(session, claims(grant), now=now).who == grant.who
    session.rollback()
    assert refresh(session, grant, 1, now) == replace(grant, generation=2)


def test_a_refresh_token_is_good_once_and_using_it_again_ends_the_sign_in(
    session: Session, officer: str, now: dt.datetime
) -> None:
    grant = sign_in(session, officer, now)
    assert refresh(session, grant, 1, now) == replace(grant, generation=2)
    assert refresh(session, grant, 1, now) is None
    with pytest.raises(TokenInvalid):
        refresh(session, grant, 2, now)
    with pytest.raises(TokenInvalid):
        accounts.signed_in(session, claims(grant), now=now)
    assert session.scalars(select(TokenFamily.ended_because)).all() == ["token-reused"]


def test_of_many_that_use_one_refresh_token_at_once_exactly_one_gets_the_next(
    engine: Engine, session: Session, officer: str, now: dt.datetime
) -> None:
    grant = sign_in(session, officer, now)

    def use(_: int) -> bool:
        with Session(engine) as own:
            try:
                return refresh(own, grant, 1, now) is not None
            except TokenInvalid:
                return False

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(use, range(6))) == 1


def test_signing_in_again_on_a_phone_ends_its_earlier_sign_in_but_not_that_of_another_phone(
    session: Session, officer: str, now: dt.datetime
) -> None:
    first, elsewhere = sign_in(session, officer, now), sign_in(session, officer, now, uuid.uuid4())
    again = sign_in(session, officer, now)
    with pytest.raises(TokenInvalid):
        accounts.signed_in(session, claims(first), now=now)
    for grant in (elsewhere, again):
        assert accounts.signed_in(session, claims(grant), now=now).family_id == grant.family_id


def test_two_first_sign_ins_of_one_phone_at_once_both_get_through(
    engine: Engine, officer: str, now: dt.datetime
) -> None:
    def go(_: int) -> uuid.UUID:
        with Session(engine) as session:
            return sign_in(session, officer, now).family_id

    with ThreadPoolExecutor(3) as threads:
        assert len(set(threads.map(go, range(3)))) == 3


def test_a_phone_handed_to_another_officer_is_theirs_and_the_earlier_tokens_go_on(
    session: Session, officer: str, now: dt.datetime
) -> None:
    begin_write(session)
    accounts.add(session, "li", PASSWORD, full_name="李", role="officer", now=now)
    session.commit()
    earlier, later = sign_in(session, officer, now), sign_in(session, "li", now)
    for grant in (earlier, later):
        assert accounts.signed_in(session, claims(grant), now=now) == grant
    assert session.get_one(Installation, PHONE).account_id == later.who.account_id
    session.rollback()
    assert refresh(session, earlier, 1, now) == replace(earlier, generation=2)


def test_signing_out_ends_this_phone_only(session: Session, officer: str, now: dt.datetime) -> None:
    here, elsewhere = sign_in(session, officer, now), sign_in(session, officer, now, uuid.uuid4())
    begin_write(session)
    accounts.sign_out(session, here.who, now=now)
    session.commit()
    with pytest.raises(TokenInvalid):
        accounts.signed_in(session, claims(here), now=now)
    assert accounts.signed_in(session, claims(elsewhere), now=now) == elsewhere


def test_a_disabled_account_can_neither_go_on_nor_sign_in(session: Session, officer: str, now: dt.datetime) -> None:
    grant = sign_in(session, officer, now)
    begin_write(session)
    accounts.disable(session, officer, now=now)
    session.commit()
    with pytest.raises(AccountDisabled):
        accounts.signed_in(session, claims(grant), now=now)
    session.rollback()
    with pytest.raises(AccountDisabled):
        sign_in(session, officer, now)


def test_whether_an_account_is_disabled_is_told_only_to_who_knows_its_password(
    session: Session, officer: str, now: dt.datetime
) -> None:
    begin_write(session)
    accounts.disable(session, officer, now=now)
    session.commit()
    fail(session, officer, now)


def test_a_revoked_installation_can_neither_go_on_nor_be_signed_in_on_by_anyone(
    session: Session, officer: str, now: dt.datetime
) -> None:
    grant = sign_in(session, officer, now)
    begin_write(session)
    accounts.add(session, "li", PASSWORD, full_name="李", role="officer", now=now)
    accounts.revoke_installation(session, PHONE, now=now)
    session.commit()
    with pytest.raises(InstallRevoked):
        accounts.signed_in(session, claims(grant), now=now)
    session.rollback()
    for name in (officer, "li"):
        with pytest.raises(InstallRevoked):
            sign_in(session, name, now)
        session.rollback()
    assert session.get_one(Installation, PHONE).account_id == grant.who.account_id


def test_nobody_signs_in_on_a_desk(session: Session, officer: str, now: dt.datetime) -> None:
    holder = sign_in(session, officer, now).who.account_id
    begin_write(session)
    session.add(Desk(account_id=holder, install_id=PHONE))
    accounts.add(session, "li", PASSWORD, full_name="李", role="officer", now=now)
    session.commit()
    for name in ("li", officer):
        with pytest.raises(InstallRevoked):
            sign_in(session, name, now)
        session.rollback()
    assert session.get_one(Installation, PHONE).account_id == holder


def test_a_new_password_ends_every_sign_in(session: Session, officer: str, now: dt.datetime) -> None:
    grant = sign_in(session, officer, now)
    begin_write(session)
    accounts.set_password(session, officer, "another one entirely", now=now)
    session.commit()
    with pytest.raises(TokenInvalid):
        accounts.signed_in(session, claims(grant), now=now)
    session.rollback()
    accounts.check_password(begin(session, officer, now), "another one entirely")


def test_commands_about_what_does_not_exist_say_so(session: Session, now: dt.datetime) -> None:
    begin_write(session)
    for command in (
        lambda: accounts.disable(session, "nobody", now=now),
        lambda: accounts.set_password(session, "nobody", PASSWORD, now=now),
        lambda: accounts.revoke_installation(session, PHONE, now=now),
    ):
        with pytest.raises(NotFound):
            command()


@pytest.mark.parametrize("claim", ["account_id", "install_id", "family_id"])
def test_a_token_whose_claims_do_not_belong_together_is_worth_nothing(
    session: Session, officer: str, now: dt.datetime, claim: str
) -> None:
    grant = sign_in(session, officer, now)
    other = {"account_id": 999, "install_id": uuid.uuid4(), "family_id": uuid.uuid4()}[claim]
    with pytest.raises(TokenInvalid):
        accounts.signed_in(session, replace(claims(grant), **{claim: other}), now=now)


def test_who_is_asking_takes_one_query(engine: Engine, session: Session, officer: str, now: dt.datetime) -> None:
    grant = sign_in(session, officer, now)
    with count_statements(engine) as counted, Session(engine) as own:
        accounts.signed_in(own, claims(grant), now=now)
    assert counted.statements == 1
