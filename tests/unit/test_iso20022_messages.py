"""A credit transfer that is built up and changed step by step is, at each step, what a plain model of it says.

It gets identifications, transactions, a header and the marks of a repeat; it is forwarded, answered by its bank, refused and
undone. What is made here is read again as XML, and names its original by the identifications that the model has.
"""

from xml.sax.saxutils import escape

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lxml import etree
from test_iso20022_codec import CODEC, UETR, pacs_002, pacs_008, transaction, with_header

from messages.facts import Facts
from messages.message import Cause, Decision, Kind, Message, Reason

UTC = 1_780_000_000.0
DECISIONS = {
    "ACSC": Decision.APPROVED, "ACCC": Decision.APPROVED, "ACTC": Decision.APPROVED, "PDNG": Decision.INTERIM,
    "RCVD": Decision.INTERIM, "RJCT": Decision.DECLINED, "CANC": Decision.DECLINED,
}  # fmt: skip
NAMES = ("Mustermann", "Dupont")  # of debtor and creditor: personal data
# of Max35Text, with what XML has to escape
IDS = st.text("ABYZabyz0189/-?:().,'+&<>\"é", min_size=1, max_size=35)
CENTS = st.integers(1, 10**11)


class Transfers(RuleBasedStateMachine):
    @initialize(msg_id=IDS, end_to_end_id=IDS, cents=CENTS)
    def begin(self, msg_id: str, end_to_end_id: str, cents: int) -> None:
        self.msg_id = msg_id
        self.transactions = [(end_to_end_id, cents)]
        self.marks: str | None = None  # None: without a header
        self.indented = False
        self.digests: dict[bytes, object] = {}

    def _payload(self) -> bytes:
        parts = [transaction(escape(id_), f"{cents // 100}.{cents % 100:02d}") for id_, cents in self.transactions]
        text = pacs_008(*parts, msg_id=escape(self.msg_id))
        if self.indented:
            text = text.replace("><", ">\n  <")
        return (text if self.marks is None else with_header(text, self.marks)).encode()

    def _message(self) -> Message:
        return CODEC.decode(self._payload())

    @property
    def single(self) -> bool:
        return len(self.transactions) == 1

    def _key(self) -> bytes:
        """A file is matched as a group, by its own identification only."""
        return f"{self.msg_id}\x1f{self.transactions[0][0] if self.single else ''}".encode()

    # --- changes

    @rule(msg_id=IDS)
    def it_gets_another_identification(self, msg_id: str) -> None:
        self.msg_id = msg_id

    @precondition(lambda self: len(self.transactions) < 5)
    @rule(end_to_end_id=IDS, cents=CENTS)
    def a_transaction_is_added(self, end_to_end_id: str, cents: int) -> None:
        self.transactions.append((end_to_end_id, cents))

    @precondition(lambda self: not self.single)
    @rule(place=st.integers(0, 4))
    def a_transaction_is_taken_out(self, place: int) -> None:
        del self.transactions[place % len(self.transactions)]

    @rule(marks=st.sampled_from([None, "", "<PssblDplct>true</PssblDplct>", "<CpyDplct>DUPL</CpyDplct>"]))
    def it_is_wrapped_otherwise(self, marks: str | None) -> None:
        self.marks = marks

    @rule()
    def it_is_indented_or_not(self) -> None:
        self.indented = not self.indented

    # --- what links do with it

    @rule()
    def it_is_forwarded(self) -> None:
        out = CODEC.forward(self._message(), 7, CODEC, utc=UTC)
        assert (out.payload, out.match_key) == (self._payload(), self._key())

    @precondition(lambda self: self.single)
    @rule(status=st.sampled_from(sorted(DECISIONS)), reason=st.sampled_from(["", "AC04"]))
    def its_bank_answers(self, status: str, reason: str) -> None:
        end_to_end_id = escape(self.transactions[0][0])
        payload = pacs_002(status, original=escape(self.msg_id), end_to_end_id=end_to_end_id, reason=reason).encode()
        answer = CODEC.decode(payload)
        assert (answer.kind, answer.match_key) == (Kind.ANSWER, self._key())
        assert answer.outcome is not None and answer.outcome.decision is DECISIONS[status]
        assert answer.outcome.code == (f"{status}/{reason}" if reason else status)
        assert CODEC.answer(CODEC.original(self._message()), answer.outcome) == payload

    @rule(reason=st.sampled_from(Reason))
    def it_is_refused(self, reason: Reason) -> None:
        original = CODEC.original(self._message())
        outcome = CODEC.refuse(original, reason)
        assert outcome.decision is Decision.DECLINED and outcome.code.startswith("RJCT/")
        payload = CODEC.answer(original, outcome)
        assert payload == CODEC.answer(original, outcome), "the nodes would answer with different bytes"
        self._is_a_report(payload, outcome.code)

    @rule(cause=st.sampled_from(Cause))
    def it_is_undone(self, cause: Cause) -> None:
        out = CODEC.reversal(CODEC.original(self._message()), b"", 0, UTC, cause)
        assert out.match_key == b"", "it wants no answer"
        self._is_a_report(out.payload, "RJCT/AB05")

    def _is_a_report(self, payload: bytes, code: str) -> None:
        """That names the original by its identifications, in the form of the request."""
        report = CODEC.decode(payload)
        assert (report.kind, report.match_key) == (Kind.ANSWER, self._key())
        assert report.outcome is not None and report.outcome.code == code
        assert CODEC.decode(etree.tostring(etree.fromstring(payload))).digest == report.digest, (
            "not the same read again"
        )
        document = etree.fromstring(payload)
        assert (etree.QName(document).localname == "Envelope") == (self.marks is not None)

        def texts(name: str) -> list[str | None]:
            return [each.text for each in document.iter(f"{{*}}{name}")]

        status, _, reason = code.partition("/")
        assert texts("OrgnlMsgId") == [self.msg_id] and texts("OrgnlMsgNmId") == ["pacs.008.001.08"]
        assert texts("OrgnlEndToEndId") == ([self.transactions[0][0]] if self.single else [])
        assert texts("OrgnlUETR") == ([UETR] if self.single else [])
        assert texts("TxSts" if self.single else "GrpSts") == [status] and texts("Cd") == [reason]
        assert not [name for name in NAMES if name.encode() in payload]

    # --- what holds after each step

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        if not hasattr(self, "msg_id"):
            return
        message = self._message()
        total = sum(cents for _, cents in self.transactions)
        assert (message.kind, message.match_key) == (Kind.REQUEST, self._key())
        assert (message.attributes.amount, message.attributes.currency) == (total, "EUR")
        assert (message.summary.amount, message.summary.currency) == (total, "EUR")
        assert message.repeat == bool(self.marks)
        content = (self.msg_id, tuple(self.transactions))
        assert self.digests.setdefault(message.digest, content) == content, "another content has this digest"
        assert list(self.digests.values()).count(content) == 1, "its form changes the digest"

    @invariant()
    def what_is_shown_and_kept_names_nobody(self) -> None:
        if not hasattr(self, "msg_id"):
            return
        message = self._message()
        original = CODEC.original(message)
        facts = CODEC.facts(original, None)
        told = "|".join(str(getattr(facts, name)) for name in Facts.__struct_fields__)
        told += f"{message!r} {message.body!r} {message.attributes!r} {message.summary!r} {original!r}"
        assert not [name for name in NAMES if name in told]
        end_to_end_id = self.transactions[0][0] if self.single else ""
        assert (facts.message_id, facts.end_to_end_id) == (self.msg_id, end_to_end_id)
        assert facts.uetr == (UETR if self.single else "")


TestTransfers = Transfers.TestCase
TestTransfers.settings = settings(
    max_examples=50, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
