"""Reads what a phone sends: whole, or not at all.

gunicorn hands on a body that was cut off as if it had ended there (traps.md), so bytes are counted against what was
announced. Packed bodies are unpacked within the same limit.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import io
import re
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import request

from sync.problems import BodyTruncated, DigestMismatch, Malformed, Problem, UnsupportedEncoding

#: A line on which nothing moves is given up after this, s. A phone with a bad network goes on within it or sends again.
LONGEST_SILENCE_S = 30
#: So long may nothing come before whoever reads a body is told, s.
PAUSE_S = 2
#: A refusal waits this long for what is still being said, s.
LONGEST_HEARD_S = 20
#: Read at once, bytes.
PIECE_BYTES = 64 * 1024
#: The smallest piece of a slow line, bytes: gunicorn gives out what it has by the KiB.
LEAST_PIECE_BYTES = 1024
#: A piece that came sooner is followed by a larger one, s; one that came later by a smaller one.
SOON_S, LATE_S = 0.1, 1.0
#: How much of a body that is refused is heard out, bytes; and how many a process hears out at once, lest strangers who
#: dribble take all its threads.
MOST_HEARD_BYTES, MOST_HEARD = 32 * 1024 * 1024, 8
#: The member of a Content-Digest (RFC 9530) that is understood; others are passed over.
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):")
_HEARINGS = threading.BoundedSemaphore(MOST_HEARD)


def pieces(most_bytes: int, too_large: type[Problem]) -> Iterator[bytes]:
    """The body's bytes as they come; an empty piece where nothing came for PAUSE_S, if the server lets us see that.

    Raises `too_large`, or BodyTruncated when fewer came than were announced, after all that came.
    """
    request.max_content_length = sys.maxsize  # counted here, where the problem has a code of its own
    announced, seen = request.content_length, 0
    if announced is not None and announced > most_bytes:
        raise too_large(bytes=min(announced, sys.maxsize), most_bytes=most_bytes)  # JSON has no longer numbers
    try:
        for piece in _as_it_comes(announced):
            seen += len(piece)
            if seen > most_bytes:
                raise too_large(most_bytes=most_bytes)
            yield piece
    except _LineDied as error:
        raise BodyTruncated(received_bytes=seen, announced_bytes=announced) from error
    if announced is not None and seen < announced:
        raise BodyTruncated(received_bytes=seen, announced_bytes=announced)


class _LineDied(Exception):
    """The line died, or what comes makes no sense."""


class _Silence(_LineDied):
    """Nothing comes, and the line may be alive or not."""


def _as_it_comes(announced: int | None) -> Iterator[bytes]:
    line: socket.socket | None = request.environ.get("gunicorn.socket")
    if line is None:
        return iter(lambda: _next_piece(PIECE_BYTES), b"")
    return _listen(line, is_counted=announced is not None)


def _listen(line: socket.socket, *, is_counted: bool) -> Iterator[bytes]:
    """What comes on a line of gunicorn's: pieces of the size that comes within a second, empty ones in silence.

    A read that is asked for more than has come waits for the rest, so a slow line is asked for little. A body in chunks
    can't be read on once a read has failed, not even for want of bytes: its end would seem to be there.
    """
    size, silences = LEAST_PIECE_BYTES, 0
    line.settimeout(PAUSE_S if is_counted else LONGEST_SILENCE_S)
    try:
        while silences * PAUSE_S < LONGEST_SILENCE_S:
            asked_at = time.monotonic()
            try:
                piece = _next_piece(size)
            except _LineDied as error:
                for piece in _left(line):
                    silences = 0
                    yield piece
                if not (is_counted and isinstance(error, _Silence)):
                    raise
                silences += 1
                yield b""
                continue
            if not piece:
                return
            silences, size = 0, _fitting(size, time.monotonic() - asked_at)
            yield piece
        _stop_listening(line)  # nobody waits for it again
        raise _Silence
    finally:
        with suppress(OSError):  # it may be closed by now
            line.settimeout(LONGEST_SILENCE_S)


def _left(line: socket.socket) -> Iterator[bytes]:
    """What gunicorn had read when the line fell silent or died."""
    line.settimeout(0)
    with suppress(_LineDied):
        while piece := _next_piece(LEAST_PIECE_BYTES):
            yield piece
    line.settimeout(PAUSE_S)


def _fitting(size: int, took_s: float) -> int:
    if took_s < SOON_S:
        return min(size * 4, PIECE_BYTES)
    return max(size // 4, LEAST_PIECE_BYTES) if took_s > LATE_S else size


def hang_up_on_silence() -> None:
    """The line is given up when nothing moves on it for long, either way: a silent client would hold a thread for ever.

    Only gunicorn leaves this to the app; waitress collects bodies and answers without a thread.
    """
    line = request.environ.get("gunicorn.socket")
    if line is not None:
        line.settimeout(LONGEST_SILENCE_S)


def hear_out() -> None:
    """What is left of the body has been read and forgotten, unless it is beyond measure or too many are heard out now.

    gunicorn hangs up on a phone that is still talking, which then loses the answer: one whose token has expired would
    send the same batch for ever.
    """
    line: socket.socket | None = request.environ.get("gunicorn.socket")
    if not has_body():
        return
    if _HEARINGS.acquire(blocking=False):
        try:
            _hear_out(line)
        finally:
            _HEARINGS.release()
    elif line is not None:
        _stop_listening(line)  # gunicorn too would listen on for 5 s


def has_body() -> bool:
    """Whether the request has a body, as far as it says."""
    return bool(request.content_length) or "chunked" in request.headers.get("Transfer-Encoding", "").lower()


def _hear_out(line: socket.socket | None) -> None:
    request.max_content_length = sys.maxsize
    left, until = MOST_HEARD_BYTES, time.monotonic() + LONGEST_HEARD_S
    with _cut_off_after(LONGEST_HEARD_S, line), suppress(_LineDied):
        while left > 0 and time.monotonic() < until and (piece := _next_piece(PIECE_BYTES)):
            left -= len(piece)


@contextmanager
def _cut_off_after(longest_s: float, line: socket.socket | None) -> Iterator[None]:
    """Reading ends after this, also one read that waits for a piece of which a byte comes now and then."""
    if line is None:
        yield
        return
    timer = threading.Timer(longest_s, _stop_listening, [line])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stop_listening(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RD)


def _next_piece(size: int) -> bytes:
    """The next bytes of the body, none at its end. Each server raises something else for a line that died, or for
    chunks that are none; werkzeug wraps it."""
    try:
        return request.stream.read(size)
    except Exception as error:
        raise (_Silence if isinstance(error.__context__, TimeoutError) else _LineDied) from error


def whole(most_bytes: int, too_large: type[Problem]) -> bytes:
    """The whole body, checked against its Content-Digest and unpacked; `most_bytes` holds packed and unpacked.

    Raises UnsupportedEncoding, BodyTruncated, DigestMismatch, Malformed or `too_large`.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedEncoding(content_encoding=encoding[:40], accepted=["gzip", "identity"])
    body = b"".join(pieces(most_bytes, too_large))
    _check_digest(body)
    return _unpack(body, most_bytes, too_large) if encoding == "gzip" else body


def _check_digest(body: bytes) -> None:
    """The digest is of the bytes as they were sent, packed if they were packed (RFC 9530)."""
    found = _SHA256.search(request.headers.get("Content-Digest", ""))
    if found is None:
        return
    try:
        claimed = base64.b64decode(found.group(1), validate=True)
    except binascii.Error as error:
        raise Malformed(header="Content-Digest") from error
    if claimed != hashlib.sha256(body).digest():
        raise DigestMismatch()


def _unpack(packed: bytes, most_bytes: int, too_large: type[Problem]) -> bytes:
    """A gzip file may be several members one after the other; each has to be complete."""
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        try:
            unpacked = file.read(most_bytes + 1)
        except EOFError as error:
            raise BodyTruncated(why="gzip") from error
        except (OSError, zlib.error) as error:
            raise Malformed(why="gzip") from error
    if len(unpacked) > most_bytes:
        raise too_large(most_bytes=most_bytes)
    return unpacked
