"""The rules both nodes apply: links, routes and limits, as one record that travels through the log.

Every limit of the switch stands here with its default. Names end in their unit: `_ms` milliseconds, `_bytes`, `_max`.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from messages.framing import FRAMINGS
from messages.iso8583.options import Iso8583Options
from messages.iso20022.options import Iso20022Options


class RulesError(Exception):
    """A configuration that cannot work. The text names the section and says what to change."""


class Tcp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Socket options of a link (tcp(7))."""

    keepalive_idle_s: int = 30
    keepalive_interval_s: int = 10
    keepalive_count: int = 3
    user_timeout_ms: int = 30_000
    receive_buffer_bytes: int = 0  # SO_RCVBUF; 0 leaves the kernel's autotuning


class Reconciling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The switch answers a link's reconciliation by its totals; as what it counts each profile. Others are debits."""

    credits: tuple[str, ...] = ("refund", "deposit", "original_credit")
    transfers: tuple[str, ...] = ("transfer",)
    inquiries: tuple[str, ...] = ("balance", "inquiry", "verification")
    authorizations: tuple[str, ...] = ("preauth",)


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A configured endpoint: a listener for terminals or banks, or connections to a network or bank."""

    name: str
    listen: dict[str, str] = {}  # node -> host:port; or a socket of this name by LISTEN_FDS
    connect: list[str] = []  # host:port, tried in turn; the host is an IP address
    connections: int = 2  # sessions kept to the network, divided between the nodes
    framing: str
    header: str = "none"  # "none", "tpdu" or "fixed:N"
    header_value: str = ""  # hex: what this link writes before its own requests
    frame_max_bytes: int = 65_536
    iso8583: Iso8583Options | None = None
    iso20022: Iso20022Options | None = None

    timeout_ms: int = 15_000  # a request to this link is answered within this, or locally
    patience_ms: int = 0  # how long those who send requests on this link wait; 0: not known
    breaker_timeouts: int = 0  # timeouts in a row after which it gets no requests until an echo is answered; 0: never
    redeliver: bool = False  # an approval that reached nobody is tried on another session from the same address
    unknown_original: Literal["forward", "acknowledge"] = "forward"  # a reversal of what never came here
    advice_window: int = 1  # advices outstanding at once
    advice_retry_ms: int = 10_000  # until an advice is sent again, after silence or a passing refusal; doubled each time
    advice_retry_max_ms: int = 60_000  # up to this
    advice_rate_max: int = 0  # advices a second; 0: as fast as they are answered
    advice_tries_max: int = 100  # then an advice is parked; at least 2
    advice_expires_ms: int = 0  # the age at which it is; 0: never
    # what it is about is not known there, also not after so many tries: done, if it may never have come there, else parked
    advice_not_found: Literal["done", "park"] = "done"
    advice_not_found_tries: int = 3
    # advices that wait for an operator; with more of them the link gets no new requests, with twice as many no advices:
    # their senders repeat them
    parked_max: int = 10_000
    lane_max: int = 10_000  # advices kept for this link; with more of them it gets no new requests
    echo_interval_ms: int = 30_000  # silence after which an echo is sent; 0: never
    network_timeout_ms: int = 10_000  # for sign-on and echo
    inflight_max: int = 10_000  # requests of this link that wait for their answer
    rate_max: int = 0  # requests a second that are forwarded to it; 0: any
    sessions_max: int = 10_000
    peek_max_bytes: int = 262_144
    outbox_max_bytes: int = 4_194_304  # of one session; over it the session ends
    # The same for output that is not acknowledged. To be more than tcp.user_timeout_ms: then the kernel ends a dead line,
    # and says what had arrived; at an end of ours all that was written may still arrive, and counts as delivered.
    outbox_age_max_ms: int = 60_000
    half_close_ms: int = 30_000  # how long a half-closed session waits for its answers
    offers_max: int = 16  # times an input is offered again before its session ends
    reconnect_min_ms: int = 100
    reconnect_max_ms: int = 5_000
    # what bytes get that are no message: their session's end, nothing, an administrative message, or their header back with
    # `reject_flag` set: "byte:mask", as "3:80"
    unparseable: Literal["close", "ignore", "advise", "reject"] = "close"
    reject_flag: str = ""
    keepalive: Literal["absorb", "echo"] = "absorb"  # what a zero-length frame gets
    undeliverable: Literal["reverse", "keep", ""] = ""  # an approval that reached nobody: cards reverse, transfers keep
    reconciliation: Reconciling | None = None  # a table, empty for its defaults; without one class 5 is routed
    tcp: Tcp = Tcp()

    @property
    def rail(self) -> str:
        return "iso8583" if self.iso8583 is not None else "iso20022"

    @property
    def outbound(self) -> bool:
        return bool(self.connect)

    @property
    def reverses(self) -> bool:
        """Whether an approval that reached nobody on this link is reversed."""
        return self.undeliverable == "reverse" or (not self.undeliverable and self.iso8583 is not None)


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests go where. Every condition given must hold; the longest BIN or BIC wins, then the file's order."""

    name: str
    source: list[str] = []
    types: list[str] = []  # MTI, "0200" also of a repeat, or message type; a prefix ("02", "pacs.008")
    bins: list[str] = []
    bics: list[str] = []  # a prefix of the BIC
    processing_codes: list[str] = []  # prefixes
    currencies: list[str] = []
    amount_min: int | None = None
    amount_max: int | None = None
    targets: list[str]
    # which target first, the others after it: as they stand here; in turn by weight; the one with the fewest requests
    # that wait; always the same for a card
    strategy: Literal["order", "weighted", "least_outstanding", "sticky"] = "order"
    weights: list[int] = []  # of the targets, where the strategy is weighted
    inflight_max: int = 0  # requests of this route that wait for their answer; 0: as the links allow
    rate_max: int = 0  # requests a second; 0: any


class StandIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests are approved here when no session of their target can carry them, and up to what.

    Never one with an online PIN, nor one whose profile is not given. Days are UTC's.
    """

    name: str
    targets: list[str]
    bins: list[str] = []  # prefixes; none: any card
    profiles: list[str]
    currency: str  # as on the wire; the amounts are in its minor units
    amount_max: int  # of one request
    card_amount_max: int  # of a card and day
    card_count_max: int


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the whole switch."""

    replay_window_ms: int = 600_000  # how long an outcome is kept for repeats
    outcomes_max: int = 100_000  # and how many at the most
    segment_outcomes: int = 2_000  # outcomes in one immutable segment of the snapshot
    segment_bytes: int = 400_000  # and their bytes (a segment is one value in etcd), unless one outcome alone is larger
    waiters_max: int = 4  # sessions that wait for one answer: the request and its repeats
    transactions_max: int = 50_000  # in flight over all links
    sessions_max: int = 30_000  # of all links; with more, nothing is accepted: each node holds all sockets, in passing twice
    stand_in_cards_max: int = 50_000  # cards for which stand-in approves on one day
    journal_waiting_max: int = 0  # items that no database holds yet; with more, requests are declined. 0: no journal
    totals_dates_max: int = 7  # business dates of a link that are kept; 0: no totals
    totals_max: int = 20_000  # totals of all links; with more, further ones are counted without profile and currency
    heartbeat_ms: int = 250
    snapshot_entries: int = 1_000  # entries between two snapshots
    snapshot_log_bytes: int = 16_777_216  # or bytes of log


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that `apply` and the engines of both nodes use."""

    links: list[Link]
    routes: list[Route] = []
    stand_ins: list[StandIn] = []
    limits: Limits = Limits()

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes) -> "Rules":
        return msgspec.msgpack.decode(data, type=Rules)


_FLAG = re.compile("([0-9]{1,2}):([0-9A-Fa-f]{2})")
_PORT = re.compile("[0-9]{1,5}")
FRAME_MAX_BYTES = 900_000  # one entry (1 MiB) holds the largest frame
RULES_MAX_BYTES = 1_000_000  # and all rules


def flag(link: Link) -> tuple[int, int]:
    """Which byte of a rejected frame's header is marked, and by which bits."""
    found = _FLAG.fullmatch(link.reject_flag)
    return (int(found[1]), int(found[2], 16)) if found else (-1, 0)


def _flag_fits(link: Link) -> bool:
    length = 5 if link.header == "tpdu" else int(link.header.removeprefix("fixed:")) if ":" in link.header else 0
    place, mask = flag(link)
    return 0 <= place < length and mask > 0


def check(rules: Rules) -> None:
    """Refuse rules that cannot work. Raises RulesError."""
    names: set[str] = set()
    for link in rules.links:
        where = f"link {link.name!r}"
        if not link.name or link.name in names:
            raise RulesError(f"{where}: give each link a name of its own")
        names.add(link.name)
        if bool(link.listen) == bool(link.connect):
            raise RulesError(f"{where}: give either listen or connect")
        if (link.iso8583 is None) == (link.iso20022 is None):
            raise RulesError(f"{where}: give either an [iso8583] or an [iso20022] table")
        if link.framing not in FRAMINGS:
            raise RulesError(f"{where}: framing {link.framing!r} is not one of {', '.join(sorted(FRAMINGS))}")
        if link.frame_max_bytes > FRAME_MAX_BYTES:
            raise RulesError(f"{where}: frame_max_bytes is at most {FRAME_MAX_BYTES}")
        if link.breaker_timeouts and link.iso8583 is None:
            raise RulesError(f"{where}: breaker_timeouts needs echoes, which only ISO 8583 has")
        if link.unparseable == "reject" and not _flag_fits(link):
            raise RulesError(f'{where}: give reject_flag as "byte:mask", a byte of the header and two hex digits')
        if link.reconciliation is not None and link.iso8583 is None:
            raise RulesError(f"{where}: [link.reconciliation] is for ISO 8583 links")
        if link.outbound and link.connections < 1:
            raise RulesError(f"{where}: connections must be at least 1")
        for address in [*link.listen.values(), *link.connect]:
            host, _, port = address.rpartition(":")
            if not host or not _PORT.fullmatch(port) or not 0 < int(port) < 65_536:
                raise RulesError(f"{where}: {address!r} is not host:port")
    rails = {link.name: link.rail for link in rules.links}
    named = [route.name for route in rules.routes]
    if len(set(named)) < len(named):
        raise RulesError("give each route a name of its own")
    for route in rules.routes:
        where = f"route {route.name!r}"
        if not route.targets:
            raise RulesError(f"{where}: name at least one target")
        if route.strategy == "weighted" and (len(route.weights) != len(route.targets) or min(route.weights) < 1):
            raise RulesError(f"{where}: give each target a weight of at least 1")
        for name in [*route.source, *route.targets]:
            if name not in names:
                raise RulesError(f"{where}: there is no link {name!r}")
        for source in (link for link in rules.links if link.name in (route.source or names) and link.patience_ms):
            for target in (link for link in rules.links if link.name in route.targets):
                if target.timeout_ms >= source.patience_ms and target.rail == source.rail:
                    raise RulesError(
                        f"{where}: {target.name!r} may take {target.timeout_ms} ms, and {source.name!r} waits only "
                        f"{source.patience_ms} ms: make timeout_ms the shorter one"
                    )
        if len({rails[name] for name in [*route.source, *route.targets]}) > 1:
            raise RulesError(f"{where}: source and targets are of different rails")
        if route.strategy == "sticky" and rails[route.targets[0]] != "iso8583":
            raise RulesError(f"{where}: sticky goes by the card, which only ISO 8583 has")
    for stand_in in rules.stand_ins:
        for name in stand_in.targets:
            if rails.get(name) != "iso8583":
                raise RulesError(f"stand_in {stand_in.name!r}: there is no ISO 8583 link {name!r}")
    try:
        size = len(rules.encode())
    except OverflowError:
        raise RulesError("a number is beyond 64 bits: no entry can hold it") from None
    if size > RULES_MAX_BYTES:
        raise RulesError(f"the rules are {size} bytes, and an entry holds {RULES_MAX_BYTES}: use shorter lists of BINs")


NUMBER_MAX = 1 << 60  # so that log time and a few of them add up to what an entry can hold
NUMBERS = {  # what else numbers may be: what the kernel takes (tcp(7)), and what a node can live with
    "connections": (0, 1_000),  # each is looked at ten times a second
    "peek_max_bytes": (1, NUMBER_MAX),  # 0 would read as the end of every stream
    "keepalive_idle_s": (1, 32_767),
    "keepalive_interval_s": (1, 32_767),
    "keepalive_count": (1, 127),
    "user_timeout_ms": (0, (1 << 31) - 1),
    "receive_buffer_bytes": (0, 1 << 30),
    # log time is as fast as heartbeats, which are looked for every 100 ms; a peer without them for 3 s is ended
    "heartbeat_ms": (50, 1_000),
    "segment_bytes": (1, 1_000_000),  # a segment is one value in etcd
}


def possible(rules: Rules) -> None:
    """Refuse what an operator may write, and no node could live with. Raises RulesError.

    Not a part of `check`: that decides in the log, where all versions have to say the same.
    """
    for link in rules.links:
        where = f"link {link.name!r}"
        _in_bounds(where, link)
        for address in [*link.listen.values(), *link.connect]:
            host = address.rpartition(":")[0].strip("[]")
            if host == "localhost":  # this name is in the host's own file
                continue
            try:
                ipaddress.ip_address(host)
            except ValueError:
                raise RulesError(
                    f"{where}: {address!r} is to have an IP address: all sessions would wait while a name is looked up"
                ) from None
    for route in rules.routes:
        _in_bounds(f"route {route.name!r}", route)
    for stand_in in rules.stand_ins:
        _in_bounds(f"stand_in {stand_in.name!r}", stand_in)
    _in_bounds("limits", rules.limits)


def _in_bounds(where: str, rules: Link | Route | StandIn | Limits) -> None:
    table = msgspec.to_builtins(rules)
    for rail in ("iso8583", "iso20022"):  # what stands there its codec has looked at: some of it may be negative
        table.pop(rail, None)
    for name, number in _numbers("", table):
        least, most = NUMBERS.get(name, (0, NUMBER_MAX))
        if not least <= number <= most:
            raise RulesError(f"{where}: {name} is {number}, and may be {least} to {most}")


def _numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """Each number, with the name it has, or its list."""
    if type(value) is int:
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _numbers(str(key), each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(name, each)
