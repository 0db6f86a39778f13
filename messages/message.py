"""What every message tells the switch, whatever its wire format: the seam between the two message worlds and the engine."""

import enum
from typing import Any, Protocol

import msgspec

from messages.facts import Facts


class Kind(enum.IntEnum):
    """What a message wants of its receiver (ISO 8583 message class and function; ISO 20022 message type)."""

    REQUEST = 1  # asks for a decision: 0100, 0200, pacs.008
    ANSWER = 2  # decides a request: 0110, 0210, pacs.002
    ADVICE = 3  # tells what was done and wants an acknowledgement: 0120, 0220, 0400, 0420
    ADVICE_ANSWER = 4  # acknowledges an advice: 0130, 0230, 0410, 0430
    NETWORK_REQUEST = 5  # sign-on, sign-off, echo: 0800, 0820
    NETWORK_ANSWER = 6  # 0810, 0830
    NOTIFICATION = 7  # wants no answer: 0140 and the like


class NetworkFunction(enum.IntEnum):
    """The function of a network management message (DE70 of 1987, DE24 of 1993 and 2003; rules.py has the codes)."""

    SIGN_ON = 1
    SIGN_OFF = 2
    ECHO = 3
    OTHER = 4
    KEY_CHANGE = 5
    CUTOVER = 6  # a new business date begins


class Decision(enum.IntEnum):
    """What an answer decides."""

    APPROVED = 1
    DECLINED = 2
    INTERIM = 3  # not final (pacs.002 PDNG, RCVD): the final one follows


class Reason(enum.StrEnum):
    """Why the switch itself answers. Each link has a table from these to its response codes."""

    NO_ROUTE = "no_route"
    LINK_DOWN = "link_down"
    TIMEOUT = "timeout"
    TOO_OLD = "too_old"  # waited longer than its timer while the switch held
    FORMAT = "format"
    DUPLICATE = "duplicate"  # same key, different content
    OVERLOAD = "overload"
    MALFUNCTION = "malfunction"
    UNDELIVERABLE = "undeliverable"  # its approval reached nobody and was reversed
    REVERSED = "reversed"  # its own terminal has reversed it
    PARTIAL = "partial"  # approved in part, to a source that takes no part
    NOT_REVERSIBLE = "not_reversible"  # a reversal of what its link's terminals may not reverse
    STAND_IN = "stand_in"  # its issuer cannot be reached, and stand-in refuses it


class Cause(enum.StrEnum):
    """Why the switch undoes a request at its target, or decided it in the target's place."""

    TIMEOUT = "timeout"
    UNDELIVERABLE = "undeliverable"
    PARTIAL = "partial"  # the source takes no partial approval
    UNAVAILABLE = "unavailable"  # stand-in: no session of the target


class Verdict(enum.IntEnum):
    """What the answer to an advice means for the advice."""

    DONE = 1
    RETRY = 2  # a passing fault of the receiver: 91, 96
    NOT_FOUND = 3  # the receiver does not know what it refers to: 25, 914
    REFUSED = 4  # repeating it would not help: 30, 12 and the like


class Trait(enum.IntFlag):
    """What a request or advice is to the switch, by its profile and its content."""

    MONEY = 1  # its approval moves or holds money
    TIMEOUT_REVERSAL = 2  # without an answer it is undone at its target
    STAND_IN = 4  # the switch may decide it when its issuer cannot be reached
    PIN = 8  # it carries an online PIN
    REVERSAL = 16  # it undoes what it refers to
    PARTIAL = 32  # and leaves a part of it (replacement amounts)
    FORBIDDEN = 64  # and its link's terminals may not undo that


class Summary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the engine keeps in sight of a request or advice. No card data."""

    profile: str = ""  # "purchase", "cash", ...: of profiles.py
    traits: int = 0  # Trait flags
    amount: int = 0  # minor units; of a partial reversal what it leaves
    currency: str = ""  # as on the wire
    identity: bytes = b""  # by which later messages of the same source name it
    refers: bytes = b""  # the identity of the message that it is about: a reversal's or a completion's original

    def is_(self, trait: Trait) -> bool:
        return bool(self.traits & trait)

    def __repr__(self) -> str:
        return f"Summary({self.profile})"


class Attributes(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """What routes look at. Holds a part of the PAN: never logged as a whole."""

    type: str  # MTI with the version digit ("0200", also of a repeat) or message type ("pacs.008.001.08")
    bin: str = ""  # leading digits of the PAN, at most 11
    bic: str = ""  # BIC of the agent that is to be credited
    processing_code: str = ""
    currency: str = ""  # as on the wire: "978" or "EUR"
    amount: int | None = None  # minor units of the currency

    def __repr__(self) -> str:
        return f"Attributes(type={self.type!r})"


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision as it is recorded: enough for the codec of any link of the same rail to answer a request or its repeat."""

    decision: Decision
    code: str  # DE39, or transaction status ("ACSC"), or status and reason ("RJCT/AC04")
    content: bytes  # for the codecs of the rail only; no track, PIN block or CVV

    def __repr__(self) -> str:
        return f"Outcome({self.decision.name} {self.code})"


def approved(outcome: Outcome | None) -> bool:
    """Whether there is an outcome, and it is an approval."""
    return outcome is not None and outcome.decision is Decision.APPROVED


class Message(msgspec.Struct, frozen=True, gc=False):
    """One decoded message."""

    kind: Kind
    attributes: Attributes
    match_key: bytes  # an answer's equals the one its request was forwarded with (Outbound.match_key)
    duplicate_key: bytes  # equal for a request and its repeats; holds the message class
    digest: bytes  # 16 bytes over the content that a repeat leaves unchanged, and that may be kept; b"" of an answer
    repeat: bool  # marked as a repeat by its sender
    body: Any  # the codec's own parsed form
    outcome: Outcome | None = None  # of an ANSWER without a flaw, and of an ADVICE_ANSWER
    network_function: NetworkFunction | None = None
    summary: Summary = Summary()  # of a REQUEST or ADVICE
    date: str = ""  # business date (DE15) of a CUTOVER
    # what is wrong with it by its link's presence rules, with a cutover's date, or with an answer that decides nothing:
    # "DE41 missing"
    flaw: str = ""

    def __repr__(self) -> str:
        return f"Message({self.kind.name} {self.attributes.type})"


class Outbound(msgspec.Struct, frozen=True, gc=False):
    """A payload to send that will be answered, and the key its answer will carry."""

    payload: bytes
    match_key: bytes
    reference: bytes = b""  # what names this message later at its receiver: the content of DE90 or DE56

    def __repr__(self) -> str:
        return f"Outbound({len(self.payload)} bytes)"


class MessageError(Exception):
    """Bytes that are not a message of this link. Its text names field and byte offset and holds no data of the message.

    reason: what is wrong. field: "DE35", "MTI", "bitmap", or an XML path. offset: byte offset in the payload, or None.
    """

    def __init__(self, reason: str, field: str = "", offset: int | None = None) -> None:
        self.reason = reason
        self.field = field
        self.offset = offset
        where = "".join((f" field={field}" if field else "", f" offset={offset}" if offset is not None else ""))
        super().__init__(reason + where)


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Numbers and amounts (minor units) of one link and business date, as DE74 to 89 name them."""

    credits: int = 0
    credit_reversals: int = 0
    debits: int = 0
    debit_reversals: int = 0
    transfers: int = 0
    transfer_reversals: int = 0
    inquiries: int = 0
    authorizations: int = 0
    credit_amount: int = 0
    credit_reversal_amount: int = 0
    debit_amount: int = 0
    debit_reversal_amount: int = 0


class Codec(Protocol):
    """The message side of one link: a dialect or schema set with the link's matching fields and response codes.

    Stateless and deterministic: wall-clock time is passed in where a message carries one (`utc`: seconds since the epoch).
    Every method that encodes raises MessageError when the target dialect cannot hold a value.
    """

    rail: str  # "iso8583" or "iso20022": answers and outcomes travel between links of one rail only
    takes_partial: bool  # whether requests of this link take an approval of a part of their amount
    stan_digits: int  # width of DE11 in this dialect (6, or 12 in 2003); 0 where the rail has no STAN

    def decode(self, payload: bytes) -> Message:
        """Parse one payload (no frame). Raises MessageError for anything that is not a valid message."""
        ...

    def original(self, message: Message) -> bytes:
        """What must be remembered of a request to answer, repeat-answer or reverse it: no track, PIN block, CVV, EMV data."""
        ...

    def forward(
        self,
        message: Message,
        stan: int,
        source: "Codec",
        *,
        reference: bytes = b"",
        date: str = "",
        utc: float = 0.0,
    ) -> Outbound:
        """Encode a request or advice of link `source` for this link under this STAN. Untouched fields pass byte for byte.

        `reference`: of the original that an advice is about, as that was sent to this link (DE90, DE56). `date`: the
        link's business date (DE15) where it keeps one. `utc`: for fields of time that the link's field rules set;
        0 leaves them as they are.
        """
        ...

    def answer(self, original: bytes, outcome: Outcome, *, utc: float = 0.0, message: Message | None = None) -> bytes:
        """Encode the answer to a request of this link: its own echo fields and the outcome's content. `utc`: as above.

        message: the answer that decided it, where that is at hand. It changes nothing but that it is not decoded again.
        """
        ...

    def refuse(self, original: bytes, reason: Reason, flaw: str = "") -> Outcome:
        """The outcome by which this link's response-code table refuses a request of this link, and its `flaw` if any."""
        ...

    def accept(self, original: bytes) -> Outcome:
        """The outcome by which the switch acknowledges an advice of this link, which it then keeps until delivered."""
        ...

    def approve(self, original: bytes, stan: int) -> Outcome:
        """Stand-in: the approval of a request of this link, with an authorisation code made of `stan`."""
        ...

    def stand_in_advice(
        self, original: bytes, outcome: Outcome, cause: Cause, stan: int, utc: float, *, date: str = ""
    ) -> Outbound:
        """The advice (0120, 0220) to this link, as the target, of a request that was approved in its place.

        date: the business date, as of `forward`.
        """
        ...

    def reversal(self, original: bytes, reference: bytes, stan: int, utc: float, cause: Cause) -> Outbound | None:
        """The advice to this link, as the target, that undoes a request forwarded to it as `reference`.

        `original` is the source codec's. None when its profile, or this rail, has no reversal for it.
        """
        ...

    def partial(self, outcome: Outcome) -> bool:
        """Whether it approves a part of the amount only."""
        ...

    def account(self, original: bytes) -> bytes:
        """What stand-in counts by: 16 bytes made of the card's PAN, one-way; b"" where there is none."""
        ...

    def difference(self, key: bytes, other: bytes) -> tuple[str, ...]:
        """The fields in which two match keys differ, by name ("DE11")."""
        ...

    def facts(self, original: bytes, outcome: Outcome | None) -> Facts:
        """What the journal may say of a request or advice of this link and of its outcome. Raises MessageError."""
        ...

    def reconciles(self, message: Message) -> tuple[str, str] | None:
        """Business date (MMDD) and currency, each "" where it does not say, of a request to reconcile; None for others."""
        ...

    def reconcile(self, message: Message, ours: Reconciliation) -> Outcome:
        """The outcome of a request to reconcile: approved, in balance, or declined. Raises MessageError."""
        ...

    def verdict(self, outcome: Outcome) -> Verdict:
        """What this answer to an advice means for the advice."""
        ...

    def repeat(self, payload: bytes) -> bytes:
        """The same advice marked as a repeat (0420 -> 0421); unchanged where the rail has no such mark."""
        ...

    def complaint(
        self, payload: bytes, error: "MessageError", start: int, stan: int, utc: float
    ) -> Outbound | None:
        """The administrative message that tells the sender of unreadable bytes at `start` of its input; None: silence."""
        ...

    def network_request(self, function: NetworkFunction, stan: int, utc: float) -> Outbound | None:
        """A sign-on, sign-off or echo toward this link's network. None when the rail has none."""
        ...

    def network_answer(self, message: Message) -> bytes:
        """The answer to a peer's network management request."""
        ...
