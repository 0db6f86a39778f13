"""What the simulated issuer and bank answer and book."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from messages.iso8583 import load_dialect
from messages.iso20022 import load_schemas, parse
from tools.bank import Bank
from tools.decisions import DeclineRules, parse_endings
from tools.faults import Chance, FaultPlan, Faults, parse_delay
from tools.host import Heard
from tools.issuer import Issuer
from tools.ledger import Ledger
from tools.payments import Status, Transfer, read_payment
from tools.status_report import status_report
from tools.transfer_requests import TransferRequest, built_in_templates

DIALECT = load_dialect("iso87-ascii")
REQUEST = {
    2: "4100001200000005",
    3: "010000",
    4: "000000002500",
    7: "1122123456",
    11: "000042",
    32: "123456",
    37: "123456789012",
    41: "T0000001",
    42: "MERCHANT0000001",
    49: "978",
}
REVERSAL = {**REQUEST, 11: "000043", 90: "0200" + "000042" + "1122123456" + "0" * 22}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def issuer(ledger: Ledger) -> Issuer:
    return Issuer("iso87-ascii", ledger, DeclineRules((("0", "51"),), 100_000, "61"), seed=1)


@pytest.fixture
def bank(ledger: Ledger) -> Bank:
    return Bank(ledger, DeclineRules((), None, "AM02"), seed=1)


def card_answer(issuer: Issuer, mti: str, fields: dict[int, str]) -> tuple[str, dict[int, str]]:
    heard = issuer.receive(DIALECT.encode(mti, fields))
    assert heard.answer is not None
    answer = DIALECT.decode(heard.answer)
    return answer.mti, answer.fields


def balance(ledger: Ledger) -> int:
    return sum(ledger.balances.values())


def test_a_withdrawal_is_approved_and_booked(issuer: Issuer, ledger: Ledger) -> None:
    mti, fields = card_answer(issuer, "0200", REQUEST)
    assert mti == "0210"
    assert fields[39] == "00"
    assert len(fields[38]) == 6
    assert {number: fields[number] for number in REQUEST} == {**REQUEST, 32: fields[32]}
    assert balance(ledger) == 2500


@pytest.mark.parametrize(
    ("changed", "code"), [({2: "4100001200000070"}, "51"), ({4: "000000100001"}, "61")], ids=["by PAN", "by amount"]
)
def test_a_withdrawal_is_declined(issuer: Issuer, ledger: Ledger, changed: dict[int, str], code: str) -> None:
    _, fields = card_answer(issuer, "0200", {**REQUEST, **changed})
    assert fields[39] == code
    assert 38 not in fields
    assert balance(ledger) == 0


def test_a_second_copy_of_a_request_is_booked_again(issuer: Issuer, ledger: Ledger) -> None:
    card_answer(issuer, "0200", REQUEST)
    card_answer(issuer, "0201", REQUEST)
    assert balance(ledger) == 5000


def test_a_reversal_undoes_once_and_its_repeat_is_answered(issuer: Issuer, ledger: Ledger) -> None:
    card_answer(issuer, "0200", REQUEST)
    for mti in ("0420", "0421"):
        answer_mti, fields = card_answer(issuer, mti, REVERSAL)
        assert (answer_mti, fields[39], fields[11]) == ("0430", "00", "000043")
        assert balance(ledger) == 0


def test_a_reversal_that_names_another_stan_undoes_nothing(issuer: Issuer, ledger: Ledger) -> None:
    card_answer(issuer, "0200", REQUEST)
    _, fields = card_answer(issuer, "0420", {**REVERSAL, 90: "0200" + "000099" + "1122123456" + "0" * 22})
    assert fields[39] == "25"
    assert balance(ledger) == 2500


def test_a_request_that_comes_after_its_reversal_is_not_booked(issuer: Issuer, ledger: Ledger) -> None:
    card_answer(issuer, "0420", REVERSAL)
    _, fields = card_answer(issuer, "0200", REQUEST)
    assert fields[39] == "94"
    assert balance(ledger) == 0


def test_an_advice_is_booked_once(issuer: Issuer, ledger: Ledger) -> None:
    for mti in ("0220", "0221"):
        answer_mti, fields = card_answer(issuer, mti, REQUEST)
        assert (answer_mti, fields[39]) == ("0230", "00")
    assert balance(ledger) == 2500


@pytest.mark.parametrize("function", ["001", "301"], ids=["sign-on", "echo"])
def test_network_management_is_answered_and_never_disturbed(issuer: Issuer, function: str) -> None:
    request = {7: "1122123456", 11: "000001", 70: function}
    assert card_answer(issuer, "0800", request) == ("0810", {**request, 39: "00"})
    assert issuer.receive(DIALECT.encode("0800", request)).wrong is None


def test_what_cannot_be_read_is_noted_and_not_answered(issuer: Issuer, bank: Bank) -> None:
    for heard in (issuer.receive(b"0200garbage"), bank.receive(b"<garbage>")):
        assert heard.line.type == "undecodable"
        assert heard.answer is None


def test_a_wrong_answer_differs_in_what_it_is_matched_by(issuer: Issuer) -> None:
    for _ in range(10):
        heard = issuer.receive(DIALECT.encode("0200", REQUEST))
        assert heard.wrong is not None
        wrong = DIALECT.decode(heard.wrong()).fields
        assert (wrong[11], wrong[37]) != (REQUEST[11], REQUEST[37])


def a_transfer() -> TransferRequest:
    return built_in_templates()[1].build("1234567890", 1, datetime.now(UTC), Random(3))


def reported(heard: Heard) -> Status:
    assert heard.answer is not None
    parse(heard.answer, load_schemas())  # raises for what the schema does not allow
    status = read_payment(heard.answer)
    assert isinstance(status, Status)
    return status


def test_a_transfer_is_credited_and_confirmed(bank: Bank, ledger: Ledger) -> None:
    request = a_transfer()
    status = reported(bank.receive(request.payload))
    assert (status.code, status.key, status.amount) == ("ACSC", (request.end_to_end_id, request.uetr), request.amount)
    assert balance(ledger) == request.amount


def test_a_transfer_is_rejected_with_a_reason(ledger: Ledger) -> None:
    bank = Bank(ledger, DeclineRules((("", "AC04"),), None, "AM02"), seed=1)
    assert reported(bank.receive(a_transfer().payload)).code == "RJCT/AC04"
    assert balance(ledger) == 0


def test_a_negative_confirmation_undoes_the_credit_once_and_is_not_answered(bank: Bank, ledger: Ledger) -> None:
    request = a_transfer()
    transfer = read_payment(request.payload)
    assert isinstance(transfer, Transfer)
    bank.receive(request.payload)
    confirmation = status_report(
        transfer, "RJCT", "AB05", transfer.msg_id, transfer.end_to_end_id, "N1", "2026-01-01T00:00:00Z"
    )
    for _ in range(2):
        assert bank.receive(confirmation).answer is None
        assert balance(ledger) == 0
    assert reported(bank.receive(request.payload)).code == "RJCT/DUPL"


def test_every_nth_strikes_every_nth_time() -> None:
    chance = Chance("1/3", Random(1))
    assert [chance.strikes() for _ in range(6)] == [False, False, True] * 2


def test_a_probability_strikes_about_as_often_as_it_says() -> None:
    chance = Chance("0.1", Random(1))
    assert 60 < sum(chance.strikes() for _ in range(1000)) < 140


@pytest.mark.parametrize("text", ["2/3", "1/0", "1.5", "often"])
def test_a_chance_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Chance(text, Random(1))


def test_the_same_seed_deals_the_same_fates() -> None:
    plan = FaultPlan(delay_ms=parse_delay("5..20"), lose="0.2", late="0.2", duplicate="0.2", wrong="0.2", seed=9)
    one, other = Faults(plan), Faults(plan)
    fates = [one.deal() for _ in range(100)]
    assert fates == [other.deal() for _ in range(100)]
    assert {fate.copies for fate in fates} == {0, 1, 2}
    assert all(0.005 <= fate.wait_s <= 0.020 or fate.wait_s == 5.0 for fate in fates)


def test_a_decline_rule_without_a_code_is_refused() -> None:
    with pytest.raises(ValueError):
        parse_endings(["0"])
