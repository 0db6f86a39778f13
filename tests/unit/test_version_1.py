"""What entries of version 1 make of a state: a node that is upgraded beside one that is not must agree with it.

version_1.json holds a log with a takeover in it, its end as a snapshot, and its hash. `python tests/unit/test_version_1.py
--write` has written it with this software held to version 1. From the first release on it is never written anew: records,
proposals or rules that change what it gives need a new version of entries, and a fixture of their own.
"""

import json
import sys
from pathlib import Path
from typing import Any

from engines import Pair, answer_to, card, rules, transfer

from switch.core import snapshot
from switch.core.engine import Engine
from switch.core.proposals import OLDEST
from switch.core.rules import Limits

FILE = Path(__file__).parent / "version_1.json"
REVERSED = "0200" + "000001" + "0301100000" + "00000123456" + "0" * 11
LIMITS = Limits(segment_outcomes=2)


def _played() -> Pair:
    """A request of each fate and an advice, with the death of b among them; two requests and an advice are still open."""
    pair = Pair(rules(limits=LIMITS, net={"timeout_ms": 2_000}), version=OLDEST)
    terminal, other, bank = pair.accept(node="a"), pair.accept(node="b"), pair.accept("bank", "a")
    network = pair.connect(node="b")
    pair.receive(terminal, card(1))
    pair.receive(other, card(1, "0201"))
    pair.receive(network, answer_to(pair.forwarded(network)))
    pair.ack(terminal)
    pair.ack(other)
    pair.receive(other, card(1, "0201"))
    pair.receive(bank, transfer(1))
    pair.receive(terminal, card(2))
    pair.die("b", held=[other, network])
    pair.pass_ms(3_000)
    pair.tend()
    pair.ack(terminal)
    pair.receive(other, card(1, "0420", de90=REVERSED, de39="00"))
    pair.restart("b")
    pair.receive(terminal, card(3))
    pair.receive(other, card(4))
    pair.receive(network, answer_to(pair.forwarded(network), "51"))
    pair.pass_ms(500)
    return pair


def written() -> dict[str, Any]:
    """What the file is to hold."""
    pair = _played()
    view = snapshot.View(pair.state)
    return {
        "index": pair.index,
        "hash": pair.state.hash(),
        "log": [[by, body.hex()] for by, body in pair.log],
        "chunks": [bytes(chunk).hex() for chunk in view.chunks()],
        "segments": {name: bytes(encode()).hex() for name, encode in view.segments().items()},
    }


def _given() -> dict[str, Any]:
    given: dict[str, Any] = json.loads(FILE.read_bytes())
    return given


def test_its_log_gives_the_same_state_and_hash() -> None:
    given, engine = _given(), Engine("a")
    for index, (by, body) in enumerate(given["log"], 1):
        engine.apply(by, index, bytes.fromhex(body), 0.0)
    assert (engine.state.index, engine.state.hash()) == (given["index"], given["hash"])
    view = snapshot.View(engine.state)
    assert [bytes(chunk).hex() for chunk in view.chunks()] == given["chunks"]
    assert {name: bytes(encode()).hex() for name, encode in view.segments().items()} == given["segments"]


def test_its_snapshot_is_the_same_state() -> None:
    given = _given()
    segments = {name: bytes.fromhex(value) for name, value in given["segments"].items()}
    state = snapshot.load(given["index"], [bytes.fromhex(chunk) for chunk in given["chunks"]], segments)
    assert state.hash() == given["hash"] and state.meta.version == 1
    assert segments and state.advices and state.transactions and state.outcomes


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("it is written anew by: PYTHONPATH=.:tests/unit python tests/unit/test_version_1.py --write")
    FILE.write_text(json.dumps(written(), indent=1) + "\n")
