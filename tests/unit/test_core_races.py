"""Any order of things: both nodes propose on states that have moved on, lose proposals, die and return.

The invariants stand in invariants.py and are looked at after each entry.
"""

import random

import pytest
from engines import (
    CARDS,
    FRAMER,
    UTC,
    Pair,
    answer_to,
    card,
    link,
    network,
    no_pin,
    reversal,
    rules,
    status,
    transfer,
    without,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from invariants import check_totals
from msgspec.structs import replace

from messages.message import MessageError
from switch.core.proposals import Acked, Configure, Connected, End, Leaving, Move, Open, Piece, Snapshot
from switch.core.records import Role
from switch.core.rules import Limits, Route, Rules, StandIn

LIMITS = Limits(replay_window_ms=3_000, segment_outcomes=2, waiters_max=2, transactions_max=5, outcomes_max=4,
                journal_waiting_max=1_000)  # fmt: skip
NET = {
    "timeout_ms": 1_500, "inflight_max": 3, "lane_max": 4, "advice_retry_ms": 300, "advice_tries_max": 2,
    "echo_interval_ms": 1_000, "network_timeout_ms": 1_500,
}  # fmt: skip
HUB = {"timeout_ms": 1_500, "iso20022": {"timeout_profile": "pending"}}
POS = {"redeliver": True}
STAND_IN = StandIn(
    name="small", targets=["net"], profiles=["purchase"], currency="978", amount_max=5_000, card_amount_max=2_000,
    card_count_max=3,
)  # fmt: skip


def _given(**links) -> Rules:
    """Terminals to a network, and a second one to take its place; what neither can have is approved here."""
    base = rules(limits=LIMITS, **{"net": NET, "hub": HUB, "pos": POS, **links})
    alt = link("alt", connect=["h:5"], **{**NET, "advice_window": 3})
    routes = [Route(name="cards", source=["pos"], targets=["net", "alt"]), *base.routes[1:]]
    return replace(base, links=[*base.links, alt], routes=routes, stand_ins=[STAND_IN])


RULES = _given()
# changes of the configuration: other times, links that go, one that changes its rail, and what is no configuration
CHANGES = [
    RULES.encode(),
    _given(net={**NET, "timeout_ms": 700, "advice_window": 3}, hub={**HUB, "timeout_ms": 300}).encode(),
    _given(pos={"iso8583": replace(CARDS, partial=False)}).encode(),
    _given(hub={**HUB, "iso20022": None, "iso8583": CARDS}).encode(),
    *(without(RULES, *gone).encode() for gone in (["hub"], ["alt", "hub"], ["bank"])),
    b"none",
]
NODES = st.sampled_from("ab")
NUMBERS = st.integers(0, 9)
FORMS = 15  # of what a terminal may send
CODES = ["00", "00", "10", "51", "91", "12"]  # 91 and 12: of an advice, now and for good
COUNTS = st.sampled_from([1, 3, 99, 99])  # proposals of one entry


def _request(name: str, base: int, form: int) -> bytes:
    """A request, new or not, or its repeat, or another under its key, or an advice, or what is about another request."""
    if name == "bank":
        return transfer(base - form % 2, "11.00" if form == 9 else "10.00")
    number = 1 + base - min(form % 4, base)
    if form in (10, 11):
        return reversal(number, mti="0401" if form == 11 else "0400")
    if form == 5:
        return reversal(number, mti="0400", de95=f"{400:012d}{0:012d}C00000000C00000000")
    if form == 12:
        return reversal(number, number + 300, mti="0220", de4="000000000500")
    if form in (13, 14):
        return no_pin(number + 200)
    return card(
        number, mti={7: "0201", 8: "0220"}.get(form, "0200"), de4="000000009999" if form == 9 else "000000001000"
    )


class Remote:
    """The other end of a session: what it has sent and how much of our output it has."""

    def __init__(self) -> None:
        self.input = b""
        self.answered: set[int] = set()  # offsets of frames it answered
        self.pending = 0  # offers of its input in a queue


class Races(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.pair = Pair(RULES)
        self.queues: dict[str, list] = {"a": [], "b": []}
        self.remotes: dict[str, Remote] = {}
        self.opened = self.sent = 0
        for node, name, slot in (
            ("a", "pos", -1),
            ("b", "pos", -1),
            ("a", "net", 0),
            ("b", "net", 1),
            ("a", "alt", 0),
            ("b", "bank", -1),
            ("a", "hub", 0),
        ):
            self._open(node, name, slot)
        for node in "ab":
            self._append(node, 99)

    def _open(self, node: str, name: str, slot: int) -> None:
        self.opened += 1
        id_ = f"{name}.{self.opened}"
        self.remotes[id_] = Remote()
        peer = self.pair.state.nodes.get("b" if node == "a" else "a", "") if slot < 0 and self.opened % 3 == 0 else ""
        self.queues[node].append((("open", id_), Open(id_, name, slot, f"c{id_}", "r:1", "l:1", peer)))
        if slot >= 0:
            self.queues[node].append((("connected", id_), Connected(id_, "l:1")))

    def _append(self, node: str, count: int) -> None:
        taken, self.queues[node][:] = self.queues[node][:count], self.queues[node][count:]
        if taken:
            accepted = self.pair.append(node, *(proposal for _, proposal in taken))
            assert len(accepted) == len(taken)
            self._resolve(node, taken)

    def _resolve(self, node: str, taken: list) -> None:
        for (kind, key), _ in taken:
            if kind == "input":
                self.remotes[key].pending -= 1
            else:
                self.pair.engines[node].resolved((kind, key))

    def _seldom(self) -> bool:
        """So that most of a run is traffic."""
        return self.pair.index % 8 == 0

    def _ends(self, id_: str) -> bool:
        return any(subject == ("end", id_) for queue in self.queues.values() for subject, _ in queue)

    def _alive(self, name: str = "") -> list[str]:
        return [id_ for id_ in sorted(self.pair.state.sessions) if id_.startswith(name)]

    # --- the world

    @rule(
        name=st.sampled_from(["pos", "pos", "pos", "bank"]),
        pick=NUMBERS,
        which=st.lists(st.integers(0, FORMS - 1), min_size=1, max_size=3),
    )
    def a_terminal_or_bank_sends(self, name: str, pick: int, which: list[int]) -> None:
        """Repeats may come on another session, to the other node, at the same time."""
        sessions = self._alive(name)
        for place, number in enumerate(which if sessions else ()):
            remote = self.remotes[sessions[(pick + place) % len(sessions)]]
            self.sent += 1
            remote.input += FRAMER.frame(_request(name, self.sent // 3, number))

    @rule(
        name=st.sampled_from(["net", "net", "alt", "hub"]),
        pick=NUMBERS,
        on=NUMBERS,
        code=st.sampled_from(CODES),
        late=st.booleans(),
    )
    def a_network_answers(self, name: str, pick: int, on: int, code: str, late: bool) -> None:
        """Also twice, late, or on another session than asked."""
        sessions = self._alive(name)
        frames = [
            (id_, out)
            for id_ in sessions
            for out in self.pair.session(id_).outbox
            if out.role in (Role.FORWARD, Role.ADVICE) and (late or out.offset not in self.remotes[id_].answered)
        ]
        if frames:
            id_, out = frames[pick % len(frames)]
            self.remotes[id_].answered.add(out.offset)
            payload = FRAMER.cut(out.data).frames[0].payload
            if name in ("net", "alt"):
                answer = answer_to(payload, code, "000000000400" if code == "10" else "")
            elif b"pacs.008" not in payload[:80]:
                return
            else:
                number = int(payload.partition(b"<MsgId>M-")[2].partition(b"<")[0])
                answer = status(number, {"51": "PDNG" if late else "RJCT"}.get(code, "ACSC"))
            self.remotes[sessions[on % len(sessions)]].input += FRAMER.frame(answer)

    @precondition(lambda self: self._seldom())
    @rule(pick=NUMBERS, code=st.sampled_from(["001", "002", "301"]))
    def a_network_signs_on_or_off_or_echoes(self, pick: int, code: str) -> None:
        sessions = self._alive("net")
        if sessions:
            self.remotes[sessions[pick % len(sessions)]].input += FRAMER.frame(network("0800", code))

    @rule(on=NUMBERS, code=st.sampled_from(["00", "00", "91"]))
    def a_network_answers_an_echo(self, on: int, code: str) -> None:
        for id_ in (*self._alive("net"), *self._alive("alt")):
            for out in self.pair.session(id_).outbox:
                payload = FRAMER.cut(out.data).frames[0].payload
                if out.role is Role.NETWORK and payload[:4] == b"0800" and out.offset not in self.remotes[id_].answered:
                    self.remotes[id_].answered.add(out.offset)
                    self.remotes[id_].input += FRAMER.frame(answer_to(payload, code))

    @precondition(lambda self: self.pair.index % 3 == 0)
    @rule(pick=NUMBERS)
    def a_session_ends(self, pick: int) -> None:
        sessions = self._alive()
        if sessions:
            id_ = sessions[pick % len(sessions)]
            session = self.pair.session(id_)
            acked = session.acked + (session.output - session.acked) * (pick % 3) // 2
            written = [-1, acked, session.output, acked + (session.output - acked) // 2][pick % 4]
            if node := self._node(id_):
                self.queues[node].append((("end", id_), End(id_, acked, "closed", written)))

    @rule(pick=NUMBERS, part=st.integers(1, 4))
    def a_remote_acknowledges(self, pick: int, part: int) -> None:
        """All of the output, or some, in the middle of a frame."""
        sessions = self._alive()
        if sessions:
            session = self.pair.session(sessions[pick % len(sessions)])
            offset = session.acked + (session.output - session.acked) * part // 4
            if self._ends(session.id):
                return  # its end carries the final counter
            if (node := self._node(session.id)) and offset > session.acked:
                self.queues[node].append((("acked", 0), Acked(((session.id, offset),))))

    @precondition(lambda self: len(self._alive()) < 7)
    @rule(node=NODES, name=st.sampled_from(["pos", "pos", "net", "alt", "bank", "hub"]))
    def a_session_opens(self, node: str, name: str) -> None:
        if node in self.pair.engines and len(self._alive(name)) < 3:
            slots = [slot for slot in (0, 1) if (name, slot) not in self.pair.state.slots]
            if name in ("pos", "bank"):
                self._open(node, name, -1)
            elif slots:
                self._open(node, name, slots[0])

    # --- the nodes

    def _node(self, id_: str) -> str:
        acting = self.pair.state.acting(self.pair.session(id_).owner)
        return acting[:1] if acting[:1] in self.pair.engines else ""

    @rule(counts=st.tuples(COUNTS, COUNTS), tends=st.booleans())
    def both_nodes_work(self, counts: tuple[int, int], tends: bool) -> None:
        for node in "ab":
            self.a_node_offers(node)
            if tends:
                self.a_node_tends(node)
        for node, count in zip("ab", counts, strict=True):
            self.an_entry_is_appended(node, count)

    @rule(node=NODES)
    def a_node_offers(self, node: str) -> None:
        """All that its sessions have, on the state as it is now; it may be another one when the entry is applied."""
        engine = self.pair.engines.get(node)
        for id_ in self._alive() if engine else ():
            remote, session = self.remotes[id_], self.pair.session(id_)
            if self._node(id_) != node or remote.pending:
                continue
            start, held = session.applied, len(session.piece)
            assert session.piece == remote.input[start - held : start] and (
                not held or not FRAMER.cut(remote.input[: start - held]).need
            ), "a piece is not what was sent since the last frame"
            for frame in FRAMER.cut(remote.input[start - held :]).frames[:4]:
                end = session.applied + frame.end - held
                try:
                    proposal = engine.offer(session, start, end, frame, 0, UTC)
                except MessageError as error:
                    proposal = engine.unreadable(session, start, end, frame, error, UTC)
                self.queues[node].append((("input", id_), proposal))
                remote.pending += 1
                start = end

    @precondition(lambda self: self.pair.index % 3 == 0)
    @rule(pick=NUMBERS, size=st.integers(1, 60))
    def a_frame_fills_the_kernels_queue(self, pick: int, size: int) -> None:
        """Of a frame that is not whole what is there moves into the state."""
        sessions = [id_ for id_ in self._alive() if self._node(id_) and not self.remotes[id_].pending]
        if sessions:
            session = self.pair.session(sessions[pick % len(sessions)])
            remote, start, held = self.remotes[session.id], session.applied, len(session.piece)
            frames = FRAMER.cut(remote.input[start - held :]).frames[:1]
            size = min(size, *[frame.end - held - 1 for frame in frames], 60)
            for begin, end in ((start, start + size // 2), (start + size // 2, start + size)) if frames else ():
                if begin < end:
                    piece = Piece(session.id, begin, end, remote.input[begin:end])
                    self.queues[self._node(session.id)].append((("input", session.id), piece))
                    remote.pending += 1

    @rule(node=NODES, count=COUNTS)
    def an_entry_is_appended(self, node: str, count: int) -> None:
        if node in self.pair.engines:
            self._append(node, count)

    @precondition(lambda self: self._seldom())
    @rule(node=NODES)
    def a_queue_never_reaches_the_log(self, node: str) -> None:
        if node in self.pair.engines:
            self._drop(node)

    def _drop(self, node: str) -> None:
        taken, self.queues[node][:] = self.queues[node][:], []
        self._resolve(node, taken)

    @rule(passed=st.sampled_from([50, 250, 250, 500]), node=NODES)
    def time_passes(self, passed: int, node: str) -> None:
        self.pair.now_ms += passed
        if node in self.pair.engines:
            self.queues[node].append((("tick", 0), self.pair.engines[node].heartbeat(self.pair.now_ms)))

    @rule(node=NODES)
    def a_node_tends(self, node: str) -> None:
        if node in self.pair.engines:
            self.queues[node] += self.pair.engines[node].tend(self.pair.now_ms, UTC)

    @precondition(lambda self: self._seldom())
    @rule(node=NODES, pick=NUMBERS)
    def sessions_move(self, node: str, pick: int) -> None:
        if node in self.pair.engines:
            to = self.pair.state.nodes["b" if node == "a" else "a"]
            self.queues[node].append((("moved", 0), Move(tuple(self._alive()[pick % 3 :: 3]), to)))

    @precondition(lambda self: self._seldom() and len(self.pair.engines) == 2)
    @rule(node=NODES, held=NUMBERS)
    def a_node_dies(self, node: str, held: int) -> None:
        self._drop(node)
        theirs = [id_ for id_ in self._alive() if self._node(id_) == node]
        poison = f"{theirs[0]}@{self.pair.index}:frame" if theirs and held % 2 else ""
        self.pair.die(node, [id_ for place, id_ in enumerate(theirs) if (held + place) % 3], poison)

    @precondition(lambda self: self._seldom() and len(self.pair.engines) == 2)
    @rule(node=NODES, ends=st.booleans())
    def a_node_is_leaving(self, node: str, ends: bool) -> None:
        """It says so, and may go on for a while; or it ends, with whatever sessions it still has."""
        if ends:
            self._drop(node)
            theirs = {id_ for id_ in self._alive() if self._node(id_) == node}
            self.pair.leave(node)
            assert theirs.isdisjoint(self._alive()), "a session without a socket lives on"
        else:
            self.queues[node].append((("leaving", 0), Leaving()))

    @precondition(lambda self: self._seldom())
    @rule(node=NODES, which=st.integers(0, len(CHANGES) - 1))
    def the_configuration_changes(self, node: str, which: int) -> None:
        if node in self.pair.engines:
            self.queues[node].append((("rules", 0), Configure(CHANGES[which])))

    @precondition(lambda self: self._seldom())
    @rule(node=NODES)
    def a_node_goes_on_from_a_snapshot(self, node: str) -> None:
        if node in self.pair.engines:
            self.queues[node].append((("snapshot", 0), Snapshot(self.pair.index)))
            self.pair.reload(node)

    @precondition(lambda self: len(self.pair.engines) == 1)
    @rule()
    def a_node_returns(self) -> None:
        self.pair.restart("b" if "a" in self.pair.engines else "a")

    def teardown(self) -> None:
        """Left alone, with its networks silent, the switch comes to rest: every request has its outcome."""
        if not hasattr(self, "pair"):
            return
        for node in self.pair.engines:
            self._resolve(node, self.queues[node])
        for id_ in self._alive():
            if not id_.startswith(("net", "alt")):
                self.pair.end(id_, self.pair.session(id_).acked)
        self.pair.pass_ms(12_000)
        for _ in range(4):
            for node in self.pair.engines:
                for subject, proposal in self.pair.due(node):
                    self.pair.append(node, proposal)
                    self.pair.engines[node].resolved(subject)
            for id_ in (*self._alive("net"), *self._alive("alt")):
                self.pair.ack(id_)
        assert not self.pair.state.transactions and not self.pair.state.in_flight and not self.pair.state.pending
        check_totals(self.pair.seen, self.pair.state)


TestRaces = Races.TestCase
TestRaces.settings = settings(
    max_examples=60, stateful_step_count=80, deadline=None, suppress_health_check=list(HealthCheck)
)


def _steps(run: Races, dice: random.Random):
    """One step each, with its weight: hypothesis finds the short cruel runs, these are long and busy."""
    node, number, counts = dice.choice("ab"), dice.randrange(10), [1, 3, 99, 99]
    which = [dice.randrange(FORMS) for _ in range(dice.randint(1, 3))]
    return [
        (8, lambda: run.a_terminal_or_bank_sends(dice.choice(["pos", "pos", "bank"]), number, which)),
        (
            6,
            lambda: run.a_network_answers(
                dice.choice(["net", "net", "alt", "hub"]),
                number,
                dice.randrange(10),
                dice.choice(CODES),
                dice.random() < 0.2,
            ),
        ),
        (14, lambda: run.both_nodes_work((dice.choice(counts), dice.choice(counts)), dice.random() < 0.7)),
        (4, lambda: run.a_remote_acknowledges(number, dice.randint(1, 4))),
        (4, lambda: run.time_passes(dice.choice([50, 250, 500]), node)),
        (1.5, lambda: run.a_session_ends(number)),
        (2, lambda: len(run._alive()) < 8 and run.a_session_opens(node, dice.choice(["pos", "net", "alt", "bank", "hub"]))),
        (1, lambda: run.a_queue_never_reaches_the_log(node)),
        (1, lambda: run.sessions_move(node, number)),
        (0.5, lambda: run.a_node_dies(node, number) if len(run.pair.engines) == 2 else run.a_node_returns()),
        (0.5, lambda: len(run.pair.engines) == 2 and run.a_node_is_leaving(node, dice.random() < 0.5)),
        (0.8, lambda: run.the_configuration_changes(node, dice.randrange(len(CHANGES)))),
        (0.8, lambda: run.the_configuration_changes(node, 0)),
        (0.5, lambda: run.a_node_goes_on_from_a_snapshot(node)),
        (1, lambda: run.a_network_signs_on_or_off_or_echoes(number, dice.choice(["001", "001", "002", "301"]))),
        (2, lambda: run.a_network_answers_an_echo(number, dice.choice(["00", "00", "91"]))),
        (2, lambda: run.a_frame_fills_the_kernels_queue(number, dice.randint(1, 60))),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_a_long_busy_run_holds_the_invariants(seed):
    dice, run = random.Random(seed), Races()
    run.begin()
    for _ in range(400):
        steps = _steps(run, dice)
        dice.choices([step for _, step in steps], [weight for weight, _ in steps])[0]()
    run.teardown()
