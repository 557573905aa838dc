"""Cursors of the feed: how far somebody has read, of which history, and for whom. See `changes`.

A cursor says for whom it was given, how far was read and, by the hashes of links, of which history. The same number in
a database that was restored from a backup and went on from there has another hash: the cursor is refused, and whoever
has it begins again. There is no secret in it: who forges one harms nobody else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync.journal import canonical
from sync.models import Head, Link, SignedIn
from sync.problems import CursorExpired, QueryInvalid
from sync.shapes import Columns


@dataclass(frozen=True, slots=True)
class Now:
    """Where the feed stands: its last number, what this account may see of it, and the edition of the lists."""

    number: int
    scope: bytes
    reference_version: uuid.UUID


def now_of(session: Session, who: SignedIn) -> Now:
    """Where the feed stands for this account."""
    head = session.execute(select(Head.number, Head.epoch, Head.reference_version)).one()
    scope = _digest([head.epoch, who.account_id, who.role, sorted(who.townships)])
    return Now(head.number, scope, head.reference_version)


def at(session: Session, now: Now, place: Place) -> str:
    """The cursor of somebody who has read as far as this place."""
    return _packed(now.scope, _history(_links(session, place), place), place)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a phone has read: every link up to `number`; of that one, if a kind is named, only up to that row.

    `began` is the number of the head when the phone began: what has not changed since, it never held in another state.
    """

    began: int
    number: int
    kind: str = ""
    entity: str = ""


#: The fixed part of a cursor: digests of scope and history, then `began` and `number`. Kind and entity follow. A digest
#: of it all stands in front, by which a cursor that was cut or garbled is known.
_FIXED = struct.Struct(">8s8sQQ")
_CHECK_BYTES = 6
#: Nothing that happened: a cursor with it is refused.
_NEVER = bytes(8)
#: The largest number that a database can be asked for.
_LARGEST = 2**63 - 1


def _digest(value: Any) -> bytes:
    return hashlib.sha256(canonical(value)).digest()[:8]


def _packed(scope: bytes, history: bytes, place: Place) -> str:
    content = _FIXED.pack(scope, history, place.began, place.number) + f"{place.kind} {place.entity}".encode()
    check = hashlib.sha256(content).digest()[:_CHECK_BYTES]
    return base64.urlsafe_b64encode(check + content).rstrip(b"=").decode()


def _unpacked(cursor: str, parameter: str) -> tuple[bytes, bytes, Place]:
    """The digests of scope and history, and the place. Raises QueryInvalid if it is not whole."""
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)[_CHECK_BYTES:]
        scope, history, began, number = _FIXED.unpack(content[: _FIXED.size])
        kind, _, entity = content[_FIXED.size :].decode().partition(" ")
    except (ValueError, binascii.Error, struct.error) as error:
        raise _none_of_ours(parameter) from error
    place = Place(began, number, kind, entity)
    if _packed(scope, history, place) != cursor or "\0" in kind + entity:
        raise _none_of_ours(parameter)
    return scope, history, place


def _none_of_ours(parameter: str) -> QueryInvalid:
    return QueryInvalid.of(parameter, "not a cursor of ours")


def place_of(
    session: Session, cursor: str, scope: bytes, *, parameter: str = "cursor"
) -> tuple[Place, uuid.UUID | None]:
    """Where the cursor stands, and the key of that link. Raises QueryInvalid, CursorExpired."""
    given_for, given_in, place = _unpacked(cursor, parameter)
    links = _links(session, place)
    history = _history(links, place)
    if history == _NEVER or (given_for, given_in) != (scope, history):
        raise CursorExpired("what you may see, or the history of this server, is not what it was")
    return place, links[place.number].key if place.number else None


def _links(session: Session, place: Place) -> Mapping[int, Columns]:
    """The links that a place names, by number, as far as there are such."""
    numbers = [min(number, _LARGEST) for number in (place.began, place.number)]
    found = session.execute(select(Link.number, Link.key, Link.hash).where(Link.number.in_(numbers)))
    return {link.number: link for link in found}


def _history(links: Mapping[int, Columns], place: Place) -> bytes:
    """What stands for all that happened up to this place, `_NEVER` if it did not happen here."""
    named = [number for number in (place.began, place.number) if number]
    if not links.keys() >= set(named):
        return _NEVER
    return _digest([bytes(links[number].hash).hex() for number in named])
