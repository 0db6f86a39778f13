"""The auditor finds each fault in forged records, and nothing in a faultless one."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from messages.framing import Framer
from messages.iso8583 import load_dialect
from tools.audit import audit
from tools.card_reader import CardReader
from tools.card_requests import Advices, CardTemplate, Clock
from tools.cards import issue_cards
from tools.judge import Auditor, Verdict
from tools.ledger import Ledger, account_token
from tools.payments import Transfer, read_payment
from tools.record import Recorder, SessionRecord
from tools.status_report import status_report
from tools.transfer_requests import built_in_templates

DIALECT = load_dialect("iso87-binary")
FRAMER = Framer.of("2-byte-be", "tpdu")
XML = Framer.of("8-ascii", maximum=1 << 20)
TPDU = bytes.fromhex("6000030001")
TERMINAL = "T0000001"
SESSION = ("127.0.0.1:1", "127.0.0.1:2")


class World:
    """Two card requests and a transfer, told step by step; a test leaves out, repeats or changes a step."""

    def __init__(self, folder: Path) -> None:
        self.folders = {name: folder / name for name in ("inject", "issuer", "bank")}
        self.injector, self.issuer, self.bank = (Recorder(each) for each in self.folders.values())
        self.ledgers = {name: Ledger(self.folders[name]) for name in ("issuer", "bank")}
        self.now = 1.0
        self.injector.mark("begun", self.now)
        self.terminal = self.injector.open_session(self.now, *SESSION, "2-byte-be", "tpdu", DIALECT.name)
        self.trunk = self.issuer.open_session(self.now, *SESSION, "2-byte-be", "tpdu", DIALECT.name)
        self.branch = self.injector.open_session(self.now, *SESSION, "8-ascii", "none")
        self.correspondent = self.bank.open_session(self.now, *SESSION, "8-ascii", "none")
        self.dice = Random(7)
        self.cards = issue_cards(2, self.dice)
        self.template = CardTemplate(DIALECT, TERMINAL, self.cards[0], self.dice)

    def tick(self) -> float:
        self.now += 0.01
        return self.now

    def card(self, number: int, amount: int = 2500, repeat: bool = False) -> bytes:
        request = self.template.build(number, f"{number:012d}", amount, Clock(DIALECT).at(1e9), Random(number))
        return request.repeat if repeat else request.payload

    def reversal(self, number: int, stan_off: int = 500) -> bytes:
        times = Clock(DIALECT).at(1e9)
        request = self.template.build(number, f"{number:012d}", 2500, times, Random(number))
        return Advices(DIALECT).reversal(request, number + stan_off, times).payload

    def sale(self, number: int) -> bytes:
        request = self.template.build(number, f"{number:012d}", 2500, Clock(DIALECT).at(1e9), Random(number))
        return Advices(DIALECT).sale(request).payload

    def answer(self, request: bytes, code: str = "00", **changed: str) -> bytes:
        message = CardReader(DIALECT).read(request)
        raw = {number: message.raw[number] for number in (2, 3, 4, 7, 11, 37, 41, 42, 49)}
        raw[39] = DIALECT.encode_field(39, code)
        for name, value in changed.items():
            raw[int(name[2:])] = DIALECT.encode_field(int(name[2:]), value)
        return DIALECT.assemble(f"{message.mti[:2]}{int(message.mti[2]) + 1}0", dict(sorted(raw.items())))

    def undo(self, number: int) -> None:
        self.ledgers["issuer"].undo((f"{number:012d}", TERMINAL), f"{number:06d}")

    def ask(self, request: bytes, session: SessionRecord | None = None) -> None:
        (session or self.terminal).on_sent(FRAMER.frame(request, TPDU), self.tick())

    def tell(self, answer: bytes, header: bytes | None = None, session: SessionRecord | None = None) -> None:
        frame = FRAMER.frame(answer, header or FRAMER.answer_header(TPDU))
        (session or self.terminal).on_received(frame, self.tick())

    def forward(self, request: bytes) -> None:
        self.trunk.on_received(FRAMER.frame(request, TPDU), self.tick())

    def decide(self, answer: bytes) -> None:
        self.trunk.on_sent(FRAMER.frame(answer, TPDU), self.tick())

    def post(self, number: int, amount: int = 2500, pan: str = "") -> None:
        account = account_token(pan or self.cards[0].pan)
        self.ledgers["issuer"].post((f"{number:012d}", TERMINAL), f"{number:06d}", account, amount, "978")

    def approve(self, number: int, **changed: str) -> None:
        """A whole approved withdrawal."""
        request = self.card(number)
        answer = self.answer(request, **changed)
        self.ask(request)
        self.forward(request)
        self.post(number)
        self.decide(answer)
        self.tell(answer)

    def transfer(
        self,
        amount_off: int = 0,
        credits: int = 1,
        status: str = "ACSC",
        end_to_end_id: str = "",
        account: str = "",
        forwarded: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        """A whole transfer. account: where it is credited. forwarded: what of it is replaced by what on its way."""
        request = built_in_templates()[1].build("1234567890", 1, datetime.now(UTC), self.dice)
        transfer = read_payment(request.payload)
        assert isinstance(transfer, Transfer)
        reason = "AC04" if status == "RJCT" else ""
        end_to_end_id = end_to_end_id or request.end_to_end_id
        report = status_report(transfer, status, reason, transfer.msg_id, end_to_end_id, "STS1", "2026-01-01T00:00:00Z")
        self.branch.on_sent(XML.frame(request.payload), self.tick())
        self.correspondent.on_received(XML.frame(request.payload.replace(*forwarded)), self.tick())
        for _ in range(credits):
            amount = request.amount + amount_off
            token = account_token(account or transfer.creditor_account)
            self.ledgers["bank"].post(transfer.key, transfer.msg_id, token, amount, transfer.currency)
        self.correspondent.on_sent(XML.frame(report), self.tick())
        self.branch.on_received(XML.frame(report), self.tick())

    def audit(self, ended: bool = True) -> Verdict:
        if ended:
            self.injector.mark("ended", self.tick())
        for ledger in self.ledgers.values():
            ledger.close()
        for recorder in (self.injector, self.issuer, self.bank):
            recorder.close()
        return audit([self.folders["inject"]], self.folders["issuer"], self.folders["bank"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def no_answer(world: World) -> None:
    world.ask(world.card(3))


def a_repeat_without_an_answer(world: World) -> None:
    world.ask(world.card(1, repeat=True))


def a_repeat_on_another_session_without_an_answer(world: World) -> None:
    other = world.injector.open_session(world.now, *SESSION, "2-byte-be", "tpdu", DIALECT.name)
    world.ask(world.card(3))
    world.ask(world.card(3, repeat=True), other)
    world.tell(world.answer(world.card(3), "51"))


def both_answers_on_the_session_of_one(world: World) -> None:
    other = world.injector.open_session(world.now, *SESSION, "2-byte-be", "tpdu", DIALECT.name)
    world.ask(world.card(3))
    world.ask(world.card(3, repeat=True), other)
    world.tell(world.answer(world.card(3), "51"), session=other)
    world.tell(world.answer(world.card(3), "51"))
    world.tell(world.answer(world.card(3), "51"))


def a_repeat_approved_under_another_code(world: World) -> None:
    world.approve(3, de38="111111")
    world.ask(world.card(3, repeat=True))
    world.tell(world.answer(world.card(3), de38="222222"))


def a_repeated_reversal_without_an_answer(world: World) -> None:
    world.ask(world.card(3))
    world.ask(world.reversal(3))
    world.tell(world.answer(world.reversal(3)))
    world.ask(world.reversal(3))


def two_answers(world: World) -> None:
    world.tell(world.answer(world.card(1)))


def answers_that_differ(world: World) -> None:
    world.ask(world.card(1, repeat=True))
    world.tell(world.answer(world.card(1), "51"))


def answer_nobody_asked_for(world: World) -> None:
    world.tell(world.answer(world.card(9)))


def answer_with_another_stan(world: World) -> None:
    world.ask(world.card(3))
    world.tell(world.answer(world.card(3), "51", de11="999999"))


def answer_with_another_amount(world: World) -> None:
    world.ask(world.card(3))
    world.tell(world.answer(world.card(3), "51", de4="000000000001"))


def answer_to_another_terminal_address(world: World) -> None:
    world.ask(world.card(3))
    world.tell(world.answer(world.card(3), "51"), bytes.fromhex("6000020003"))


def answer_without_swapped_addresses(world: World) -> None:
    world.ask(world.card(3))
    world.tell(world.answer(world.card(3), "51"), TPDU)


def answer_on_another_session(world: World) -> None:
    other = world.injector.open_session(world.now, *SESSION, "2-byte-be", "tpdu", DIALECT.name)
    world.ask(world.card(3), other)
    world.tell(world.answer(world.card(3), "51"))


def posted_twice(world: World) -> None:
    world.post(1)


def forwarded_twice(world: World) -> None:
    world.forward(world.card(1))


def approved_but_not_posted(world: World) -> None:
    world.ask(world.card(3))
    world.tell(world.answer(world.card(3)))


def approved_but_undone(world: World) -> None:
    world.ledgers["issuer"].undo((f"{1:012d}", TERMINAL), f"{1:06d}")


def declined_but_posted(world: World) -> None:
    world.ask(world.card(3))
    world.post(3)
    world.tell(world.answer(world.card(3), "68"))


def posted_with_another_amount(world: World) -> None:
    world.ask(world.card(3))
    world.post(3, amount=2600)
    world.tell(world.answer(world.card(3)))


def posted_to_another_card(world: World) -> None:
    world.ask(world.card(3))
    world.post(3, pan=world.cards[1].pan)
    world.tell(world.answer(world.card(3)))


def _forward_changed(world: World, request: bytes, de: int, value: str) -> None:
    message = CardReader(DIALECT).read(request)
    world.forward(DIALECT.assemble(message.mti, {**message.raw, de: DIALECT.encode_field(de, value)}))


def forwarded_with_another_expiry(world: World) -> None:
    world.ask(world.card(3))
    _forward_changed(world, world.card(3), 14, "2912")
    world.tell(world.answer(world.card(3), "51"))


def forwarded_with_another_pin_block(world: World) -> None:
    world.ask(world.card(3))
    _forward_changed(world, world.card(3), 52, "00" * 8)
    world.tell(world.answer(world.card(3), "51"))


def forwarded_with_anothers_track(world: World) -> None:
    world.ask(world.card(3))
    _forward_changed(world, world.card(3), 35, world.cards[1].track2)
    world.tell(world.answer(world.card(3), "51"))


def a_reversal_of_anothers_card(world: World) -> None:
    world.ask(world.card(3))
    world.ask(world.reversal(3))
    _forward_changed(world, world.reversal(3), 2, world.cards[1].pan)
    world.tell(world.answer(world.reversal(3)))


def a_reversal_of_another_amount(world: World) -> None:
    world.ask(world.card(3))
    world.ask(world.reversal(3))
    _forward_changed(world, world.reversal(3), 4, "000000000001")
    world.tell(world.answer(world.reversal(3)))


def forwarded_reversed_twice(world: World) -> None:
    world.ask(world.card(3))
    world.ask(world.reversal(3))
    world.forward(world.reversal(3))
    world.forward(world.reversal(3, stan_off=501))
    world.tell(world.answer(world.reversal(3)))


def reversed_by_the_switch_and_again_for_the_terminal(world: World) -> None:
    world.ask(world.card(3))
    world.forward(world.reversal(3, stan_off=700))
    world.ask(world.reversal(3))
    world.tell(world.answer(world.reversal(3)))
    world.forward(world.reversal(3))


def a_timeout_reversed_twice_by_the_switch(world: World) -> None:
    world.ask(world.card(3))
    world.forward(world.reversal(3, stan_off=700))
    world.forward(world.reversal(3, stan_off=701))
    world.tell(world.answer(world.card(3), "68"))


def an_advice_forwarded_twice(world: World) -> None:
    world.ask(world.sale(3))
    world.post(3)
    world.forward(world.sale(3))
    _forward_changed(world, world.sale(3), 11, "000777")
    world.tell(world.answer(world.sale(3)))


def posted_but_never_asked_for(world: World) -> None:
    world.post(8)


def bytes_left_over_at_a_terminal(world: World) -> None:
    world.terminal.on_received(b"\x00\x80\x60", world.tick())


def bytes_left_over_at_the_issuer(world: World) -> None:
    world.trunk.on_received(FRAMER.frame(world.card(1), TPDU)[:-1], world.tick())


def a_message_that_cannot_be_read(world: World) -> None:
    world.terminal.on_received(FRAMER.frame(world.answer(world.card(1))[:-1]), world.tick())


def a_length_that_is_none(world: World) -> None:
    world.branch.on_received(b"0000x012", world.tick())


def a_hole_in_the_record(world: World) -> None:
    world.injector.chunk(world.terminal.session, 0, world.terminal.received + 1, world.tick(), FRAMER.keepalive)


def a_reset(world: World) -> None:
    world.terminal.on_end("reset", world.tick(), 104)


def closed_by_the_switch(world: World) -> None:
    world.terminal.on_end("eof", world.tick())


def the_issuers_link_lost(world: World) -> None:
    world.trunk.on_end("eof", world.tick())


def a_stan_used_twice_at_once(world: World) -> None:
    request = world.card(3)
    world.forward(request)
    message = CardReader(DIALECT).read(request)
    other = {**message.raw, 37: DIALECT.encode_field(37, "000000000004")}
    world.forward(DIALECT.assemble("0200", other))


def reversed_but_posted(world: World) -> None:
    world.ask(world.card(3))
    world.post(3)
    world.ask(world.reversal(3))
    world.tell(world.answer(world.reversal(3)))


def reversed_after_an_approval_but_posted(world: World) -> None:
    world.approve(3)
    world.ask(world.reversal(3))
    world.tell(world.answer(world.reversal(3)))


def a_reversal_that_nobody_acknowledged(world: World) -> None:
    world.ask(world.card(3))
    world.ask(world.reversal(3))


def a_reversal_acknowledged_twice(world: World) -> None:
    world.ask(world.card(3))
    world.ask(world.reversal(3))
    world.tell(world.answer(world.reversal(3)))
    world.tell(world.answer(world.reversal(3)))


def approved_after_its_reversal_was_acknowledged(world: World) -> None:
    world.ask(world.card(3))
    world.ask(world.reversal(3))
    world.tell(world.answer(world.reversal(3)))
    world.tell(world.answer(world.card(3)))


def an_advice_acknowledged_but_not_posted(world: World) -> None:
    world.ask(world.sale(3))
    world.tell(world.answer(world.sale(3)))


def an_advice_posted_twice(world: World) -> None:
    world.ask(world.sale(3))
    world.post(3)
    world.post(3)
    world.tell(world.answer(world.sale(3)))


def credited_twice(world: World) -> None:
    world.transfer(credits=2)


def credited_with_another_amount(world: World) -> None:
    world.transfer(amount_off=1)


def credited_to_another_account(world: World) -> None:
    world.transfer(account="BE71096123456769")


def forwarded_with_another_invoice(world: World) -> None:
    world.transfer(forwarded=(b"Invoice", b"Credit note"))


def credited_but_rejected(world: World) -> None:
    world.transfer(status="RJCT")


def settled_but_not_credited(world: World) -> None:
    world.transfer(credits=0)


Fault = Callable[[World], None]

FAULTS: list[tuple[Fault, str]] = [
    (no_answer, "lost"),
    (a_repeat_without_an_answer, "lost"),
    (a_repeat_on_another_session_without_an_answer, "lost"),
    (both_answers_on_the_session_of_one, "duplicated"),
    (a_repeat_approved_under_another_code, "unexpected"),
    (a_repeated_reversal_without_an_answer, "lost"),
    (two_answers, "duplicated"),
    (answers_that_differ, "unexpected"),
    (answer_nobody_asked_for, "unexpected"),
    (answer_with_another_stan, "unexpected"),
    (answer_with_another_amount, "unexpected"),
    (answer_to_another_terminal_address, "unexpected"),
    (answer_without_swapped_addresses, "unexpected"),
    (answer_on_another_session, "unexpected"),
    (posted_twice, "duplicated"),
    (forwarded_twice, "duplicated"),
    (approved_but_not_posted, "ledger_mismatch"),
    (approved_but_undone, "ledger_mismatch"),
    (declined_but_posted, "ledger_mismatch"),
    (posted_with_another_amount, "ledger_mismatch"),
    (posted_to_another_card, "ledger_mismatch"),
    (forwarded_with_another_expiry, "unexpected"),
    (forwarded_with_another_pin_block, "unexpected"),
    (forwarded_with_anothers_track, "unexpected"),
    (a_reversal_of_anothers_card, "unexpected"),
    (a_reversal_of_another_amount, "unexpected"),
    (forwarded_reversed_twice, "duplicated"),
    (reversed_by_the_switch_and_again_for_the_terminal, "duplicated"),
    (a_timeout_reversed_twice_by_the_switch, "duplicated"),
    (an_advice_forwarded_twice, "duplicated"),
    (posted_but_never_asked_for, "ledger_mismatch"),
    (bytes_left_over_at_a_terminal, "remainder"),
    (bytes_left_over_at_the_issuer, "remainder"),
    (a_message_that_cannot_be_read, "remainder"),
    (a_length_that_is_none, "remainder"),
    (a_hole_in_the_record, "remainder"),
    (a_reset, "resets"),
    (closed_by_the_switch, "resets"),
    (the_issuers_link_lost, "resets"),
    (a_stan_used_twice_at_once, "unexpected"),
    (reversed_but_posted, "ledger_mismatch"),
    (reversed_after_an_approval_but_posted, "ledger_mismatch"),
    (a_reversal_that_nobody_acknowledged, "lost"),
    (a_reversal_acknowledged_twice, "duplicated"),
    (approved_after_its_reversal_was_acknowledged, "unexpected"),
    (an_advice_acknowledged_but_not_posted, "ledger_mismatch"),
    (an_advice_posted_twice, "duplicated"),
    (credited_twice, "duplicated"),
    (credited_with_another_amount, "ledger_mismatch"),
    (credited_to_another_account, "ledger_mismatch"),
    (forwarded_with_another_invoice, "unexpected"),
    (credited_but_rejected, "ledger_mismatch"),
    (settled_but_not_credited, "ledger_mismatch"),
]
CATEGORIES = ("lost", "duplicated", "resets", "ledger_mismatch", "unexpected", "remainder")


def test_a_faultless_run_is_clean(world: World) -> None:
    world.approve(1)
    world.approve(2)
    world.transfer()
    verdict = world.audit()
    assert verdict.findings == []
    assert verdict.clean
    assert (verdict.sent, verdict.answered, verdict.approved) == (3, 3, 3)


@pytest.mark.parametrize(("fault", "category"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_it_finds(world: World, fault: Fault, category: str) -> None:
    world.approve(1)
    fault(world)
    verdict = world.audit()
    assert {name: getattr(verdict, name) for name in CATEGORIES} == dict.fromkeys(CATEGORIES, 0) | {category: 1}
    assert not verdict.clean
    assert verdict.findings[0].startswith(category)
    assert not any(card.pan in finding for card in world.cards for finding in verdict.findings)


def test_the_same_fields_in_another_dialect_are_no_fault(world: World) -> None:
    ascii_, request = load_dialect("iso87-ascii"), CardReader(DIALECT).read(world.card(3))
    assert "D" in request.text(35), "in packed digits the separator of a track is another one"
    values = {number: request.text(number) for number in request.raw} | {35: request.track2}
    host = world.issuer.open_session(world.now, *SESSION, "2-byte-be", "none", ascii_.name)
    forwarded = ascii_.assemble("0200", {number: ascii_.encode_field(number, text) for number, text in values.items()})
    world.ask(world.card(3))
    host.on_received(Framer.of("2-byte-be").frame(forwarded), world.tick())
    world.tell(world.answer(world.card(3), "51"))
    assert world.audit().findings == []


def test_the_auditor_keeps_no_card_data(world: World) -> None:
    world.approve(1)
    world.ask(world.reversal(1))
    world.injector.close()
    auditor = Auditor()
    auditor.hear_injector(world.folders["inject"])
    kept = repr((auditor._cases, auditor._reversals))
    assert f"{1:012d}" in kept
    card = world.cards[0]
    assert not any(secret in kept for secret in (card.pan, card.track2, card.pan[-4:]))


def test_a_repeat_and_its_second_answer_are_no_fault(world: World) -> None:
    world.approve(1)
    world.ask(world.card(1, repeat=True))
    world.tell(world.answer(world.card(1)))
    verdict = world.audit()
    assert verdict.clean
    assert (verdict.sent, verdict.repeats, verdict.answered) == (1, 1, 1)


def test_a_repeat_answered_once_is_no_fault(world: World) -> None:
    world.ask(world.card(1, repeat=True))
    world.approve(1)
    verdict = world.audit()
    assert verdict.clean
    assert verdict.repeats == 1


def test_a_repeat_of_what_was_reversed_meanwhile_needs_no_answer(world: World) -> None:
    world.ask(world.card(1))
    world.ask(world.card(1, repeat=True))
    world.ask(world.reversal(1))
    world.tell(world.answer(world.reversal(1)))
    world.ask(world.reversal(1))
    world.tell(world.answer(world.reversal(1)))
    verdict = world.audit()
    assert verdict.clean
    assert verdict.repeats == 2


def test_a_decline_that_was_reversed_at_the_issuer_is_no_fault(world: World) -> None:
    world.ask(world.card(3))
    world.post(3)
    world.tell(world.answer(world.card(3), "68"))
    world.ledgers["issuer"].undo((f"{3:012d}", TERMINAL), f"{3:06d}")
    assert world.audit().clean


def test_reversals_and_advices_that_the_ledger_agrees_with_are_no_fault(world: World) -> None:
    world.ask(world.card(1))  # never answered
    world.ask(world.reversal(1))
    world.tell(world.answer(world.reversal(1)))
    world.approve(2)  # and then taken back
    world.ask(world.reversal(2))
    world.ask(world.reversal(2))
    world.tell(world.answer(world.reversal(2)))
    world.undo(2)
    world.ask(world.card(3))  # answered while its reversal was on its way
    world.ask(world.reversal(3))
    world.tell(world.answer(world.card(3), "68"))
    world.tell(world.answer(world.reversal(3)))
    world.ask(world.sale(4))
    world.post(4)
    world.tell(world.answer(world.sale(4)))
    verdict = world.audit()
    assert verdict.findings == [] and verdict.clean
    assert (verdict.sent, verdict.answered, verdict.reversed, verdict.advices) == (4, 4, 3, 1)


def test_a_reversal_that_is_forwarded_again_under_its_stan_is_no_fault(world: World) -> None:
    world.ask(world.card(3))
    world.ask(world.reversal(3))
    world.forward(world.reversal(3, stan_off=700))
    world.forward(world.reversal(3, stan_off=700))
    world.tell(world.answer(world.reversal(3)))
    assert world.audit().findings == []


def test_sessions_may_end_after_the_run(world: World) -> None:
    world.approve(1)
    ended = world.now + 10
    world.terminal.on_end("closed", ended)
    world.trunk.on_end("reset", ended, 104)
    assert world.audit().clean


def test_a_run_without_an_end_is_found(world: World) -> None:
    world.approve(1)
    verdict = world.audit(ended=False)
    assert verdict.unexpected == 1
    assert not verdict.clean


def test_it_shows_no_more_than_twenty_findings(world: World) -> None:
    for number in range(1, 31):
        world.ask(world.card(number))
    verdict = world.audit()
    assert verdict.lost == 30
    assert len(verdict.findings) == 20
