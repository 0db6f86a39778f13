"""More connections than a node may have descriptors for: they wait until others have ended, and are not refused."""

import contextlib
import select

from switch_rig import Wire, card_request, fresh, log_lines, until

from tools.pair import Settings, Switch

SESSIONS_MAX = 12  # with those to issuer and bank
WIRES = 20
SETTINGS = Settings(limits={"sessions_max": SESSIONS_MAX})


def answered(wires: list[Wire]) -> list[Wire]:
    found, _, _ = select.select([wire.sock for wire in wires], [], [], 0.05)
    return [wire for wire in wires if wire.sock in found]


def test_connections_beyond_the_bound_wait_and_are_served_when_others_have_ended(switch: Switch) -> None:
    room = SESSIONS_MAX - switch.ask("a")["sessions"]
    with contextlib.ExitStack() as stack:
        waiting: list[Wire] = []
        for place in range(WIRES):  # one after the other: in a burst each node may take some before it hears of the other's
            wire = stack.enter_context(Wire(switch.ports.terminals["ab"[place % 2]]))
            wire.request(card_request(fresh()))
            until(lambda wire=wire: answered([wire]) or log_lines(switch, "links.full"), "it to be answered, or all to be full")
            waiting.append(wire)
        served = until(lambda: (found := answered(waiting)) and len(found) == room and found, "as many as there is room for")
        assert switch.ask("a")["sessions"] == SESSIONS_MAX
        while waiting:
            for wire in served:
                assert wire.fields()[39] == "00"
                wire.close()
                waiting.remove(wire)
            served = until(lambda: answered(waiting), "those who wait to be answered") if waiting else []
