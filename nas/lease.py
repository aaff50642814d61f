"""Keeping a study's lease while it runs."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress

from space import StoreError, StudyLocked
from store import Store

SECONDS = 30.0


class LeaseKeeper:
    """Holds a study's lease and renews it in the background. Use as a context manager.

    Raises StudyLocked on entry where another coordinator holds it; `check` raises it where the lease was lost since.
    """

    def __init__(self, store: Store, study_id: int, takeover: bool = False) -> None:
        self.store = store
        self.study_id = study_id
        self.takeover = takeover
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
        self._lost: StudyLocked | None = None
        self._held_until = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        asked = time.monotonic()
        self.store.acquire_lease(self.study_id, self.holder, SECONDS, takeover=self.takeover)
        self._held_until = asked + SECONDS
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2)
        with suppress(StoreError):
            self.store.release_lease(self.study_id, self.holder)

    def check(self) -> None:
        """Raise StudyLocked where another coordinator has taken the study over.

        Asks the database where the lease may have run out unnoticed: this process was stopped, or the database away.
        """
        if self._lost is None and time.monotonic() > self._held_until:
            self._renew()
        if self._lost is not None:
            raise self._lost

    def _renew(self) -> None:
        asked = time.monotonic()
        try:
            self.store.renew_lease(self.study_id, self.holder, SECONDS)
        except StudyLocked as error:
            self._lost = error
        else:
            self._held_until = asked + SECONDS

    def _keep(self) -> None:
        while self._lost is None and not self._stop.wait(SECONDS / 3):
            # The database may be away for a moment; the next renewal tells.
            with suppress(StoreError):
                self._renew()
