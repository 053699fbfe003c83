"""Run a command that must not outlive whoever started it, however that one ends.

    python -m reinstruct.guard GRACE_S COMMAND...

The rule: when standard input closes (the starter is gone, or wants an end), or SIGTERM comes, the command gets SIGTERM,
and after GRACE_S seconds it and every process it started are killed; at once where standard input held anything. The
exit code is the command's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


def main(argv: list[str]) -> int:
    """The command's exit code, once nothing of it is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the starter decides what it means
    over, hurry = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: over.set())
    process = subprocess.Popen(argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_until_input_ends, args=(hurry, over), daemon=True).start()
    threading.Thread(target=_until_command_ends, args=(process, over), daemon=True).start()
    over.wait()
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(0 if hurry.is_set() else float(argv[0]))
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _until_input_ends(hurry: threading.Event, over: threading.Event) -> None:
    while os.read(0, 1024):
        hurry.set()
    over.set()


def _until_command_ends(process: subprocess.Popen[bytes], over: threading.Event) -> None:
    process.wait()
    over.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
