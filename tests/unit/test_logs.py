"""Log lines wait for nobody: a reader that stands still would else stop both nodes at once."""

import logging
import os
from collections.abc import Iterator
from typing import TextIO

import pytest

from switch.ops.logs import LINE_MAX_BYTES, Handler, event

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
