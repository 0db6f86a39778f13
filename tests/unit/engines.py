"""Two engines that apply one log in memory, in virtual time, with the frames of terminals, networks and banks.

`Pair` keeps no rules of its own: what it appends, both engines apply, and invariants.py looks at both after each entry.
"""

from collections.abc import Iterable, Sequence

import invariants
from msgspec.structs import replace

from messages.framing import Frame, Framer
from messages.iso8583.codec import Iso8583Codec
from messages.iso8583.options import Iso8583Options
from messages.iso20022.options import Iso20022Options
from messages.message import MessageError
from switch.core import snapshot
from switch.core.engine import Engine
from switch.core.fold import Applied
from switch.core.proposals import (
    OLDEST,
    VERSION,
    Acked,
    Activate,
    Configure,
    Connected,
    End,
    Heir,
    Input,
    Join,
    Leave,
    Live,
    Open,
    Proposal,
    decode_entry,
    encode_entry,
)
from switch.core.records import Out, Role, Session, Transaction
from switch.core.rules import Limits, Link, Route, Rules

FRAMING = "2-byte-be"
FRAMER = Framer.of(FRAMING, header="none", maximum=65_536)
CARDS = Iso8583Options(sign_on=False)
CARD_CODEC = Iso8583Codec(CARDS)
DIALECT = CARD_CODEC.dialect
UTC = 1_780_000_000.0
HEARTBEAT_MS = 250


def link(name: str, **changes: object) -> Link:
    """A link of cards, or of transfers when it is named so; a listener unless it says `connect`."""
    given: dict[str, object] = {"name": name, "framing": FRAMING}
    given |= {"iso20022": Iso20022Options()} if name in ("bank", "hub") else {"iso8583": CARDS}
    given |= {} if "connect" in changes else {"listen": {"a": "h:1", "b": "h:2"}}
    return Link(**{**given, **changes})  # type: ignore[arg-type]


def rules(*, limits: Limits | None = None, **links: dict[str, object]) -> Rules:
    """Terminals to a network, banks to a hub. Keywords change links by name: net={"timeout_ms": 5}."""
    given: dict[str, dict[str, object]] = {
        "pos": {},
        "net": {"connect": ["h:3"]},
        "bank": {},
        "hub": {"connect": ["h:4"]},
    }
    return Rules(
        links=[link(name, **{**given[name], **links.get(name, {})}) for name in given],
        routes=[
            Route(name="cards", source=["pos"], targets=["net"]),
            Route(name="transfers", source=["bank"], targets=["hub"]),
        ],
        limits=limits or Limits(),
    )


def without(given: Rules, *gone: str) -> Rules:
    """The same with these links gone, and the routes that need them."""
    return replace(
        given,
        links=[link for link in given.links if link.name not in gone],
        routes=[route for route in given.routes if not {*gone} & {*route.source, *route.targets}],
    )


class Pair:
    """Two live nodes. Each `append` is one entry, of `version`; both apply it at the present time."""

    def __init__(self, given: Rules | None = None, nodes: str = "ab", version: int = VERSION) -> None:
        self.engines = {node: Engine(node) for node in nodes}
        self.log: list[tuple[str, bytes]] = []
        self.now_ms = 0.0
        self.seen = invariants.Seen()
        self._lives = {"a": 0, "b": 0}
        self._opened = 0
        for node in nodes:
            self.join(node)
        self.append(nodes[0], Configure((given or rules()).encode()))
        for node in nodes:
            self.append(node, Live())
        if version > OLDEST:
            self.append(nodes[0], Activate(version))

    @property
    def state(self):
        return next(iter(self.engines.values())).state

    @property
    def index(self) -> int:
        return len(self.log)

    def join(self, node: str) -> str:
        """A life of the node begins; its engine is the one in `engines`."""
        self._lives[node] += 1
        number = self._lives[node]
        self._apply(f"{node}{number}", [Join(node, number, "token", "boot", 1, number, "cluster")])
        self.engines[node].become(f"{node}{number}")
        return f"{node}{number}"

    def append(self, node: str, *proposals: Proposal) -> list[bool]:
        """One entry of the node; whether each proposal holds."""
        return self._apply(self.engines[node].incarnation, proposals).accepted

    def _apply(self, by: str, proposals: Sequence[Proposal]) -> Applied:
        body = encode_entry(proposals, self.state.meta.version)
        self.log.append((by, body))
        before = self.state.meta.clock_ms
        applied = [engine.apply(by, self.index, body, self.now_ms) for engine in self.engines.values()]
        assert all(each == applied[0] for each in applied), "the nodes decide differently"
        assert self.state.meta.clock_ms >= before
        self.notes = [note.event for note in applied[0].notes]
        invariants.check(self, decode_entry(body), applied[0])
        return applied[0]

    # --- lives

    def die(self, node: str, held: Iterable[str] = (), poison: str = "") -> None:
        """The node's process ends, at the frame `poison` if it names one; the other one sees it and is its heir."""
        dead = self.engines.pop(node)
        self.append(next(iter(self.engines)), Heir(dead.incarnation, tuple(held), poison))

    def leave(self, node: str) -> None:
        """The node ends in order; what is left of it is the other's."""
        assert self.append(node, Leave()) == [True]
        del self.engines[node]

    def restart(self, node: str) -> None:
        """A new life of the node: it loads a snapshot, joins, lives."""
        self.engines[node] = self.loaded(node)
        self.engines = dict(sorted(self.engines.items()))
        self.join(node)
        self.append(node, Live())

    def reload(self, node: str) -> None:
        """The node's engine goes on from a snapshot: the log was truncated under it."""
        fresh = self.loaded(node)
        self.engines[node].load(fresh.state, self.now_ms)

    def loaded(self, node: str) -> Engine:
        """A further engine, from a snapshot of the present state."""
        engine = Engine(node)
        view = snapshot.View(self.state)
        segments = {name: encode() for name, encode in view.segments().items()}
        engine.load(snapshot.load(view.index, list(view.chunks()), segments), self.now_ms)
        return engine

    # --- time

    def pass_ms(self, passed: float) -> None:
        """Log time passes, by heartbeats of both nodes in turn."""
        while passed > 0:
            step = min(passed, HEARTBEAT_MS)
            self.now_ms += step
            passed -= step
            for node, engine in self.engines.items():
                self.append(node, engine.heartbeat(self.now_ms))

    def tend(self, node: str | None = None) -> list[Proposal]:
        """Append all that the nodes are due, until nothing is; what was proposed."""
        proposed: list[Proposal] = []
        for _ in range(100):
            due = [(n, item) for n in (node or "".join(self.engines)) for item in self.due(n)]
            if not due:
                return proposed
            for n, (subject, proposal) in due:
                self.append(n, proposal)
                self.engines[n].resolved(subject)
                proposed.append(proposal)
        raise AssertionError("what is due never ends")

    def due(self, node: str):
        return list(self.engines[node].tend(self.now_ms, UTC))

    # --- sessions

    def accept(self, name: str = "pos", node: str = "a") -> str:
        self._opened += 1
        id_ = f"{name}.{self._opened}"
        assert self.append(node, Open(id_, name, -1, f"boot:{self._opened}", "r:1", "l:1", "")) == [True]
        return id_

    def connect(self, name: str = "net", node: str = "a", slot: int = 0) -> str:
        self._opened += 1
        id_ = f"{name}.{self._opened}"
        assert self.append(node, Open(id_, name, slot, f"boot:{self._opened}", "r:1", "", "")) == [True]
        assert self.append(node, Connected(id_, "l:1")) == [True]
        return id_

    def session(self, id_: str) -> Session:
        return self.state.sessions[id_]

    def node_of(self, id_: str) -> str:
        return self.state.acting(self.session(id_).owner)[0]

    def offer(self, id_: str, payload: bytes, *, age_ms: int = 0) -> Input:
        """What the owner's engine makes of a frame at the present end of the session's input."""
        engine = self.engines[self.node_of(id_)]
        data = FRAMER.frame(payload)
        start = self.session(id_).applied
        frame = FRAMER.cut(data).frames[0]
        return engine.offer(engine.state.sessions[id_], start, start + len(data), frame, age_ms, UTC)

    def unreadable(self, id_: str, payload: bytes, header: bytes = b"") -> Input:
        """What the owner's engine makes of a frame that is no message, on a link that keeps its sessions then."""
        engine, session = self.engines[self.node_of(id_)], self.session(id_)
        frame = Frame(0, len(payload), header, payload)
        try:
            engine.wires[session.link].codec.decode(payload)
        except MessageError as error:
            end = session.applied + len(payload)
            return engine.unreadable(session, session.applied, end, frame, error, UTC)
        raise AssertionError("it is a message")

    def receive(self, id_: str, payload: bytes, *, age_ms: int = 0) -> Input:
        """A frame arrives and its proposal is applied."""
        proposal = self.offer(id_, payload, age_ms=age_ms)
        assert self.append(self.node_of(id_), proposal) == [True]
        return proposal

    def end(self, id_: str, acked: int = 0, reason: str = "closed", written: int = -1) -> None:
        assert self.append(self.node_of(id_), End(id_, acked, reason, written)) == [True]

    def ack(self, id_: str, offset: int | None = None) -> None:
        """The remote kernel has everything, or the bytes below `offset`."""
        output = self.session(id_).output if offset is None else offset
        self.append(self.node_of(id_), Acked(((id_, output),)))

    def outs(self, id_: str, role: Role | None = None) -> list[Out]:
        return [out for out in self.session(id_).outbox if role is None or out.role is role]

    def sent(self, id_: str, role: Role | None = None) -> list[bytes]:
        """The payloads in the session's outbox."""
        return [FRAMER.cut(out.data).frames[0].payload for out in self.outs(id_, role)]

    def forwarded(self, id_: str) -> bytes:
        """The request that went out last."""
        return self.sent(id_, Role.FORWARD)[-1]

    def codes(self, id_: str) -> list[str]:
        """DE39 of the answers in the session's outbox."""
        return [DIALECT.decode(payload).fields[39] for payload in self.sent(id_, Role.ANSWER)]

    def only(self) -> Transaction:
        (transaction,) = self.state.transactions.values()
        return transaction


def card(stan: int = 1, mti: str = "0200", **changes: str) -> bytes:
    """A purchase of a terminal; changes are fields, `de4="000000000100"`."""
    fields = {
        2: "4111111111111111", 3: "000000", 4: "000000001000", 7: "0301100000", 11: f"{stan:06d}", 12: "100000",
        13: "0301", 22: "051", 25: "00", 32: "123456", 35: "4111111111111111=28121011234567890",
        37: f"{stan:012d}", 41: "TERM0001", 42: "MERCHANT0000001", 49: "978", 52: "0123456789ABCDEF",
    }  # fmt: skip
    fields |= {int(name[2:]): value for name, value in changes.items()}
    return DIALECT.assemble(mti, {number: DIALECT.encode_field(number, fields[number]) for number in sorted(fields)})


def answer_to(request: bytes, code: str = "00", amount: str = "") -> bytes:
    """The network's answer to a request or an advice as it was forwarded. `amount`: what it approves, if not all."""
    body = DIALECT.decode(request)
    raw = {number: body.raw[number] for number in body.raw if number not in (2, 35, 52, 90)}
    raw[39] = DIALECT.encode_field(39, code)
    if amount:
        raw[4] = DIALECT.encode_field(4, amount)
    mti = f"{body.mti[:2]}{int(body.mti[2]) + 1}0"
    return DIALECT.assemble(mti, dict(sorted(raw.items())))


def reversal(of: int = 1, stan: int | None = None, mti: str = "0400", **changes: str) -> bytes:
    """A terminal's reversal of card(of), or what else is about it."""
    original = f"0200{of:06d}0301100000{'123456'.zfill(11)}{0:011d}"
    return card(of + 500 if stan is None else stan, mti=mti, de7="0301100100", de37=f"{of:012d}", de90=original, **changes)


def no_pin(number: int = 1, **changes: str) -> bytes:
    """A purchase without an online PIN."""
    body = DIALECT.decode(card(number, **changes))
    return DIALECT.assemble(body.mti, {n: part for n, part in body.raw.items() if n != 52})


def network(mti: str, code: str, stan: int = 7) -> bytes:
    """0800 or 0810 of a network: sign-on 001, sign-off 002, echo 301."""
    fields = {7: "0301100000", 11: f"{stan:06d}", 70: code}
    return DIALECT.assemble(mti, {number: DIALECT.encode_field(number, value) for number, value in fields.items()})


def _agent(name: str, bic: str) -> str:
    return f"<{name}><FinInstnId><BICFI>{bic}</BICFI></FinInstnId></{name}>"


def transfer(number: int = 1, amount: str = "10.00") -> bytes:
    """A pacs.008 of one bank to another."""
    return (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"><FIToFICstmrCdtTrf><GrpHdr>'
        f"<MsgId>M-{number}</MsgId><CreDtTm>2026-03-01T10:00:00Z</CreDtTm><NbOfTxs>1</NbOfTxs>"
        f"<SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf>{_agent('InstgAgt', 'DEBTDEFFXXX')}"
        f"{_agent('InstdAgt', 'CSMXBEBB')}</GrpHdr><CdtTrfTxInf><PmtId><EndToEndId>E-{number}</EndToEndId></PmtId>"
        f'<IntrBkSttlmAmt Ccy="EUR">{amount}</IntrBkSttlmAmt><ChrgBr>SLEV</ChrgBr><Dbtr><Nm>A</Nm></Dbtr>'
        f"{_agent('DbtrAgt', 'DEBTDEFFXXX')}{_agent('CdtrAgt', 'CREDFRPP')}<Cdtr><Nm>B</Nm></Cdtr></CdtTrfTxInf>"
        "</FIToFICstmrCdtTrf></Document>"
    ).encode()


def status(number: int = 1, code: str = "ACSC") -> bytes:
    """The pacs.002 of the bank that was asked."""
    return (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10"><FIToFIPmtStsRpt><GrpHdr>'
        "<MsgId>R-1</MsgId><CreDtTm>2026-03-01T10:00:02Z</CreDtTm></GrpHdr><OrgnlGrpInfAndSts>"
        f"<OrgnlMsgId>M-{number}</OrgnlMsgId><OrgnlMsgNmId>pacs.008.001.08</OrgnlMsgNmId></OrgnlGrpInfAndSts>"
        f"<TxInfAndSts><OrgnlEndToEndId>E-{number}</OrgnlEndToEndId><TxSts>{code}</TxSts></TxInfAndSts>"
        "</FIToFIPmtStsRpt></Document>"
    ).encode()
