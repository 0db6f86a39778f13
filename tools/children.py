"""Child processes that end with this one, however it ends, and the signals at which it ends in order."""

import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from tools.etcd import DIE_WITH_US

# PR_SET_PDEATHSIG (prctl(2)) is about the thread that forked: this one is there until the interpreter ends
_starter = ThreadPoolExecutor(1, "starter")


def spawn(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a program that is killed when this process is no more; from any thread. Raises OSError.

    options: those of subprocess.Popen. The pid is the program's own.
    """

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*DIE_WITH_US, *command], **options)

    return _starter.submit(start).result()


def end_in_order() -> None:
    """SIGTERM and SIGHUP raise SystemExit in the main thread, so that every `with` block ends. nohup stays nohup."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: object) -> NoReturn:
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # the end is under way
    raise SystemExit(128 + number)
