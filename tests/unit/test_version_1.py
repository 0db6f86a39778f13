"""What the software of entry version 1 has written: a node that is upgraded beside one that is not must agree with it.

version_1.json was made by the code of commit 0e2d8ad: a log with a takeover in it, a snapshot of its end, and its hash.
"""

import json
from pathlib import Path

from switch.core import snapshot
from switch.core.engine import Engine

GIVEN = json.loads((Path(__file__).parent / "version_1.json").read_bytes())


def test_its_log_gives_the_same_state_and_hash() -> None:
    engine = Engine("a")
    for index, (by, body) in enumerate(GIVEN["log"], 1):
        engine.apply(by, index, bytes.fromhex(body), 0.0)
    assert (engine.state.index, engine.state.hash()) == (GIVEN["index"], GIVEN["hash"])
    assert [bytes(chunk).hex() for chunk in snapshot.View(engine.state).chunks()] == GIVEN["chunks"]


def test_its_snapshot_is_the_same_state() -> None:
    segments = {name: bytes.fromhex(value) for name, value in GIVEN["segments"].items()}
    state = snapshot.load(GIVEN["index"], [bytes.fromhex(chunk) for chunk in GIVEN["chunks"]], segments)
    assert state.hash() == GIVEN["hash"] and state.meta.version == 1
