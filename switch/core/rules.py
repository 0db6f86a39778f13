"""The rules both nodes apply: links, routes and limits, as one record that travels through the log.

Every limit of the switch stands here with its default. Names end in their unit: `_ms` milliseconds, `_bytes`, `_max`.
"""

import re
from typing import Literal

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
    connect: list[str] = []  # host:port, tried in turn
    connections: int = 2  # sessions kept to the network, divided between the nodes
    framing: str
    header: str = "none"  # "none", "tpdu" or "fixed:N"
    header_value: str = ""  # hex: what this link writes before its own requests
    frame_max_bytes: int = 65_536
    iso8583: Iso8583Options | None = None
    iso20022: Iso20022Options | None = None

    timeout_ms: int = 15_000  # a request to this link is answered within this, or locally
    advice_retry_ms: int = 10_000
    advice_window: int = 4  # advices outstanding at once
    advice_tries_max: int = 20  # from then on an advice is tried a tenth as often, and no longer counts in the window
    lane_max: int = 10_000  # advices kept for this link; with more of them it gets no new requests
    echo_interval_ms: int = 30_000  # silence after which an echo is sent; 0: never
    network_timeout_ms: int = 10_000  # for sign-on and echo
    inflight_max: int = 10_000  # requests of this link that wait for their answer
    sessions_max: int = 10_000
    peek_max_bytes: int = 262_144
    outbox_max_bytes: int = 4_194_304  # of one session; over it the session ends
    outbox_age_max_ms: int = 60_000  # the same for output that is not acknowledged
    half_close_ms: int = 30_000  # how long a half-closed session waits for its answers
    offers_max: int = 16  # times an input is offered again before its session ends
    reconnect_min_ms: int = 100
    reconnect_max_ms: int = 5_000
    unparseable: Literal["close", "ignore"] = "close"
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
    types: list[str] = []  # MTI or message type; a prefix ("02", "pacs.008")
    bins: list[str] = []
    bics: list[str] = []  # a prefix of the BIC
    processing_codes: list[str] = []  # prefixes
    currencies: list[str] = []
    amount_min: int | None = None
    amount_max: int | None = None
    targets: list[str]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the whole switch."""

    replay_window_ms: int = 600_000  # how long an outcome is kept for repeats
    outcomes_max: int = 100_000  # and how many at the most
    segment_outcomes: int = 2_000  # outcomes in one immutable segment of the snapshot
    segment_bytes: int = 400_000  # and their bytes (a segment is one value in etcd), unless one outcome alone is larger
    waiters_max: int = 4  # sessions that wait for one answer: the request and its repeats
    transactions_max: int = 50_000  # in flight over all links
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
    limits: Limits = Limits()

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes) -> "Rules":
        return msgspec.msgpack.decode(data, type=Rules)


_PORT = re.compile("[0-9]{1,5}")
FRAME_MAX_BYTES = 900_000  # one entry (1 MiB) holds the largest frame


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
        if link.reconciliation is not None and link.iso8583 is None:
            raise RulesError(f"{where}: [link.reconciliation] is for ISO 8583 links")
        if link.outbound and link.connections < 1:
            raise RulesError(f"{where}: connections must be at least 1")
        for address in [*link.listen.values(), *link.connect]:
            host, _, port = address.rpartition(":")
            if not host or not _PORT.fullmatch(port) or not 0 < int(port) < 65_536:
                raise RulesError(f"{where}: {address!r} is not host:port")
    rails = {link.name: link.rail for link in rules.links}
    for route in rules.routes:
        where = f"route {route.name!r}"
        if not route.targets:
            raise RulesError(f"{where}: name at least one target")
        for name in [*route.source, *route.targets]:
            if name not in names:
                raise RulesError(f"{where}: there is no link {name!r}")
        if len({rails[name] for name in [*route.source, *route.targets]}) > 1:
            raise RulesError(f"{where}: source and targets are of different rails")
    try:
        rules.encode()
    except OverflowError:
        raise RulesError("a number is beyond 64 bits: no entry can hold it") from None
