"""More connections than a node may have descriptors for: they wait until others have ended, and are not refused."""

import contextlib
import select

from switch_rig import Wire, card_request, fresh, logged, until

from tools.pair import Settings, Switch

SESSIONS_MAX = 12  # with those to issuer and bank
WIRES = 20
SETTINGS = Settings(limits={"sessions_max": SESSIONS_MAX})


def answered(wires: list[Wire]) -> list[Wire]:
    found, _, _ = select.select([wire.sock for wire in wires], [], [], 0.1)
    return [wire for wire in wires if wire.sock in found]


def test_connections_beyond_the_bound_wait_and_are_served_when_others_have_ended(switch: Switch) -> None:
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(switch.ports.terminals["ab"[place % 2]])) for place in range(WIRES)]
        for wire in wires:
            wire.request(card_request(fresh()))
        logged(switch, "links.full")
        early = until(lambda: (found := answered(wires)) and len(found) > 3 and found, "the first to be answered")
        health = switch.ask("a")
        assert 0 < health["sessions"] <= SESSIONS_MAX + 1, "one more where both nodes accept at once"
        assert len(early) < WIRES
        for _ in range(WIRES):
            if not wires:
                break
            early = until(lambda: answered(wires), "somebody to be answered")
            for wire in early:
                assert wire.fields()[39] == "00"
                wire.close()
                wires.remove(wire)
        assert not wires
