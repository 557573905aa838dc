"""What a process does behind its requests: by a thread of low priority that begins with the first of them.

Thus it begins after any fork: what is opened before a fork breaks after it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from flask import Flask

from sync.models import is_busy
from sync.problems import Busy

log = logging.getLogger(__name__)

#: How far the thread stands back where processors are short (nice(1): 0 to 19).
NICENESS = 15
#: How long a process that ends waits for what the thread is at, s.
LAST_WORK_S = 5


class Behind:
    """Works every so often, in an app context, until it is closed. `waits` says what has to wait when that fails."""

    def __init__(self, app: Flask, name: str, every_s: int, work: Callable[[], None], waits: str) -> None:
        self._app, self._name, self._every_s = app, name, every_s
        self._work, self._waits = work, waits
        self._opening = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """The thread is there. Again: nothing changes."""
        with self._opening:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def close(self) -> None:
        """The thread has ended; should its work take too long, it ends with the process."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(LAST_WORK_S)

    def goes_on(self) -> bool:
        """Whether nobody has closed it."""
        return not self._closing.is_set()

    def _run(self) -> None:
        _step_back()
        while not self._closing.wait(self._every_s):
            try:
                with self._app.app_context():
                    self._work()
            except Exception as error:
                passing = isinstance(error, Busy) or is_busy(error)
                log.warning("%s: %s", self._waits, error, exc_info=None if passing else error)


def _step_back() -> None:
    """Requests come first. Elsewhere than on Linux it would be the whole process that stands back."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
