"""What a phone sends is unpacked within limits of size and of time."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from field_api.bodies import whole
from sync.problems import BatchTooLarge, BodyTruncated, Malformed, Problem

MOST_BYTES = 100_000
JSON = b'{"batch": "..."}' * 100
PACKED = gzip.compress(JSON, mtime=0)
NOISE = os.urandom(MOST_BYTES)


@pytest.fixture
def unpack() -> Callable[[bytes], bytes]:
    """What comes out of a packed body."""

    def unpacked(packed: bytes) -> bytes:
        app = Flask(__name__)
        with app.test_request_context(method="POST", data=packed, headers={"Content-Encoding": "gzip"}):
            return whole(MOST_BYTES, BatchTooLarge)

    return unpacked


def test_one_member_or_several_come_out_whole(unpack: Callable[[bytes], bytes]) -> None:
    assert unpack(PACKED) == JSON
    assert unpack(PACKED * 3) == JSON * 3
    assert unpack(gzip.compress(b"")) == b""


def test_as_much_as_allowed_is_taken(unpack: Callable[[bytes], bytes]) -> None:
    assert len(unpack(gzip.compress(bytes(MOST_BYTES)))) == MOST_BYTES


REFUSED: list[tuple[str, bytes, type[Problem]]] = [
    ("a byte too many", gzip.compress(bytes(MOST_BYTES + 1)), BatchTooLarge),
    ("a byte too many in several members", gzip.compress(bytes(MOST_BYTES // 2 + 1)) * 2, BatchTooLarge),
    ("a bomb", gzip.compress(bytes(2**26)), BatchTooLarge),
    ("larger packed than unpacked", gzip.compress(NOISE, compresslevel=0), BatchTooLarge),
    ("no end", PACKED[:-1], BodyTruncated),
    ("no sum", PACKED[:-8], BodyTruncated),
    ("half", PACKED[: len(PACKED) // 2], BodyTruncated),
    ("half a head", PACKED[:5], BodyTruncated),
    ("a second member without an end", PACKED + PACKED[:-1], BodyTruncated),
    ("a wrong sum", PACKED[:-8] + bytes(4) + PACKED[-4:], Malformed),
    ("a wrong length", PACKED[:-4] + bytes(4), Malformed),
    ("something behind", PACKED + b"{}", Malformed),
    ("no gzip", JSON, Malformed),
    ("spoilt inside", PACKED[:12] + b"\xff" * 8 + PACKED[20:], Malformed),
]


@pytest.mark.parametrize(("name", "packed", "problem"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_can_not_be_unpacked_is_told_apart(
    unpack: Callable[[bytes], bytes], name: str, packed: bytes, problem: Any
) -> None:
    with pytest.raises(problem):
        unpack(packed)


def test_many_empty_members_do_not_keep_the_server_busy() -> None:
    app, most_bytes = Flask(__name__), 8 * 1024 * 1024
    empty = gzip.compress(b"", mtime=0)
    packed, started = empty * (most_bytes // len(empty)), time.monotonic()
    with app.test_request_context(method="POST", data=packed, headers={"Content-Encoding": "gzip"}):
        assert whole(most_bytes, BatchTooLarge) == b""
    assert time.monotonic() - started < 15
