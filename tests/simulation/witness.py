"""Sees what happens in a world and tells it: as rows of a drawing, and as facts that a script can wait for.

It applies the log as a third replica at the moment etcd commits an entry, and so knows what each entry did before either
node does. Of the product it changes nothing, unless a script says so: `withheld` appends reach etcd later.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import etcd_calls
from drawing import Drawing
from etcd_store import Txn
from outside import DIALECT
from transfers import Order, read
from words import Words
from world import Killed, Process

from switch.core import apply_advices, apply_pair, apply_payments, apply_sessions  # noqa: F401 - they enter their rules
from switch.core.fold import Fold
from switch.core.proposals import Open, Tick, decode_entry
from switch.core.records import Session, Stage, Transaction
from switch.core.state import State, outcome_key
from switch.mirror.keys import Keys, Position, decode_fence
from switch.mirror.sealing import Sealer
from switch.node import Node
from switch.points import POINTS
from switch.sessions.connection import Connection
from switch.sessions.polling import Polling
from switch.succession import Succession

LOG = "log"
SAID = {  # log events that are part of a story
    "peer.suspect": "suspects {incarnation}",
    "switch.held": "holds",
    "switch.resumed": "goes on",
    "node.serving": "serves as {incarnation}",
    "store.restored": "gets {sockets} from its fd store",
    "session.unknown": "has a socket of a session that is over: closes it",
    "append.settling": "settles its append by an empty entry",
    "mirror.started": "has read the log",
    "log.truncated": "truncates the log below its snapshot",
    "input.quarantined": "two owners died at this frame: it is not looked at",
    "watch.gap": "its watch has a gap: it reads the log",
    "snapshot.loaded": "loads the snapshot",
}


class Witness:
    """`tell` is called with each fact at the very moment: "a appends Request", "ISSUER hears 0200"."""

    def __init__(self, simulation: Any, drawing: Drawing, key_file: str, tell: Callable[[str], None]) -> None:
        self.state = State()
        self.lines: dict[str, str] = {}  # whose the remote address of a session is
        self.withheld: dict[str, list[Any]] = {}  # calls that etcd does not get yet, by "a Request"
        self._drawing, self._tell = drawing, tell
        self._simulation, self._world, self._cluster = simulation, simulation.world, simulation.cluster
        self._names: dict[str, str] = {}  # of sessions: TERM0001, TERM0001/2
        self._words = Words(self.state, self._names)
        self._fold = Fold(self.state)
        self._keys, self._sealer = Keys("sim"), Sealer(key_file)
        self._kinds: dict[int, list[str]] = {}  # of the proposals of an entry, by its index
        self._drawn = 0  # entries
        self._diverted: list[Any] | None = None
        self._late: dict[str, None] = {}  # parties whose line is silent while something is written to them

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        network, cluster, world, checks = self._simulation.network, self._cluster, self._world, self._simulation.checks
        cluster.on_put.append(self._put)
        network.observe = _both(network.observe, self._touched)
        checks.told = _both(checks.told, self._told)
        world.trace, world.called = self._traced, self._called
        txn, send = cluster.store.txn, cluster.send
        cluster.store.txn = lambda request: self._answered(request, txn(request))
        cluster.send = lambda call: self._send(call, send)
        with (
            _before(etcd_calls.SimEndpoint, "Txn", self._append),
            _before(Node, "apply", self._applies),
            _before(Polling, "poll", lambda polling: self._fact(f"{self._who} polls")),
            _before(Succession, "received", self._received),
            _after(Connection, "adopt", self._adopted),
        ):
            yield

    @property
    def _who(self) -> str:
        return self._world.process.name if self._world.process else "?"

    def _fact(self, text: str) -> None:
        """Whoever waited for it may have killed the process whose code runs now."""
        self._tell(text)
        process = self._world.process
        if process is not None and not process.alive:
            raise Killed

    def _owner(self, name: str) -> str:
        """The node that acts for the newest connection of a party, or will when its session is there."""
        address, node = self._simulation.connection_of(name)
        for id_, session in reversed(self.state.sessions.items()):
            if self._party(id_) == name and address in ("", session.remote):
                return self.state.acting(session.owner)[:1]
        return node

    def parties(self) -> dict[str, str]:
        """Who has a session that can carry something: its id."""
        return {self._party(id_): id_ for id_, session in self.state.sessions.items() if session.ready}

    def end(self, name: str) -> Any:
        """The switch's end of the connection of a party."""
        return self._end(self.state.sessions[self.parties()[name]])

    def outbound(self, node: str = "") -> list[Any]:
        """The switch's ends of the connections to the issuer, of one node or of both."""
        sessions = [session for session in self.state.sessions.values() if not session.accepted]
        return [self._end(session) for session in sessions if self.state.acting(session.owner).startswith(node)]

    def _end(self, session: Session) -> Any:
        cookie = int(session.cookie.rpartition(":")[2], 16)
        wires = self._simulation.network.live.values()
        return next(end for wire in wires for end in (wire.connecting, wire.accepted) if end.cookie == cookie)

    def _party(self, session: str) -> str:
        return self._names[session].partition("/")[0]

    # --- the log

    def _open(self, txn: Txn) -> tuple[Position, list[Any]] | None:
        """The entry that a transaction puts."""
        for op in txn.success:
            if op[0] == "put" and op[1].startswith(self._keys.log):
                return self._keys.position(op[1]), decode_entry(self._sealer.open(op[1], op[2]))
        return None

    def _append(self, endpoint: Any, request: Any, *_: Any, **__: Any) -> None:
        """A node is about to send a transaction."""
        entry = self._open(Txn(request))
        self._diverted = None
        for kind in _kinds(entry[1]) if entry else ():
            self._fact(f"{self._who} appends {kind}")
            self._diverted = self.withheld.get(f"{self._who} {kind}", self._diverted)

    def _send(self, call: Any, send: Callable[[Any], None]) -> None:
        if self._diverted is None:
            send(call)
        else:
            self._diverted.append(call)
            self._diverted = None

    def _answered(self, txn: Txn, answer: Any) -> Any:
        """etcd has carried out a transaction, or has refused it by its guards."""
        entry = self._open(txn) if not answer.succeeded else None
        if entry is not None:
            position, proposals = entry
            fence = decode_fence(self._cluster.store.live[self._keys.fence(position.node)].value)
            if fence.dead or fence.incarnation != position.incarnation:
                self._drawing.arrow(position.node, LOG, self._words.of(proposals, [True] * len(proposals))[0])
                self._drawing.note(LOG, f"refused: {position.node}{position.incarnation} is fenced")
                self._tell(f"log refuses {type(proposals[0]).__name__}")
            elif fence.sequence < position.sequence:
                self._drawing.arrow(position.node, LOG, self._words.of(proposals, [True] * len(proposals))[0])
                self._drawing.note(LOG, "not appended: the other's fence has moved on")
        return answer

    def _put(self, key: bytes, value: bytes) -> None:
        """etcd has committed an entry."""
        if not key.startswith(self._keys.log):
            return
        position, proposals = self._keys.position(key), decode_entry(self._sealer.open(key, value))
        state, before = self.state, dict(self.state.transactions)
        for each in proposals:
            if isinstance(each, Open):
                self._name(each)
        self._words.begin()
        applied = self._fold.apply(f"{position.node}{position.incarnation}", state.index + 1, 0, proposals)
        kinds = self._kinds[state.index] = _kinds(proposals)
        if kinds or not proposals:
            self._draw(position.node, self._words.of(proposals, applied.accepted))
            for note in applied.notes:
                if note.event == "session.ended" and "End" not in kinds:
                    self._drawing.note(LOG, f"{self._names[note.fields['session']]} ends: {note.fields['reason']}")
            for text in self._moved(before):
                self._drawing.note(LOG, text)
        for kind in kinds:
            self._tell(f"log has {kind}")

    def _draw(self, node: str, words: list[str]) -> None:
        if not self._drawing.closed:
            self._drawn += 1
            self._drawing.arrow(node, LOG, f"{self._drawn} {words[0] if words else '(nothing)'}")
            for word in words[1:]:
                self._drawing.arrow(node, LOG, f"{self._drawn} {word}")

    def _moved(self, before: dict[int, Transaction]) -> Iterator[str]:
        """What became of transactions."""
        after = self.state.transactions
        for number in sorted({*before, *after}):
            old, new = before.get(number), after.get(number)
            if new is None and old is not None:
                kept = self.state.outcomes.get(outcome_key(old.link, old.duplicate_key))
                yield f"{number} is FINISHED: {kept.outcome.code}" if kept else f"{number} is let go"
            elif new is not None and (old is None or new.stage != old.stage) and new.stage is not Stage.SENT:
                yield f"{number} is {new.stage.name}: {new.outcome.code if new.outcome else ''}"

    def _name(self, open_: Open) -> str:
        """A session's name is its party's; a later one of the same party has a number."""
        if open_.session not in self._names:
            party = self.lines.get(open_.remote, "CREDITOR" if open_.link in self._simulation.creditor.networks else "ISSUER")
            count = sum(name.partition("/")[0] == party for name in self._names.values()) + 1
            self._names[open_.session] = party if count == 1 else f"{party}/{count}"
        return self._names[open_.session]

    # --- the nodes

    def _applies(self, node: Node, entry: Any) -> None:
        for kind in self._kinds[entry.index]:
            self._fact(f"{node.node} applies {kind}")

    def _called(self, process: Process, name: str) -> None:
        if name in POINTS:
            self._fact(f"{process.name} is at {name}")

    def _received(self, succession: Succession, opens: tuple[Open, ...], *_: Any) -> None:
        names = [self._name(each) for each in opens if each.session not in succession._sessions.connections]
        if names:
            self._drawing.note(self._who, f"gets the socket{'s' * (len(names) > 1)} of {', '.join(names)}")

    def _adopted(self, state: int, connection: Connection, session: Session, *_: Any) -> None:
        """What the kernel says of a socket that somebody else had, against the state."""
        me = self._simulation.units[self._who].node.engine.incarnation
        if not session.applied and not session.output and session.owner == me:
            return  # new, and its own
        name = self._names[session.id]
        consumed = f"consumed {connection.consumed} of {session.applied}"
        written = f"written {connection.written} of {session.output}"
        self._drawing.note(self._who, f"adopts {name}: {consumed}, {written}")
        self._fact(f"{self._who} adopts {name}")

    def _told(self, process: Process | None, level: int, name: str, fields: dict[str, Any]) -> None:
        if process is not None and name in SAID:
            text = SAID[name].format(**fields)
            if fields.get("reason") == "silent":  # the other hints mean an end, and which comes first says nothing
                text += ": silent"
            self._drawing.note(process.name, text)
            self._tell(f"{process.name} {text}")

    # --- the wire

    def _touched(self, kind: str, process: Process, end: Any, offset: int, size: int) -> None:
        session = next((s for s in self.state.sessions.values() if s.cookie.endswith(f":{end.cookie:x}")), None)
        if session is None:
            return
        name = self._names[session.id]
        if kind == "read":
            self._drawing.note(process.name, f"consumes {size} of {name}")
            return
        for out in session.outbox:
            first, last = max(out.offset, offset), min(out.end, offset + size)
            if first < last:
                text = _label(self._simulation.units[process.name].node.keys.open(out.data))
                if last - first < len(out.data):
                    part = f"first {last - first}" if first == out.offset else f"other {last - first}"
                    text = f"{part} of {len(out.data)} bytes: {text}"
                self._drawing.arrow(process.name, self._party(session.id), f"{text}{self._fate(end, session.id)}")
                self._fact(f"{process.name} writes to {name}")

    def _fate(self, end: Any, session: str) -> str:
        """What becomes of bytes that are written now."""
        if end.wire.cut_until == math.inf:
            return ", lost"
        if end.wire.cut_until > self._world.now:
            self._late[self._party(session)] = None
            return ", late"
        return ""

    def _traced(self, who: str, text: str) -> None:
        """What the world outside says of itself, and units of their processes."""
        verb, _, rest = text.partition(" ")
        columns = self._drawing.columns
        if who not in columns:
            return
        if who in "ab":
            if verb in ("starts,", "exits", "exits:", "killed", "dies"):
                self._drawing.note(who, text.partition(",")[0])
                self._tell(f"{who} {verb.strip(',:')}")
            return
        mti, code = rest.partition(" ")[0], rest.partition("DE39=")[2] or rest.partition("status=")[2]
        if verb == "sends":
            self._drawing.arrow(who, self._owner(who), f"{mti} {code}".strip())
        elif verb == "hears" and who in self._late:
            del self._late[who]
            self._drawing.note(who, f"hears {mti} {code}")
        if verb in ("sends", "hears"):
            self._tell(f"{who} {verb} {mti}")
        elif not text.startswith("does not answer"):
            self._drawing.note(who, text)


def _kinds(proposals: list[Any]) -> list[str]:
    return [type(each).__name__ for each in proposals if not isinstance(each, Tick)]


def _label(data: bytes) -> str:
    """Message type and response code, or status, of a frame."""
    if data[2:3] == b"<":
        it = read(data[2:])
        return "pacs.008" if isinstance(it, Order) else f"pacs.002 {it.status}"
    body = DIALECT.decode(data[2:])
    return f"{body.mti} {body.fields.get(39, '')}".strip()


def _both(first: Any, second: Any) -> Any:
    def call(*args: Any) -> None:
        first(*args)
        second(*args)

    return call


@contextlib.contextmanager
def _before(owner: type, name: str, look: Callable[..., None]) -> Iterator[None]:
    """Look at each call of a method first."""
    real = getattr(owner, name)

    def seen(*args: Any, **named: Any) -> Any:
        look(*args, **named)
        return real(*args, **named)

    with mock.patch.object(owner, name, seen):
        yield


@contextlib.contextmanager
def _after(owner: type, name: str, look: Callable[..., None]) -> Iterator[None]:
    """Look at what each call of a method returned."""
    real = getattr(owner, name)

    def seen(*args: Any, **named: Any) -> Any:
        found = real(*args, **named)
        look(found, *args, **named)
        return found

    with mock.patch.object(owner, name, seen):
        yield
