"""Nodes die at every named point while traffic runs. No session ends, nothing is lost or doubled, the pair is whole again."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from switch_rig import ALL, DECLINED_PAN, Traffic, Wire, card_request, clean, hashes_agree, log_lines, until

from switch.points import POINTS
from tools.fdstore import FdStore
from tools.kills import duplex
from tools.pair import Settings, Switch
from tools.scenarios import armed

LIMITS = {"heartbeat_ms": 100, "snapshot_entries": 100}
SETTINGS = Settings(limits=LIMITS, pair={"data_key_minutes": 0.005})
KILLED = -signal.SIGKILL

# how a node is brought to the point, and at which time it gets there it dies
AT_WORK = {
    "append.before": 40, "append.after": 40, "apply.before": 150, "apply.after": 150,
    "consume.before": 20, "consume.after": 20, "write.before": 30, "write.after": 30,
    "offer.before": 20, "offer.after": 20,
    "key.before": 3, "key.after": 3, "destroy.before": 3, "destroy.after": 3,
}  # fmt: skip
AT_NEW_CONNECTIONS = {"accept.before": 2, "accept.after": 2, "share.before": 2, "share.after": 2}
BEFORE_IT_IS_LIVE = {"join.after": 1, "live.before": 1}
# as soon as it is live its peer gives it sessions: it adopts some before it says that it serves, or after
AS_SESSIONS_COME = {"adopt.before": 3, "adopt.after": 3}
WHILE_STARTING = {**BEFORE_IT_IS_LIVE, **AS_SESSIONS_COME}
WHEN_THE_PEER_RETURNS = {"move.before": 1, "move.after": 1}
WHEN_IT_LEAVES = {"leave.before": 1}
AS_THE_LEAD = {"snapshot.before": 1, "snapshot.after": 1}
TOGETHER = {**AT_WORK, **AT_NEW_CONNECTIONS, **WHILE_STARTING, **WHEN_THE_PEER_RETURNS, **WHEN_IT_LEAVES}
# the connection that is between accept() and the peer ends with the node: nothing was read from it yet
ONE_NEWCOMER_ENDS = ("accept.after", "share.before")
AS_THE_HEIR = {"heir.before": 1, "heir.after": 1, "adopt.before": 5, "adopt.after": 5}
AT_THE_NETWORK = {"connect.before": 1, "connect.after": 1}
AT_THE_DATABASE = ("journal.before", "journal.after")  # in test_journal.py: there is none here

# each point on both nodes takes twice as long: with ALL; else on one, in turns
CASES = [
    (point, node) for node in "ab" for turn, point in enumerate(TOGETHER) if ALL or node == "ab"[turn // 2 % 2]
] + [(point, "a") for point in AS_THE_LEAD]  # fmt: skip


def armable(directory: Path) -> Switch:
    """A switch whose nodes look for a file of their own, which names the point where they die. See tools.scenarios.armed."""
    switch = Switch(directory, SETTINGS, program="tools.scenarios.armed")
    for node, process in switch.nodes.items():
        process.environment = {armed.VARIABLE: str(arm_of(switch, node))}
    return switch


def arm_of(switch: Switch, node: str) -> Path:
    return switch.directory / f"arm-{node}"


class Lives:
    """Starts and ends nodes, armed and not."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self._serving: dict[str, int] = {}

    def start(self, node: str, point: str = "", count: int = 0) -> None:
        """The next life of a node; it dies when it gets to the point for the `count`-th time of this life."""
        process = self.switch.nodes[node]
        process.kill()
        process.environment.pop("SWITCH_POINT", None)
        if point:
            process.environment["SWITCH_POINT"] = f"{point}:{count}"
        self._serving[node] = len(log_lines(self.switch, "node.serving", nodes=node))
        process.start()

    def arm(self, node: str, point: str, count: int) -> None:
        """A node that serves dies when it gets to the point for the `count`-th time from now on."""
        file = arm_of(self.switch, node)
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{point}:{count}")
        fresh.rename(file)

    def served(self, node: str) -> bool:
        return len(log_lines(self.switch, "node.serving", nodes=node)) > self._serving[node]

    def whole(self) -> None:
        """Wait until both nodes serve."""
        until(lambda: duplex(self.switch), "the pair to be whole")
        for node in "ab":
            self.switch.wait_ready(node)

    def shared(self, node: str) -> None:
        """Wait until a node that has come back has been given its share of the sessions."""

        def given() -> bool:
            known, rows = self.switch.ask(node)["incarnations"], self.switch.ask(node, "sessions")["sessions"]
            acting = [row["owner"] for row in rows]
            while heirs := {each: heir for each in acting if (heir := known[each]["heir"])}:
                acting = [heirs.get(each, each) for each in acting]
            return sum(each.startswith(node) for each in acting) > len(rows) // 3

        until(given, f"{node} to have its share")

    def died(self, node: str, point: str) -> None:
        """Wait for the death of a node: at its point, and by itself."""
        process = self.switch.nodes[node]
        until(lambda: not process.running(), f"{node} to die at {point}")
        assert process.wait() == KILLED
        assert not arm_of(self.switch, node).exists()


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    with armable(tmp_path_factory.mktemp("pair") / "switch") as pair:
        yield pair


@pytest.fixture(scope="module")
def traffic(switch: Switch) -> Iterator[Traffic]:
    with Traffic(switch, rate=100) as running:
        yield running


@pytest.fixture(scope="module")
def lives(switch: Switch) -> Lives:
    return Lives(switch)


def newcomers(switch: Switch, going_on: Callable[[], bool]) -> int:
    """Connect and ask, one after the other; how many got no answer. What they ask is never booked."""
    unanswered = 0
    while going_on():
        try:
            with Wire(switch.ports.terminals["a" if unanswered % 2 else "b"]) as wire:
                assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"
        except (OSError, EOFError):
            unanswered += 1
    return unanswered


@pytest.mark.parametrize(("point", "node"), CASES)
def test_a_node_dies_at(point: str, node: str, switch: Switch, traffic: Traffic, lives: Lives) -> None:
    count = {**TOGETHER, **AS_THE_LEAD}[point]
    process, other = switch.nodes[node], "ba"["ab".index(node)]
    if point in WHILE_STARTING:
        lives.start(node, point, count)
    else:
        lives.arm(node, point, count)
    if point in AT_NEW_CONNECTIONS:
        assert newcomers(switch, process.running) <= (1 if point in ONE_NEWCOMER_ENDS else 0)
    elif point in WHEN_THE_PEER_RETURNS:
        lives.start(other)
    elif point in WHEN_IT_LEAVES:
        process.signal(signal.SIGTERM)
    lives.died(node, point)
    if point in BEFORE_IT_IS_LIVE:
        assert not lives.served(node)
    lives.start(node)
    lives.whole()
    traffic.more(20)


def test_every_point_has_its_case() -> None:
    assert {*TOGETHER, *AS_THE_LEAD, *AS_THE_HEIR, *AT_THE_NETWORK, *AT_THE_DATABASE} == set(POINTS)


def test_nothing_was_lost_or_doubled_and_every_session_stayed_open(
    switch: Switch, traffic: Traffic, lives: Lives
) -> None:
    hashes_agree(switch, 3)
    traffic.more(100)
    clean(switch, traffic)


def test_a_node_dies_while_it_connects_to_a_network(tmp_path: Path) -> None:
    with armable(tmp_path / "switch") as switch:
        lives = Lives(switch)
        with Traffic(switch, traffic="cards", rate=60) as traffic:  # the bank, which goes away, has nothing to do
            for turn, (point, count) in enumerate(AT_THE_NETWORK.items()):
                for node in "ab" if ALL else "ab"[turn % 2]:
                    lives.arm(node, point, count)
                    switch.replace_simulator("bank")
                    lives.died(node, point)
                    lives.start(node)
                    lives.whole()
                    traffic.more(20)
            clean(switch, traffic)


@pytest.mark.timeout(300)
def test_the_heir_dies_in_its_takeover_and_whoever_starts_next_goes_on(tmp_path: Path) -> None:
    """Both are dead then. Their sockets are in their units' stores; nobody's session ends."""
    with armable(tmp_path / "switch") as switch, contextlib.ExitStack() as stack:
        lives = Lives(switch)
        stack.callback(switch.stop_nodes)
        for node in "ab":
            switch.nodes[node].store = stack.enter_context(FdStore(tmp_path / f"{node}.notify"))
        with Traffic(switch, rate=60) as traffic:
            for node in "ab":
                lives.start(node)
                lives.whole()
            for turn, (point, count) in enumerate(AS_THE_HEIR.items()):
                for node, other in ("ab", "ba") if ALL else (("ab", "ba")[turn % 2],):
                    lives.shared(other)  # else there is nothing to adopt, or it is adopted before it is armed
                    lives.shared(node)
                    lives.arm(node, point, count)
                    switch.nodes[other].kill()
                    lives.died(node, point)
                    for each in node, other:
                        lives.start(each)
                    lives.whole()
                    traffic.more(20)
            clean(switch, traffic)
