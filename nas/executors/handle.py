"""The coordinator's side of one worker process: start it, give it a job, watch it, kill it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil

from nas.executors.base import Job, Result, fault
from nas.executors.messages import Broken, Reader, send

TICK_S = 0.05
START_LIMIT_S = 120.0
_SEND_LIMIT_S = 10.0
_CHILDREN_EVERY_S = 1.0
_LOG_BYTES = 16 * 2**20


class WorkerHandle:
    """One place for a worker process. A worker that fails is killed with all it started, and `start` makes another."""

    def __init__(
        self,
        entry: str,
        plugins: Sequence[str],
        threads: int,
        wall_limit_s: float | None,
        memory_limit_bytes: int | None,
        closing: threading.Event,
    ) -> None:
        self.command = [sys.executable, "-P", "-m", "nas.executors.worker", "--entry", entry]
        self.command += [part for plugin in plugins for part in ("--plugin", plugin)]
        self.threads = threads
        self.wall_limit_s = wall_limit_s
        self.memory_limit_bytes = memory_limit_bytes
        self.closing = closing
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Any = None

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        self.kill()
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        count = str(self.threads)
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_SEND_LIMIT_S)
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115
        with theirs:
            self._process = subprocess.Popen(
                [*self.command, "--fd", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._reader = Reader()
        self._ready = False

    def run(self, job: Job) -> Result | None:
        """The job's result, or that of its worker's failure; None where the executor is closing.

        The wall clock starts when the worker has the job; an idle worker that died is replaced first.
        """
        if self._process is None or self._exited():
            self.start()
        if not self._ready:
            answer = self._answer(START_LIMIT_S, None, "starting")
            if not (isinstance(answer, dict) and "ready" in answer):
                return answer
            self._ready = True
        os.truncate(self._log.fileno(), 0)
        try:
            send(self._socket, job)
        except Broken as error:
            return self._failed("crash", self._death() or f"the worker took no job: {error}", 0.0, 0)
        return self._answer(self.wall_limit_s, self.memory_limit_bytes, "the trial")

    def _answer(self, wall_limit_s: float | None, memory_limit_bytes: int | None, doing: str) -> Any:
        started = time.monotonic()
        peak = 0
        children_due = started + _CHILDREN_EVERY_S
        while not self.closing.is_set():
            seconds = time.monotonic() - started
            try:
                found, message = self._receive()
            except Broken as error:
                reason = f"the worker's answer can't be read: {error}"
                return self._failed("crash", self._death() or reason, seconds, peak)
            if found:
                return message
            if self._exited():
                return self._failed("crash", self._death() or "the worker died", seconds, peak)
            if wall_limit_s is not None and seconds > wall_limit_s:
                reason = f"{doing} took longer than its wall limit of {wall_limit_s:g} s"
                return self._failed("wall_limit", reason, seconds, peak)
            if memory_limit_bytes is not None:
                with_children = time.monotonic() > children_due
                used = self._memory(with_children)
                if with_children:
                    children_due = time.monotonic() + _CHILDREN_EVERY_S
                peak = max(peak, used)
                if used > memory_limit_bytes:
                    reason = f"{doing} took {used / 1e6:.0f} MB; its memory limit is {memory_limit_bytes / 1e6:.0f} MB"
                    return self._failed("memory_limit", reason, seconds, peak)
            if os.fstat(self._log.fileno()).st_size > _LOG_BYTES:
                os.truncate(self._log.fileno(), 0)
        return None

    def _receive(self) -> tuple[bool, Any]:
        """(True, message), or (False, None) where none came within a tick."""
        deadline = time.monotonic() + TICK_S
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            try:
                data = self._socket.recv(self._reader.wanted)
            except OSError as error:
                raise Broken(str(error)) from error
            if not data:
                raise Broken("it closed the connection")
            found, message = self._reader.feed(data)
            if found:
                return True, message
        return False, None

    def _exited(self) -> bool:
        """True where the process ended. It isn't reaped here, so that its group's number stays its own."""
        assert self._process is not None
        if self._process.returncode is not None:
            return True
        try:
            return psutil.Process(self._process.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def _memory(self, with_children: bool) -> int:
        """Resident bytes of the worker, and of what it started."""
        assert self._process is not None
        used = 0
        with contextlib.suppress(psutil.Error):
            worker = psutil.Process(self._process.pid)
            used = worker.memory_info().rss
            for child in worker.children(recursive=True) if with_children else ():
                with contextlib.suppress(psutil.Error):
                    used += child.memory_info().rss
        return used

    def _death(self) -> str:
        """Why the process ended, in words, with the last thing it said; empty while it lives."""
        assert self._process is not None
        for _ in range(20):
            if self._exited():
                break
            time.sleep(TICK_S / 5)
        else:
            return ""
        said = self._last_words()
        self.kill(keep_log=True)
        code = self._process.returncode
        if code >= 0:
            return f"the worker exited with code {code}{said}"
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        hint = " (kill -9, or the system ran out of memory)" if -code == signal.SIGKILL else ""
        return f"the worker was killed by {name}{hint}{said}"

    def _last_words(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), 20_000, max(0, size - 20_000)).decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        chosen = (fatal or lines)[-1:]
        return f": {chosen[0][:200]}" if chosen else ""

    def _failed(self, kind: str, reason: str, seconds: float, peak: int) -> Result:
        self.kill()
        if not self.closing.is_set():
            self.start()
        return fault(kind, reason, seconds, peak)

    def kill(self, keep_log: bool = False) -> None:
        """End the process, its group and what left the group."""
        if self._process is None:
            return
        if self._process.returncode is None:
            strays: list[psutil.Process] = []
            with contextlib.suppress(psutil.Error):
                strays = psutil.Process(self._process.pid).children(recursive=True)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for stray in strays:
                with contextlib.suppress(psutil.Error):
                    stray.kill()
            self._process.wait()
        self._socket.close()
        if not keep_log:
            self._log.close()
