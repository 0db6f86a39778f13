"""The connections of a scenario in virtual time: what the session layer does for a node, modelled as plainly as it can be.

Input lies in the kernel until an entry takes it; output above what was delivered is delivered and, unless its receiver takes
no more, acknowledged at once.
"""

from typing import Any

from engines import UTC, Pair
from journal_twin import Database

from messages.message import MessageError
from switch.core.proposals import Acked, Connected, End, Open
from switch.core.records import Session
from tools.scenarios.script import Scenario
from tools.scenarios.speech import Speech, speech
from tools.scenarios.world import Arrived, How

HOST = "127.0.0.1"  # of all actors, as on real processes: terminals of a link are one concentrator's
SETTLE_MAX = 2_000  # rounds until nothing changes any more


class Stream:
    """One connection: what its actor has written, and how far it has read."""

    def __init__(self, id_: str, actor: str, link: str) -> None:
        self.id, self.actor, self.link = id_, actor, link
        self.input = bytearray()
        self.came: list[tuple[int, float]] = []  # (offset behind it, time) of what was written
        self.delivered = 0
        self.limit: int | None = None  # what the actor's kernel takes of the output
        self.unread = b""
        self.fin_ms: float | None = None
        self.gone = False  # closed by its actor: what is written to it comes to nobody
        self.over = False  # the session is over


class Connections:
    """Of all actors, with a pair of engines. The methods of tools.scenarios.world.World that are about bytes."""

    def __init__(self, scenario: Scenario, pair: Pair) -> None:
        self.pair = pair
        self.journal = Database()
        self.held = False  # the switch holds: nothing is read, due or written
        self._scenario = scenario
        self._links: list[dict[str, Any]] = scenario.table["link"]
        self._speeches: dict[str, Speech] = {}
        self._streams: dict[str, Stream] = {}
        self._of: dict[str, Stream] = {}  # actor: its present connection
        self._listening: set[str] = set()
        self._arrived: list[Arrived] = []
        self._opened = 0
        for host in scenario.hosts:
            if host not in scenario.by_hand:
                self.listen(host)

    def connect(self, actor: str, at: str) -> None:
        link = self._scenario.link_of(actor)["name"]
        digits = int("".join(filter(str.isdecimal, actor)) or 1)
        live = list(self.pair.engines)
        node = at or live[(digits - 1) % len(live)]
        self._of[actor] = self._open(actor, link, node, -1)

    def _open(self, actor: str, link: str, node: str, slot: int) -> Stream:
        self._opened += 1
        stream = Stream(f"{link}.{self._opened}", actor, link)
        remote, local = f"{HOST}:{self._opened}", "switch:1"
        accepted = self.pair.append(node, Open(stream.id, link, slot, f"boot:{self._opened}", remote, local, ""))
        if accepted != [True]:
            stream.over = True
            return stream
        self._streams[stream.id] = stream
        if slot >= 0:
            self.pair.append(node, Connected(stream.id, local))
        return stream

    def leave(self, actor: str, how: How) -> None:
        stream = self._of[actor]
        self.settle()
        stream.fin_ms = self.pair.now_ms
        stream.gone = how != "half-closes"
        if how == "resets":
            self._end(stream, self.session(stream), "reset by remote")

    def connected(self, actor: str) -> bool:
        if actor in self._scenario.hosts:
            return any(stream.actor == actor for stream in self._streams.values())
        stream = self._of.get(actor)
        return stream is not None and not stream.gone and not stream.over

    def listen(self, host: str) -> None:
        self._listening.add(host)
        self.settle()

    def disconnect(self, host: str) -> None:
        self.settle()
        self._listening.discard(host)
        for stream in [each for each in self._streams.values() if each.actor == host]:
            self._end(stream, self.session(stream), "closed by remote")

    def session(self, stream: Stream) -> Session | None:
        return self.pair.state.sessions.get(stream.id)

    def _end(self, stream: Stream, session: Session | None, reason: str, *, alive: bool = False) -> None:
        """As Sessions.end: what a connection that still lives was given may yet arrive; else acknowledged bytes count."""
        if session is not None:
            written = session.output if stream.limit is None else min(stream.limit, session.output)
            self.pair.append(
                self.node(session), End(stream.id, session.output if alive else session.acked, reason, written)
            )
        stream.over = True
        self._streams.pop(stream.id, None)

    def node(self, session: Session) -> str:
        return self.pair.state.acting(session.owner)[0]

    # --- bytes

    def write(self, actor: str, stream: str, data: bytes) -> None:
        chosen = self._streams.get(stream) or self.stream_of(actor)
        chosen.input += data
        chosen.came.append((len(chosen.input), self.pair.now_ms))

    def stream_of(self, actor: str) -> Stream:
        self.settle()
        if actor in self._scenario.hosts:
            return next(each for each in self._streams.values() if each.actor == actor)
        return self._of[actor]

    def take(self, actor: str, extent: int | None) -> None:
        self.settle()
        for stream in self._streams.values():
            if stream.actor == actor:
                stream.limit = None if extent is None else stream.delivered + extent

    def arrivals(self) -> list[Arrived]:
        self.settle()
        arrived, self._arrived = self._arrived, []
        return arrived

    # --- the work of the nodes, until there is none

    def settle(self) -> None:
        if self.held:
            return
        for _ in range(SETTLE_MAX):
            if not (
                self._connect_hosts() | self._input() | self._due() | self._output() | self.journal.take(self.pair)
            ):
                return
        raise AssertionError("what is due never ends")

    def _connect_hosts(self) -> bool:
        """Slots of hosts that listen are the live nodes' in turn."""
        live, before = list(self.pair.engines), self._opened
        for link in self._links:
            for slot in range(link.get("connections", 0)) if link["name"] in self._listening else ():
                if (link["name"], slot) not in self.pair.state.slots:
                    self._open(link["name"], link["name"], live[slot % len(live)], slot)
        return self._opened != before

    def _input(self) -> bool:
        worked = False
        for stream in list(self._streams.values()):
            while (session := self.session(stream)) is not None and self._offer(stream, session):
                worked = True
        return worked

    def _offer(self, stream: Stream, session: Session) -> bool:
        """Offer the next frame of a session's input. Whether anything came of it."""
        node = self.node(session)
        engine = self.pair.engines[node]
        session = engine.state.sessions[stream.id]
        wire = engine.wires[session.link]
        cuts = wire.framer.cut(bytes(stream.input[session.applied :]))
        if not cuts.frames:
            if cuts.error is not None:
                self._end(stream, session, "unreadable frame", alive=True)
            return cuts.error is not None
        frame, start = cuts.frames[0], session.applied
        end = start + frame.end
        written_ms = next(at for offset, at in stream.came if offset >= end)
        try:
            age_ms = int(self.pair.now_ms - written_ms)
            proposal = engine.offer(session, start, end, frame, age_ms, UTC)
        except MessageError as error:
            if wire.link.unparseable == "close":
                self._end(stream, session, "unparseable message", alive=True)
                return True
            proposal = engine.unreadable(session, start, end, frame, error, UTC)
        assert self.pair.append(node, proposal) == [True], f"{proposal!r} is refused although nothing came between"
        return True

    def _due(self) -> bool:
        worked = bool(self.pair.tend())
        for stream in list(self._streams.values()):
            session = self.session(stream)
            if session is None:
                stream.over = True
                del self._streams[stream.id]
                worked = True
            elif stream.fin_ms is not None:
                worked |= self._half_closed(stream, session)
        return worked

    def _half_closed(self, stream: Stream, session: Session) -> bool:
        """As Sessions.half_closed: it ends when it is owed nothing more, or after the link's patience."""
        limit = self.pair.engines[self.node(session)].wires[session.link].link.half_close_ms
        owed = session.waiting or session.acked < session.output
        late = self.pair.now_ms - (stream.fin_ms or 0) > limit
        refused = stream.gone and session.output > stream.delivered  # the kernel answers with a reset
        if owed and not late and not refused:
            return False
        self._end(stream, session, "closed by remote", alive=not stream.gone)
        return True

    def _output(self) -> bool:
        """Deliver what stands in outboxes, and acknowledge it."""
        worked = False
        for stream in list(self._streams.values()):
            session = self.session(stream)
            if session is None or stream.gone or session.output <= stream.delivered:
                continue
            reach = session.output if stream.limit is None else min(session.output, stream.limit)
            if reach > stream.delivered:
                self._deliver(stream, session, reach)
                self.pair.append(self.node(session), Acked(((stream.id, reach),)))
                worked = True
        return worked

    def _deliver(self, stream: Stream, session: Session, reach: int) -> None:
        for out in session.outbox:
            first, last = max(stream.delivered - out.offset, 0), reach - out.offset
            stream.unread += out.data[first : max(last, 0)]
        stream.delivered = reach
        spoken = self._speech(stream.link)
        cuts = spoken.framer.cut(stream.unread)
        assert cuts.error is None, "the switch wrote what is no frame"
        if cuts.frames:
            stream.unread = stream.unread[cuts.frames[-1].end :]
        for frame in cuts.frames:
            self._frame(stream, spoken, Arrived(stream.actor, stream.id, frame.header, frame.payload))

    def _frame(self, stream: Stream, spoken: Speech, arrived: Arrived) -> None:
        if stream.actor in self._scenario.hosts and stream.actor not in self._scenario.by_hand and arrived.payload:
            answer = spoken.manners(spoken.read(arrived.payload))
            if answer is not None:
                header = spoken.framer.answer_header(arrived.header)
                self.write(stream.actor, stream.id, spoken.framer.frame(answer, header))
                return
        self._arrived.append(arrived)

    def _speech(self, link: str) -> Speech:
        if link not in self._speeches:
            self._speeches[link] = speech(next(each for each in self._links if each["name"] == link))
        return self._speeches[link]
