"""Log lines: an event with a name and fields, once, at the place that knows. Never card data."""

import logging
import sys
from typing import Any


def event(log: logging.Logger, level: int, name: str, **fields: Any) -> None:
    """`name key=value ...`; fields that are None are left out, values with blanks are quoted."""
    if log.isEnabledFor(level):
        log.log(level, "%s", name + "".join(f" {key}={_value(value)}" for key, value in fields.items() if value is not None))


def _value(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(character in text for character in " =\"'\n") else text


def configure(node: str, level: str) -> None:
    """Lines on stderr for the journal: the time is the journal's when it is there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s.%(msecs)03d {node} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
