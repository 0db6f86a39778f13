"""Log lines: an event with a name and fields, once, at the place that knows. Never card data."""

import logging
import select
import sys
from typing import Any, TextIO

LAST_WORDS_MS = 200
LINE_MAX_BYTES = 3_800  # with a word on lines that were dropped less than PIPE_BUF: what poll(2) promises room for


def event(log: logging.Logger, level: int, name: str, **fields: Any) -> None:
    """`name key=value ...`; fields that are None are left out, values with blanks are quoted."""
    if log.isEnabledFor(level):
        log.log(level, "%s", name + "".join(f" {key}={_value(value)}" for key, value in fields.items() if value is not None))


def _value(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(character in text for character in " =\"'\n") else text


class Handler(logging.StreamHandler[TextIO]):
    """Never waits: while who reads the lines stands still (the journal, a pipe), they are dropped, and counted in the next."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._room = select.poll()
        self._room.register(stream, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        # a critical line is of a node that ends, which nobody waits for any more
        patience_ms = LAST_WORDS_MS if record.levelno >= logging.CRITICAL and not self._dropped else 0
        if not self._room.poll(patience_ms):
            self._dropped += 1
            return
        super().emit(record)
        self._dropped = 0

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record).encode(errors="backslashreplace")[:LINE_MAX_BYTES].decode(errors="ignore")
        return line + f" dropped_before={self._dropped}" * bool(self._dropped)


def configure(node: str, level: str) -> None:
    """Lines on stderr for the journal: the time is the journal's when it is there."""
    handler: logging.Handler = logging.NullHandler() if sys.stderr is None else Handler(sys.stderr)  # None: it is closed
    handler.setFormatter(logging.Formatter(f"%(asctime)s.%(msecs)03d {node} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
