"""Connections to a server die, and servers restart: the store waits and goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from space.errors import StoreError
from store import Store
from tests.store.conftest import Server
from tests.store.samples import make_study

Add = Callable[..., int]
BREAK_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@pytest.mark.parametrize("at", range(1, 9))
def test_a_connection_lost_in_a_transaction_is_opened_again(
    postgresql_server: Server, postgresql_store: Store, add: Add, at: int
) -> None:
    study = make_study(postgresql_store)
    seen = []

    def break_off(*_: Any) -> None:
        seen.append(True)
        if len(seen) == at:
            with psycopg.connect(postgresql_server.url(), autocommit=True) as connection:
                connection.execute(BREAK_OFF)

    event.listen(postgresql_store._database.engine, "before_cursor_execute", break_off)
    trial = add(postgresql_store, study, 0)
    postgresql_store.start_trial(trial, "w")
    postgresql_store.finish_trial(trial, "complete", values={"accuracy": 1.0, "latency@mcu": 1.0})
    assert len(seen) > at
    assert [t.attempts for t in postgresql_store.front(study)] == [1]


def test_a_server_that_restarts_is_waited_for(postgresql_server: Server, postgresql_store: Store, add: Add) -> None:
    study = make_study(postgresql_store)
    trial = add(postgresql_store, study, 0)
    postgresql_server.stop()
    restart = threading.Timer(1.0, postgresql_server.start)
    restart.start()
    began = time.monotonic()
    postgresql_store.finish_trial(trial, "complete", values={"accuracy": 1.0, "latency@mcu": 1.0})
    restart.join()
    assert time.monotonic() - began > 1.0
    assert [t.number for t in postgresql_store.front(study)] == [0]


def test_a_server_that_stays_away_is_told_after_two_minutes(postgresql_server: Server, postgresql_url: str) -> None:
    waits: list[float] = []
    with Store(postgresql_url, sleep=waits.append) as store:
        make_study(store)
        postgresql_server.stop()
        try:
            with pytest.raises(StoreError, match="no connection"):
                store.set_study_status("s", "running")
        finally:
            postgresql_server.start()
        assert 60 < sum(waits) <= 120
        assert store.study("s").status == "created"
