"""The Codec of an ISO 20022 link: pacs.008 as requests, pacs.002 as answers, payloads forwarded byte for byte."""

from datetime import UTC, datetime
from hashlib import blake2b

import msgspec
from lxml import etree

from messages.facts import Facts
from messages.iso20022 import journal
from messages.iso20022.facts import (
    CreditTransfer,
    References,
    StatusReport,
    read_credit_transfer,
    read_status_report,
)
from messages.iso20022.options import RESPONSE_CODES, Iso20022Options
from messages.iso20022.original import Original, recall, remember
from messages.iso20022.parsing import BusinessMessage, parse
from messages.iso20022.schemas import load_schemas
from messages.iso20022.status_report import Report, Toward, write
from messages.message import (
    Attributes,
    Cause,
    Codec,
    Decision,
    Kind,
    Message,
    MessageError,
    NetworkFunction,
    Outbound,
    Outcome,
    Reason,
    Reconciliation,
    Summary,
    Trait,
    Verdict,
)

_SEPARATOR = "\x1f"  # XML 1.0 allows it in no value, so keys cannot run into each other
# a transfer without an answer is confirmed negatively to the creditor's agent
_TRAITS = (Trait.MONEY | Trait.TIMEOUT_REVERSAL).value
_REPEATS = ("DUPL", "CODU")  # CpyDplct: duplicate, copy of a duplicate


class Body(msgspec.Struct, frozen=True, gc=False):
    """What decode leaves in Message.body."""

    message: BusinessMessage
    facts: CreditTransfer | StatusReport

    def __repr__(self) -> str:
        return f"Body({self.message!r})"


class Iso20022Codec:
    """Implements messages.message.Codec.

    Messages made here carry no clock: the CreDtTm and CreDt of an answer are those of the request, those of a reversal
    come from its `utc` argument.
    """

    rail = "iso20022"
    stan_digits = 0
    takes_partial = True

    def __init__(self, options: Iso20022Options) -> None:
        """Raises SchemaError for a schema_dir that cannot be used."""
        self.options = options
        self._schemas = load_schemas(options.schema_dir)
        self._response_codes = {**RESPONSE_CODES, **options.response_codes}
        self._decisions = {
            **dict.fromkeys(options.declined, Decision.DECLINED),
            **dict.fromkeys(options.interim, Decision.INTERIM),
            **dict.fromkeys(options.approved, Decision.APPROVED),
        }

    def decode(self, payload: bytes) -> Message:
        """A pacs.008 of any version there is a schema for is a REQUEST, a pacs.002 an ANSWER. Raises MessageError.

        Attributes.bic is the creditor agent's BIC, else its clearing member identification, else the same of the
        instructed agent.
        """
        message = parse(payload, self._schemas, self.options.maximum)
        repeat = _read_header(message)
        family = message.type[:8]
        if family == "pacs.008":
            return self._request(message, repeat)
        if family == "pacs.002":
            return self._answer(message, repeat)
        raise MessageError(f"{message.type} is not a message that this link takes", "/Document")

    def _request(self, message: BusinessMessage, repeat: bool) -> Message:
        transfer = read_credit_transfer(message)
        key = self._duplicate_key("pacs.008", transfer.instructing.identity, transfer.references)
        return Message(
            kind=Kind.REQUEST,
            attributes=Attributes(
                type=message.type,
                bic=transfer.creditor_agent.identity or transfer.instructed.identity,
                currency=transfer.currency,
                amount=transfer.amount,
            ),
            match_key=self._match_key(transfer.references),
            duplicate_key=key,
            digest=_digest(message.document),
            repeat=repeat,
            body=Body(message, transfer),
            summary=Summary("transfer", _TRAITS, transfer.amount, transfer.currency, key),
        )

    def _answer(self, message: BusinessMessage, repeat: bool) -> Message:
        report = read_status_report(message)
        decision, status = self._decide(report.statuses)
        return Message(
            kind=Kind.ANSWER,
            attributes=Attributes(type=message.type),
            match_key=self._match_key(report.references),
            duplicate_key=self._duplicate_key("pacs.002", report.instructing.identity, References(report.msg_id)),
            digest=_digest(message.document),
            repeat=repeat,
            body=Body(message, report),
            outcome=Outcome(decision, f"{status}/{report.reason}" if report.reason else status, message.payload),
        )

    def _decide(self, statuses: tuple[str, ...]) -> tuple[Decision, str]:
        """One decision for a report on several transactions: open while one is open, else approved if one is approved.

        An unknown status raises MessageError: taken for a refusal, it could hide that money moved.
        """
        decided: dict[Decision, str] = {}
        for status in statuses:
            decision = self._decisions.get(status)
            if decision is None:
                raise MessageError("a status that this link has no decision for", "/Document/FIToFIPmtStsRpt")
            decided.setdefault(decision, status)
        for decision in (Decision.INTERIM, Decision.APPROVED, Decision.DECLINED):
            if decision in decided:
                return decision, decided[decision]
        raise AssertionError("a status report has a status")

    def _match_key(self, references: References) -> bytes:
        return _SEPARATOR.join([getattr(references, name) for name in self.options.match]).encode()

    def _duplicate_key(self, family: str, instructing: str, references: References) -> bytes:
        parts = [instructing if name == "instg_agt" else getattr(references, name) for name in self.options.duplicate]
        return _SEPARATOR.join([family, *parts]).encode()

    def original(self, message: Message) -> bytes:
        """References, agents, wrapper and header parties of a request: no amount, account, name or remittance."""
        body = _body(message)
        if not isinstance(body.facts, CreditTransfer):
            raise MessageError("is not a request", "/Document")
        return remember(body.message, body.facts).encode()

    def facts(self, original: bytes, outcome: Outcome | None) -> Facts:
        return journal.facts(original)

    def reconciles(self, message: Message) -> tuple[str, str] | None:
        """None: no message of this rail asks to."""
        return None

    def reconcile(self, message: Message, ours: Reconciliation) -> Outcome:
        raise MessageError("ISO 20022 has no reconciliation message", "/Document")

    def forward(
        self,
        message: Message,
        stan: int,
        source: Codec,
        *,
        reference: bytes = b"",
        date: str = "",
        utc: float = 0.0,
    ) -> Outbound:
        """The payload as it came, byte for byte; its match key by this link's references.

        This rail has no STAN, and nothing in a message refers to what was sent under other names: no reference.
        """
        body = _body(message)
        return Outbound(body.message.payload, self._match_key(body.facts.references))

    def answer(self, original: bytes, outcome: Outcome, *, utc: float = 0.0, message: Message | None = None) -> bytes:
        """The recorded pacs.002 byte for byte, or one made here for an outcome of `refuse` (which has no content)."""
        if outcome.content:
            return outcome.content
        request = recall(original)
        header_created = request.header.created if request.header else ""
        return self._report(request, outcome.code, Toward.DEBTOR_AGENT, request.created, header_created)

    def _report(self, original: Original, code: str, toward: Toward, created: str, header_created: str) -> bytes:
        status, _, reason = code.partition("/")
        return write(
            original,
            Report(status, reason, toward, created, header_created, self.options.bic, self.options.wrapper),
        )

    def refuse(self, original: bytes, reason: Reason, flaw: str = "") -> Outcome:
        """RJCT with this link's status reason code; a timeout under the profile "pending" is PDNG and not final."""
        code = self._response_codes[reason]
        if reason is Reason.TIMEOUT and self.options.timeout_profile == "pending":
            return Outcome(Decision.INTERIM, f"PDNG/{code}", b"")
        return Outcome(Decision.DECLINED, f"RJCT/{code}", b"")

    def accept(self, original: bytes) -> Outcome:
        """Raises MessageError: this rail has no advices."""
        raise MessageError("ISO 20022 has no advice to accept", "/Document")

    def approve(self, original: bytes, stan: int) -> Outcome:
        """Raises MessageError: nobody but the creditor's agent accepts a transfer."""
        raise MessageError("a credit transfer is not approved in its receiver's place", "/Document")

    def stand_in_advice(
        self, original: bytes, outcome: Outcome, cause: Cause, stan: int, utc: float, *, date: str = ""
    ) -> Outbound:
        """Raises MessageError, as approve does."""
        raise MessageError("a credit transfer is not approved in its receiver's place", "/Document")

    def partial(self, outcome: Outcome) -> bool:
        """False: a transfer is taken as a whole."""
        return False

    def account(self, original: bytes) -> bytes:
        """Raises MessageError: this rail has no stand-in."""
        raise MessageError("ISO 20022 has no stand-in", "/Document")

    def difference(self, key: bytes, other: bytes) -> tuple[str, ...]:
        pairs = zip(self.options.match, key.decode().split(_SEPARATOR), other.decode().split(_SEPARATOR), strict=False)
        return tuple(name for name, mine, theirs in pairs if mine != theirs)

    def verdict(self, outcome: Outcome) -> Verdict:
        """DONE: a negative confirmation wants no answer."""
        return Verdict.DONE

    def reversal(self, original: bytes, reference: bytes, stan: int, utc: float, cause: Cause) -> Outbound:
        """The negative confirmation of the EPC SCT Inst scheme: a pacs.002 RJCT to the creditor's agent.

        It wants no answer, so its match key is b"".
        """
        created = datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        code = f"RJCT/{self.options.reversal_code}"
        return Outbound(self._report(recall(original), code, Toward.CREDITOR_AGENT, created, created), b"")

    def repeat(self, payload: bytes) -> bytes:
        """Unchanged: the mark would be in AppHdr, and the payload is never serialised again."""
        return payload

    def complaint(self, payload: bytes, error: MessageError, start: int, stan: int, utc: float) -> None:
        """None: schemes differ in their admi messages."""
        return

    def network_request(self, function: NetworkFunction, stan: int, utc: float) -> None:
        """None: schemes differ in their admi messages, and TCP tells whether a link is up."""
        return

    def network_answer(self, message: Message) -> bytes:
        """Raises MessageError: no message of this rail decodes to a network management request."""
        raise MessageError("ISO 20022 has no network management message", "/Document")


def _body(message: Message) -> Body:
    if not isinstance(message.body, Body):
        raise MessageError("is not an ISO 20022 message")
    return message.body


def _read_header(message: BusinessMessage) -> bool:
    """Whether AppHdr marks a repeat. Raises MessageError when it announces another message type than the Document's."""
    if message.header is None:
        return False
    repeat = False
    for child in message.header:
        name = child.tag.rpartition("}")[2]
        text = (child.text or "").strip()
        if name == "MsgDefIdr" and text != message.type:
            raise MessageError("announces another message than the Document", "/AppHdr/MsgDefIdr")
        repeat |= (name == "PssblDplct" and text in ("true", "1")) or (name == "CpyDplct" and text in _REPEATS)
    return repeat


def _digest(document: etree._Element) -> bytes:
    """16 bytes over the Document in exclusive canonical form (W3C Exclusive XML Canonicalization 1.0, no comments).

    The wrapper, all of AppHdr (CreDt, PssblDplct, CpyDplct) and white space between elements do not count: a repeat may
    change them. Raises MessageError for a relative namespace, which has no canonical form.
    """
    try:
        canonical = etree.tostring(document, method="c14n", exclusive=True, with_comments=False)
    except etree.C14NError:
        raise MessageError("relative namespace name", "/Document") from None
    return blake2b(canonical, digest_size=16).digest()
