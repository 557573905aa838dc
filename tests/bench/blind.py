"""The server as it would be if it never compared anything: what likeness costs is the difference to the real one."""

from __future__ import annotations

from sync import resemblances, settling
from sync.resemblances import Search
from wsgi import app

__all__ = ["app"]

resemblances.search = lambda _session, of, _table: Search(dict(of), {}, 0)
resemblances.search_on = lambda _session, _of, _table, earlier, _number: earlier
settling.repeat_notes = lambda *_: {}
settling.later_records = lambda *_: []
settling.keep_keys = lambda *_: set()
