"""Worker entries that misbehave as their job says. Imported by workers, so it stays free of torch."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do what `do` says; answers with the job's value and this process's id."""
    do, value = job.get("do", "answer"), job.get("value")
    if do == "exit":
        os._exit(3)
    elif do == "raise":
        raise RuntimeError("raised on purpose")
    elif do == "segfault":
        ctypes.string_at(0)
    elif do == "abort":
        os.kill(os.getpid(), signal.SIGABRT)
    elif do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "sleep":
        time.sleep(value)
    elif do == "hang_in_c":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        # PyDLL keeps the interpreter lock: no other Python thread of this process runs.
        ctypes.PyDLL(None).sleep(600)
    elif do == "hog":
        held = []
        while True:
            held.append(bytearray(os.urandom(1)) * 20_000_000)
            time.sleep(0.01)
    elif do == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        Path(value).write_text(str(child.pid))
        time.sleep(600)
    elif do == "print":
        print("printed by a worker", flush=True)
        print("complained by a worker", file=sys.stderr, flush=True)
    elif do == "garbage":
        os.write(int(sys.argv[sys.argv.index("--fd") + 1]), b"\x00\x00\x00\x04what")
        time.sleep(600)
    elif do == "is_imported":
        value = value in sys.modules
    elif do == "note":
        Path(value).write_text(str(os.getpid()))
        time.sleep(600)
    return {"status": "complete", "reason": "", "value": value, "pid": os.getpid(), "threads": job.get("threads")}
