"""Who may ask: accounts, their installations, and signing in.

Signing in takes two transactions, so that none is open during the 100 ms a password takes: `begin_sign_in` counts the
attempt, `check_password` looks at nothing but what it was given, `sign_in` opens a token family. Tokens themselves are
made by the door. Refresh tokens are used once: the family keeps the generation that may come next, and an older one
means that two hold the same token, so the family ends and whoever is honest signs in again.

A permit is for who can't sign in any more and has a phone full of records: somebody in charge gives it, and it is told
once. What it is used for is a sign-in that is good for sending only and ends by itself.

An access token is for a program that reads in its owner's name, such as QGIS: it sees what its owner sees today, and
writes nothing. It needs no installation.

Every function that changes something wants a transaction begun with `begin_write`; the caller commits.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import Date, LargeBinary, and_, bindparam, case, delete, func, literal, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync import installations
from sync.clock import local_day
from sync.models import (
    DISTRICT_ROLES,
    FIELD_ROLES,
    ROLES,
    AccessToken,
    Account,
    Desk,
    Installation,
    Permit,
    Posting,
    SignedIn,
    SignInFailures,
    TokenFamily,
    Township,
    UtcDateTime,
    insert_or,
)
from sync.problems import (
    AccountDisabled,
    AccountInvalid,
    BadCredentials,
    DecisionInvalid,
    InstallRevoked,
    NotFound,
    PermitInvalid,
    SignInThrottled,
    TokenInvalid,
    TooManyTokens,
)
from sync.shapes import Columns

#: OWASP's smaller recommendation for Argon2id: 19 MiB, 2 passes, 1 lane; 97 ms here.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
#: The hash an unknown name is checked against, so that it takes as long as a known one.
NOBODYS_HASH = HASHER.hash(secrets.token_urlsafe())
#: NIST SP 800-63B §5.1.1.1.
PASSWORD_MIN_CHARS = 8
#: How long a permit waits to be used, and how long what it was used for is good for sending.
PERMIT_GOOD_FOR, PUSH_GOOD_FOR = dt.timedelta(hours=24), dt.timedelta(hours=2)
#: Letters that nobody mistakes for each other, read out over the telephone; twelve of them are 59 bits.
PERMIT_LETTERS, PERMIT_CHARS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789", 12
#: What every access token begins with, so that the door, and whoever searches files for secrets, knows one by sight.
TOKEN_PREFIX = "fapi_"  # noqa: S105  (no secret)
#: How many access tokens of an account stand at most. ESTIMATE: one for each program and machine.
MOST_TOKENS = 20
#: The last use of an access token is noted no more often than this: reading a layer must not become writing.
USE_NOTED_EVERY = dt.timedelta(minutes=5)
USERNAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,80}")


@dataclass(frozen=True)
class Throttle:
    """How many sign-ins may fail within one window, for one account name and from one address."""

    window: dt.timedelta
    max_per_account: int
    max_per_address: int


@dataclass(frozen=True)
class Counted:
    """An attempt that counts as a failure, of a name or phone and of an address, until it succeeds."""

    own_key: str
    address_key: str


@dataclass(frozen=True)
class Attempt(Counted):
    """A sign-in that was counted and now has to show its password. `account_id` is None for an unknown name."""

    account_id: int | None
    password_hash: str


@dataclass(frozen=True)
class Claims:
    """What a token says of itself, read by the door. `generation` is None in an access token."""

    account_id: int
    install_id: uuid.UUID
    family_id: uuid.UUID
    generation: int | None


@dataclass(frozen=True)
class Grant:
    """One sign-in that stands: what the door makes tokens of, and what it says of the account. With `push_until_at` it
    is for sending only, until then."""

    family_id: uuid.UUID
    generation: int
    who: SignedIn
    full_name: str
    card_until_on: dt.date | None
    push_until_at: dt.datetime | None = None


@dataclass(frozen=True)
class Program:
    """A program that reads with an access token: in whose name, and whether this use is to be noted."""

    token_id: uuid.UUID
    who: SignedIn
    is_to_be_noted: bool


@dataclass(frozen=True)
class IssuedPermit:
    """A permit as it is told once: its code, and who may send with it what until when."""

    code: str
    install_id: uuid.UUID
    username: str
    full_name: str
    expires_at: dt.datetime


# ---------------------------------------------------------------- accounts


def add(
    session: Session,
    username: str,
    password: str,
    *,
    full_name: str,
    role: str,
    now: dt.datetime,
    townships: Iterable[str] = (),
    from_on: dt.date | None = None,
    until_on: dt.date | None = None,
    card_number: str | None = None,
    card_from_on: dt.date | None = None,
    card_until_on: dt.date | None = None,
) -> Account:
    """A new account, posted to these townships from a day (else today) until another.

    Raises AccountInvalid if it can't be made like this.
    """
    username, townships = _spelt(username), frozenset(townships)
    _check(session, username, password, role, townships)
    _check_days(from_on or local_day(now), until_on)
    _check_days(card_from_on, card_until_on)
    account = Account(
        username=username,
        full_name=full_name,
        role=role,
        password_hash=HASHER.hash(password),
        card_number=card_number,
        card_from_on=card_from_on,
        card_until_on=card_until_on,
        created_at=now,
    )
    session.add(account)
    session.flush()
    days = {"from_on": from_on or local_day(now), "until_on": until_on}
    session.add_all(Posting(account_id=account.id, township_code=code, **days) for code in sorted(townships))
    session.flush()
    return account


def set_password(session: Session, username: str, password: str, *, now: dt.datetime) -> None:
    """The account has this password, and every phone of it has to sign in again; its access tokens are worth nothing:
    whoever knew the old password may have made one. Raises NotFound, AccountInvalid.
    """
    _check_password_rules(password)
    account = _named(session, username)
    account.password_hash = HASHER.hash(password)
    session.flush()  # whoever signs in at this moment with the old one now waits, and then sees it is old
    _end_families(session, TokenFamily.account_id == account.id, because="password-changed", now=now)
    standing = and_(AccessToken.account_id == account.id, AccessToken.revoked_at.is_(None))
    session.execute(update(AccessToken).where(standing).values(revoked_at=now))


def disable(session: Session, username: str, *, now: dt.datetime) -> None:
    """The account can do nothing any more, from its next request on. Raises NotFound."""
    _named(session, username).disabled_at = now


def revoke_installation(session: Session, install_id: uuid.UUID, *, now: dt.datetime) -> None:
    """This installation can do nothing any more, whoever signs in on it, from its next request on. Raises NotFound."""
    installation = session.get(Installation, install_id)
    if installation is None:
        raise NotFound
    installation.revoked_at = installation.revoked_at or now


def _spelt(username: str) -> str:
    """The name as it is kept: phones like to begin it with a capital and end it with a space."""
    return username.strip().lower()


def _named(session: Session, username: str) -> Account:
    account = session.scalar(select(Account).where(Account.username == _spelt(username)))
    if account is None:
        raise NotFound(f"no account is called {username}")
    return account


def _check(session: Session, username: str, password: str, role: str, townships: frozenset[str]) -> None:
    if not USERNAME.fullmatch(username):
        raise AccountInvalid("a user name has 1 to 80 characters and no spaces")
    if role not in ROLES:
        raise AccountInvalid(f"the roles are {', '.join(ROLES)}")
    _check_password_rules(password)
    if session.scalar(select(Account.id).where(Account.username == username)) is not None:
        raise AccountInvalid(f"{username} exists")
    if unknown := townships - set(session.scalars(select(Township.code).where(Township.code.in_(townships)))):
        raise AccountInvalid(f"no township has the code {', '.join(sorted(unknown))}")


def _check_days(from_on: dt.date | None, until_on: dt.date | None) -> None:
    if from_on and until_on and until_on < from_on:
        raise AccountInvalid(f"{until_on} is before {from_on}")


def _check_password_rules(password: str) -> None:
    if len(password) < PASSWORD_MIN_CHARS:
        raise AccountInvalid(f"a password has at least {PASSWORD_MIN_CHARS} characters")


# ---------------------------------------------------------------- signing in


def begin_sign_in(session: Session, username: str, address: str, throttle: Throttle, *, now: dt.datetime) -> Attempt:
    """The attempt, counted as a failure until it succeeds: many at once can't outrun the count.

    Raises SignInThrottled if this name or this address failed too often. A phone that is signed in isn't affected.
    """
    username = _spelt(username)
    counted = _count(session, f"account {username}", address, throttle, now)
    found = session.execute(select(Account.id, Account.password_hash).where(Account.username == username)).first()
    account_id, password_hash = found or (None, NOBODYS_HASH)
    return Attempt(counted.own_key, counted.address_key, account_id, password_hash)


def check_password(attempt: Attempt, password: str) -> None:
    """Nothing, if the password is right. Raises BadCredentials, after the same time, whether the name exists or not."""
    try:
        HASHER.verify(attempt.password_hash, password)
    except VerifyMismatchError:
        raise BadCredentials from None


def sign_in(session: Session, attempt: Attempt, install_id: uuid.UUID, app: str | None, *, now: dt.datetime) -> Grant:
    """A new token family on this installation, which from now on this account holds; earlier ones of this account on it
    end. Those of others stand: what they have left on the phone goes out with their own tokens.

    Raises BadCredentials if the password was changed while it was checked; AccountDisabled; InstallRevoked, also of a
    desk, whose counters no phone may move.
    """
    if session.scalar(select(Desk.install_id).where(Desk.install_id == install_id)) is not None:
        raise InstallRevoked
    still = select(Account.password_hash).where(Account.id == attempt.account_id).with_for_update()
    if session.scalar(still) != attempt.password_hash:
        raise BadCredentials
    _take_installation(session, attempt, install_id, app, now)
    own = and_(TokenFamily.account_id == attempt.account_id, TokenFamily.install_id == install_id)
    _end_families(session, own, because="signed-in-again", now=now)
    family_id = _begin_family(session, attempt.account_id, install_id, now)
    _uncount_failure(session, attempt)
    return _standing(session, family_id, now)


def _begin_family(
    session: Session, account_id: int | None, install_id: uuid.UUID, now: dt.datetime, **more: dt.datetime
) -> uuid.UUID:
    family = TokenFamily(
        id=uuid.uuid4(), account_id=account_id, install_id=install_id, generation=1, created_at=now, **more
    )
    session.add(family)
    session.flush()
    return family.id


def refresh(session: Session, claims: Claims, *, now: dt.datetime) -> Grant | None:
    """The grant with its next generation; of two that use one token, one gets it.

    None if the token was used before: then the family has ended, which the caller has to commit all the same.
    Raises what `signed_in` raises.
    """
    grant = signed_in(session, claims, now=now)
    family = TokenFamily.id == claims.family_id
    generation = session.execute(
        update(TokenFamily)
        .where(family, TokenFamily.generation == claims.generation, TokenFamily.ended_at.is_(None))
        .values(generation=TokenFamily.generation + 1)
        .returning(TokenFamily.generation)
    ).scalar()
    if generation is None:
        _end_families(session, family, because="token-reused", now=now)
        return None
    return replace(grant, generation=generation)


def sign_out(session: Session, who: SignedIn, *, now: dt.datetime) -> None:
    """No token of this account on this installation is worth anything any more."""
    own = and_(TokenFamily.account_id == who.account_id, TokenFamily.install_id == who.install_id)
    _end_families(session, own, because="signed-out", now=now)


def signed_in(session: Session, claims: Claims, *, now: dt.datetime) -> Grant:
    """The grant that this token is of, in one query, if it stands today.

    Raises AccountDisabled, InstallRevoked, else TokenInvalid where the sign-in ended, is unknown or another's. One that
    began with a permit stands though the account is disabled.
    """
    grant = _standing(session, claims.family_id, now)
    if (grant.who.account_id, grant.who.install_id) != (claims.account_id, claims.install_id):
        raise TokenInvalid
    return grant


def acting(session: Session, account_id: int, *, now: dt.datetime) -> SignedIn | None:
    """The account as it is now, for what is done in its name while it is not there; `None` if it is disabled."""
    account = session.get(Account, account_id)
    if account is None or account.disabled_at:
        return None
    today = local_day(now)
    in_force = (Posting.from_on <= today, or_(Posting.until_on.is_(None), Posting.until_on >= today))
    townships = session.scalars(select(Posting.township_code).where(Posting.account_id == account_id, *in_force))
    return SignedIn(account.id, account.username, account.role, frozenset(townships), None)


def _standing(session: Session, family_id: uuid.UUID, now: dt.datetime) -> Grant:
    rows = session.execute(
        select(
            Account.id,
            Account.username,
            Account.role,
            Account.full_name,
            Account.card_until_on,
            Account.disabled_at,
            Installation.revoked_at,
            TokenFamily.install_id,
            TokenFamily.generation,
            TokenFamily.ended_at,
            TokenFamily.push_until_at,
            Posting.township_code,
        )
        .select_from(TokenFamily)
        .join(Account, Account.id == TokenFamily.account_id)
        .join(Installation, Installation.id == TokenFamily.install_id)
        .outerjoin(Posting, _POSTED)
        .where(TokenFamily.id == family_id),
        {"today": local_day(now)},
    ).all()
    if not rows:
        raise TokenInvalid
    found = rows[0]
    if found.disabled_at and not found.push_until_at:
        raise AccountDisabled
    if found.revoked_at:
        raise InstallRevoked
    if found.ended_at or (found.push_until_at and found.push_until_at <= now):
        raise TokenInvalid
    townships = frozenset(row.township_code for row in rows if row.township_code)
    who = SignedIn(found.id, found.username, found.role, townships, found.install_id)
    return Grant(family_id, found.generation, who, found.full_name, found.card_until_on, found.push_until_at)


#: True where the account is posted on the day that is given as `today`.
_POSTED = and_(
    Posting.account_id == Account.id,
    Posting.from_on <= bindparam("today", type_=Date),
    or_(Posting.until_on.is_(None), Posting.until_on >= bindparam("today", type_=Date)),
)


def _take_installation(
    session: Session, attempt: Attempt, install_id: uuid.UUID, app: str | None, now: dt.datetime
) -> None:
    fresh = insert_or(session, Installation).values(
        id=install_id,
        account_id=attempt.account_id,
        created_at=now,
        received=[],
        unsent=[],
        next_n=1,
    )
    session.execute(fresh.on_conflict_do_nothing())
    session.execute(
        update(Installation).where(Installation.id == install_id).values(account_id=attempt.account_id, app=app)
    )


def _end_families(session: Session, which: ColumnElement[bool], *, because: str, now: dt.datetime) -> None:
    session.execute(
        update(TokenFamily).where(which, TokenFamily.ended_at.is_(None)).values(ended_at=now, ended_because=because)
    )


def _count(session: Session, own_key: str, address: str, throttle: Throttle, now: dt.datetime) -> Counted:
    """The attempt, counted. Raises SignInThrottled."""
    counted = Counted(own_key, f"address {address}")
    limits = {own_key: throttle.max_per_account, counted.address_key: throttle.max_per_address}
    ends = [
        started_at + throttle.window
        for key, started_at, failures in _count_failure(session, limits, now - throttle.window, now)
        if failures > limits[key]
    ]
    if ends:
        raise SignInThrottled(retry_after_s=math.ceil((max(ends) - now).total_seconds()))
    return counted


def _count_failure(
    session: Session, keys: Iterable[str], expired_at: dt.datetime, now: dt.datetime
) -> list[tuple[str, dt.datetime, int]]:
    """(key, start of its window, failures in it) with this one counted; windows that are over are forgotten.

    One statement in the order of the keys, so that two at once never wait for each other in a circle; what others are
    counting right now is left to them.
    """
    of = SignInFailures
    over = of.window_started_at <= expired_at
    counted = insert_or(session, of).values(
        [{"key": key, "window_started_at": now, "failures": 1} for key in sorted(keys)]
    )
    rows = session.execute(
        counted.on_conflict_do_update(
            index_elements=["key"],
            set_={
                "window_started_at": case((over, literal(now, UtcDateTime())), else_=of.window_started_at),
                "failures": case((over, 1), else_=of.failures + 1),
            },
        ).returning(of.key, of.window_started_at, of.failures)
    ).all()
    forgotten = select(of.key).where(over).with_for_update(skip_locked=True)
    session.execute(delete(of).where(of.key.in_(forgotten)).execution_options(synchronize_session=False))
    return [(row.key, row.window_started_at, row.failures) for row in rows]


def _uncount_failure(session: Session, attempt: Counted) -> None:
    """The name or phone starts anew; the address only gets this one back, or a thief's own account would reset it."""
    of = SignInFailures
    session.execute(update(of).where(of.key == attempt.address_key).values(failures=of.failures - 1))
    session.execute(delete(of).where(of.key == attempt.own_key))


# ---------------------------------------------------------------- permits to send what is left on a phone


def issue_permit(
    session: Session, who: SignedIn, install_id: uuid.UUID, username: str | None, reason: str, *, now: dt.datetime
) -> IssuedPermit:
    """A permit for an officer (without a name: who signed in last) to send what is left on this phone, in place of one
    that was given before and not used.

    Raises NotFound if the phone, or the officer, is not this account's to look after, or the officer never signed in
    there; DecisionInvalid if the phone is revoked: whoever found it must not get in.
    """
    installation = installations.lock(session, who, install_id, now=now)
    if installation.revoked_at is not None:
        raise DecisionInvalid(why="install-revoked")
    officer = _sender(session, who, installation, username, now)
    unused = and_(Permit.install_id == install_id, Permit.account_id == officer.id, _is_open(now))
    session.execute(update(Permit).where(unused).values(ended_at=now))
    code = "".join(secrets.choice(PERMIT_LETTERS) for _ in range(PERMIT_CHARS))
    permit = Permit(
        id=uuid.uuid4(),
        code_hash=_hash_of(code),
        install_id=install_id,
        account_id=officer.id,
        issued_by=who.account_id,
        reason=reason,
        created_at=now,
        expires_at=now + PERMIT_GOOD_FOR,
    )
    session.add(permit)
    session.flush()
    return IssuedPermit(_grouped(code), install_id, officer.username, officer.full_name, permit.expires_at)


def begin_permit(
    session: Session, install_id: uuid.UUID, address: str, throttle: Throttle, *, now: dt.datetime
) -> Counted:
    """The use of a permit on this phone, counted as a failure until it succeeds, like a sign-in.

    Raises SignInThrottled if this phone or this address failed too often.
    """
    return _count(session, f"permit {install_id}", address, throttle, now)


def use_permit(session: Session, counted: Counted, install_id: uuid.UUID, code: str, *, now: dt.datetime) -> Grant:
    """A sign-in of the officer on this phone, for sending only, for two hours; of two that use one code, one gets it.

    Raises PermitInvalid if the code is unknown, another phone's, used, replaced or too old; InstallRevoked.
    """
    this = and_(Permit.code_hash == _hash_of(code), Permit.install_id == install_id, _is_open(now))
    used = update(Permit).where(this).values(used_at=now).returning(Permit.id, Permit.account_id)
    found = session.execute(used).one_or_none()
    if found is None:
        raise PermitInvalid
    family_id = _begin_family(session, found.account_id, install_id, now, push_until_at=now + PUSH_GOOD_FOR)
    session.execute(update(Permit).where(Permit.id == found.id).values(family_id=family_id))
    _uncount_failure(session, counted)
    return _standing(session, family_id, now)


def _is_open(now: dt.datetime) -> ColumnElement[bool]:
    return and_(Permit.used_at.is_(None), Permit.ended_at.is_(None), Permit.expires_at > now)


def _sender(
    session: Session, who: SignedIn, installation: Installation, username: str | None, now: dt.datetime
) -> Columns:
    """Whose records on the phone may be sent: somebody who goes out with a phone and signed in on this one."""
    own = None if who.role in DISTRICT_ROLES else set(session.scalars(installations.posted(who, now)))
    for officer in installations.signed_in_on(session, [installation.id])[installation.id]:
        is_meant = officer.id == installation.account_id if username is None else officer.username == _spelt(username)
        if is_meant and officer.role in FIELD_ROLES and (own is None or officer.id in own):
            return officer
    raise NotFound("no such officer of yours ever signed in on this phone")


def _hash_of(code: str) -> bytes:
    """What is kept of a code, however it was typed. It is too long to be guessed from its hash while it is good."""
    letters = "".join(letter for letter in code.upper() if letter not in "- ")
    return hashlib.sha256(letters.encode("utf-8", "surrogatepass")).digest()


def _grouped(code: str) -> str:
    """In fours, as people read it out to each other."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


# ---------------------------------------------------------------- access tokens for programs


def issue_access_token(
    session: Session, who: SignedIn, name: str, days: int, *, now: dt.datetime
) -> tuple[str, Columns]:
    """A new access token of this account, good for so many days, and its row. It is told this once and kept as a hash.

    Raises TooManyTokens.
    """
    session.execute(select(Account.id).where(Account.id == who.account_id).with_for_update())
    standing = select(func.count()).where(AccessToken.account_id == who.account_id, _stands(now))
    if session.execute(standing).scalar_one() >= MOST_TOKENS:
        raise TooManyTokens
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = AccessToken(
        id=uuid.uuid4(),
        account_id=who.account_id,
        name=name,
        token_hash=_hash_of_token(token),
        created_at=now,
        expires_at=now + dt.timedelta(days=days),
    )
    session.add(row)
    session.flush()
    return token, row


def access_tokens(session: Session, who: SignedIn) -> Sequence[Columns]:
    """The access tokens of this account, the newest first, those that ended included."""
    own = select(AccessToken).where(AccessToken.account_id == who.account_id)
    return session.scalars(own.order_by(AccessToken.created_at.desc(), AccessToken.id)).all()


def revoke_access_token(session: Session, who: SignedIn, id: uuid.UUID, *, now: dt.datetime) -> None:
    """The token is worth nothing from the next request on. Raises NotFound if it is not this account's.

    An admin may revoke anybody's.
    """
    this = AccessToken.id == id if who.role == "admin" else and_(AccessToken.id == id, _is_own(who))
    revoked = func.coalesce(AccessToken.revoked_at, literal(now, UtcDateTime))
    found = update(AccessToken).where(this).values(revoked_at=revoked).returning(AccessToken.id)
    if session.execute(found).first() is None:
        raise NotFound


def program(session: Session, token: str, *, now: dt.datetime) -> Program:
    """The program that reads with this token, in one query, with what its owner may see today.

    Raises AccountDisabled, else TokenInvalid where it is unknown, revoked or too old. There is nothing to throttle: a
    token is 256 random bits, and no password is looked at here.
    """
    given = {"token_hash": _hash_of_token(token), "today": local_day(now)}
    rows = session.execute(_PROGRAM, given).all()
    if not rows or rows[0].revoked_at or rows[0].expires_at <= now:
        raise TokenInvalid
    found = rows[0]
    if found.disabled_at:
        raise AccountDisabled
    townships = frozenset(row.township_code for row in rows if row.township_code)
    who = SignedIn(found.account_id, found.username, found.role, townships, None)
    return Program(found.id, who, found.last_used_at is None or found.last_used_at <= now - USE_NOTED_EVERY)


def note_use(session: Session, token_id: uuid.UUID, *, now: dt.datetime) -> None:
    """The token was used just now."""
    session.execute(update(AccessToken).where(AccessToken.id == token_id).values(last_used_at=now))


#: Asked at every request of a program, so it is put together once.
_PROGRAM = (
    select(
        AccessToken.id,
        AccessToken.account_id,
        AccessToken.expires_at,
        AccessToken.last_used_at,
        AccessToken.revoked_at,
        Account.username,
        Account.role,
        Account.disabled_at,
        Posting.township_code,
    )
    .select_from(AccessToken)
    .join(Account, Account.id == AccessToken.account_id)
    .outerjoin(Posting, _POSTED)
    .where(AccessToken.token_hash == bindparam("token_hash", type_=LargeBinary))
)


def _is_own(who: SignedIn) -> ColumnElement[bool]:
    return AccessToken.account_id == who.account_id


def _stands(now: dt.datetime) -> ColumnElement[bool]:
    return and_(AccessToken.revoked_at.is_(None), AccessToken.expires_at > now)


def _hash_of_token(token: str) -> bytes:
    """What is kept of an access token: it is too long to be guessed from its hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
