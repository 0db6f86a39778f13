"""More connections than a node may have descriptors for: they wait until others have ended, and are not refused."""

import contextlib
import select

from switch_rig import Wire, card_request, fresh, log_lines, until

from tools.pair import Settings, Switch

OWN = 4  # of each node one to the issuer and one to the bank
ROOM = 8
WAITING = 12
SETTINGS = Settings(timeout_ms=60_000, limits={"sessions_max": OWN + ROOM})


def answered(wires: list[Wire]) -> list[Wire]:
    found, _, _ = select.select([wire.sock for wire in wires], [], [], 0.05)
    return [wire for wire in wires if wire.sock in found]


def know(switch: Switch, sessions: int) -> None:
    """A node hears of the other's sessions by the log: until both have, either may take one more than there is room for."""
    until(lambda: all(switch.ask(node)["sessions"] == sessions for node in "ab"), f"both nodes to know {sessions} sessions")


def test_connections_beyond_the_bound_wait_and_are_served_when_others_have_ended(switch: Switch) -> None:
    know(switch, OWN)
    with contextlib.ExitStack() as stack:

        def connect(count: int) -> list[Wire]:
            wires = []
            for place in range(count):
                wires.append(stack.enter_context(Wire(switch.ports.terminals["ab"[place % 2]])))
                wires[-1].request(card_request(fresh()))
            return wires

        served = connect(ROOM)
        until(lambda: len(answered(served)) == ROOM, "as many to be answered as there is room for")
        know(switch, OWN + ROOM)
        waiting = connect(WAITING)
        until(lambda: log_lines(switch, "links.full"), "a node to say that all is full")
        assert not answered(waiting)
        know(switch, OWN + ROOM)
        while served:
            for wire in served:
                assert wire.fields()[39] == "00"
                wire.close()
            served = until(lambda left=waiting: answered(left), "those who wait to be answered") if waiting else []
            waiting = [wire for wire in waiting if wire not in served]
