"""Log lines wait for nobody: a reader that stands still would else stop both nodes at once."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from switch.ops.logs import LINE_MAX_BYTES, Handler, configure, event

log = logging.getLogger("tests.logs")
PIPE_BYTES = 65_536


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    read, write = os.pipe()
    with open(write, "w", buffering=1) as stream:  # as sys.stderr is
        handler = Handler(stream)
        log.addHandler(handler)
        log.propagate = False
        yield read, stream
        log.removeHandler(handler)
        log.propagate = True
        os.close(read)


def test_a_name_that_is_no_text_is_told_as_well_as_may_be(pipe: tuple[int, TextIO]) -> None:
    read, stream = pipe
    record = logging.LogRecord("switch", logging.WARNING, "", 0, "file path=\udcff.toml", None, None)
    Handler(stream).emit(record)  # itself: pytest keeps what is logged, and its workers cannot say this
    assert os.read(read, PIPE_BYTES) == b"file path=\\udcff.toml\n"


def test_without_stderr_there_are_no_lines_and_a_node_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", None)
    configure("a", "info")
    event(log, logging.WARNING, "nothing")
    root.handlers[:], _ = before
    root.setLevel(before[1])


def test_the_last_words_of_a_node_are_waited_for_a_moment(pipe: tuple[int, TextIO]) -> None:
    read, _ = pipe
    fill = PIPE_BYTES - 10
    os.write(pipe[1].fileno(), b"x" * fill)
    reader = threading.Timer(0.02, os.read, (read, fill))
    reader.start()
    event(log, logging.CRITICAL, "node.failed")
    reader.join()
    assert os.read(read, PIPE_BYTES).endswith(b"node.failed\n")


def test_lines_that_nobody_reads_are_dropped_and_counted_in_the_next(pipe: tuple[int, TextIO]) -> None:
    read, _ = pipe
    event(log, logging.WARNING, "first", text="x" * 2 * LINE_MAX_BYTES)
    for _ in range(2 * PIPE_BYTES // 100):
        event(log, logging.WARNING, "line", text="x" * 100)
    told = os.read(read, 2 * PIPE_BYTES).decode()
    assert told.endswith("x\n") and told.startswith("first") and len(told.splitlines()[0]) == LINE_MAX_BYTES
    dropped = 2 * PIPE_BYTES // 100 - (len(told.splitlines()) - 1)
    for word in ("next", "last"):
        event(log, logging.WARNING, word)
    assert dropped > 0 and os.read(read, PIPE_BYTES).decode() == f"next dropped_before={dropped}\nlast\n"
