"""Reconciliation: a link's figures are compared with its totals of the business date, and the answer says what differs."""

import pytest
from engines import DIALECT, Pair, answer_to, card, rules
from test_core_totals import dated, pay

from messages.iso8583.codec import Iso8583Codec
from messages.iso8583.options import Iso8583Options
from messages.message import MessageError, Reconciliation
from switch.core.books import Total
from switch.core.proposals import Refuse, Reply, Request
from switch.core.reconcile import summed
from switch.core.records import Counted, Role
from switch.core.rules import Limits, Reconciling, RulesError, check

FIELDS = {74: 10, 75: 10, 76: 10, 77: 10, 78: 10, 80: 10, 81: 10, 86: 16, 87: 16, 88: 16, 89: 16}


def settle(stan=900, mti="0500", net="", date="", currency="", **figures):
    """A reconciliation; figures are fields, `de76=2`."""
    fields = {7: "0301230000", 11: f"{stan:06d}", 41: "TERM0001", 42: "MERCHANT0000001"}
    fields |= {15: date} if date else {}
    fields |= {50: currency} if currency else {}
    fields |= {int(name[2:]): f"{value:0{FIELDS[int(name[2:])]}d}" for name, value in figures.items()}
    fields |= {97: net} if net else {}
    return DIALECT.assemble(mti, {number: DIALECT.encode_field(number, fields[number]) for number in sorted(fields)})


@pytest.fixture
def pair():
    return Pair(rules(pos={"reconciliation": Reconciling()}, net={"reconciliation": Reconciling()},
                      limits=Limits(journal_waiting_max=100)))  # fmt: skip


def ask(pair, session, payload):
    proposal = pair.receive(session, payload)
    assert isinstance(proposal, Refuse), proposal
    answer = DIALECT.decode(pair.sent(session, Role.ANSWER)[-1])
    return answer.mti, answer.fields


def traded(pair):
    """Two purchases approved, one declined, of 10.00 each."""
    terminal, net = pair.accept(), pair.connect()
    pay(pair, terminal, net, 1)
    pay(pair, terminal, net, 2)
    pair.receive(terminal, card(3))
    pair.receive(net, answer_to(pair.forwarded(net), "51"))
    pair.ack(terminal)
    return terminal, net


def test_in_balance(pair):
    terminal, _ = traded(pair)
    mti, fields = ask(pair, terminal, settle(de74=0, de76=2, de88=2_000, net="D" + f"{2_000:016d}"))
    assert (mti, fields[66], fields[39], fields[11], fields[41]) == ("0510", "1", "00", "000900", "TERM0001")
    assert 76 not in fields


def test_out_of_balance_is_told_our_figures_for_those_that_were_named(pair):
    terminal, _ = traded(pair)
    _, fields = ask(pair, terminal, settle(de76=3, de88=3_000, de77=0))
    assert (fields[66], fields[39]) == ("2", "95")
    assert (fields[76], fields[88], fields[77]) == ("0000000002", f"{2_000:016d}", "0000000000")
    assert 86 not in fields and 97 not in fields


def test_an_advice_is_answered_as_one_and_a_target_may_ask_too(pair):
    _, net = traded(pair)
    mti, fields = ask(pair, net, settle(mti="0520", de76=2))
    assert (mti, fields[66]) == ("0530", "1")
    mti, _ = ask(pair, net, settle(901, mti="0502", de76=2))
    assert mti == "0512"


def test_a_repeat_gets_the_recorded_answer_though_the_totals_have_moved(pair):
    terminal, net = traded(pair)
    ask(pair, terminal, settle(de76=2))
    pay(pair, terminal, net, 4)
    assert isinstance(pair.receive(terminal, settle(mti="0501", de76=2)), Reply)
    assert DIALECT.decode(pair.sent(terminal, Role.ANSWER)[-1]).fields[66] == "1"


def test_it_is_in_the_journal_and_in_no_total(pair):
    terminal, _ = traded(pair)
    before = dict(pair.state.totals)
    ask(pair, terminal, settle(de76=2))
    assert pair.state.journal[max(pair.state.journal)].kind.value == "reconciliation"
    assert pair.state.totals == before


def test_a_date_and_a_currency_choose_the_totals(pair):
    terminal, net = pair.accept(), pair.connect()
    for number, date in enumerate(("0301", "0302", "0302"), 1):
        dated(pair, pos=date)
        pay(pair, terminal, net, number)
    pay(pair, terminal, net, 4, de49="840")
    told = [
        ask(pair, terminal, settle(900 + place, **chosen))[1][66]
        for place, chosen in enumerate(
            (
                {"date": "0301", "de76": 1},
                {"date": "0302", "de76": 3},
                {"de76": 3},
                {"date": "0302", "currency": "978", "de76": 2},
                {"date": "0228", "de76": 0},
                {"date": "0302", "de76": 4},
            )
        )
    ]
    assert told == [*"111112"]


def test_without_its_table_a_link_reconciles_with_whom_its_route_names():
    pair = Pair()
    terminal, _ = pair.accept(), pair.connect()
    assert isinstance(pair.receive(terminal, settle(de76=2)), Request)


def test_one_without_figures_is_a_format_error(pair):
    terminal = pair.accept()
    assert ask(pair, terminal, settle())[1][39] == "30"


def test_sides_and_reversals():
    def total(profile, counted, count, amount):
        return Total("l", "", profile, "978", counted, 1, count, amount)

    found = summed(
        [
            total("purchase", Counted.APPROVED, 3, 300), total("completion", Counted.ADVICE, 1, 50),
            total("purchase", Counted.REVERSAL, 1, 100), total("purchase", Counted.CANCELLED, 9, 900),
            total("purchase", Counted.DECLINED, 9, 900), total("refund", Counted.APPROVED, 2, 20),
            total("refund", Counted.REVERSAL, 1, 10), total("transfer", Counted.APPROVED, 4, 40),
            total("transfer", Counted.REVERSAL, 1, 4), total("balance", Counted.APPROVED, 5, 0),
            total("preauth", Counted.APPROVED, 6, 60), total("preauth", Counted.REVERSAL, 1, 10),
        ],
        Reconciling(),
    )  # fmt: skip
    assert found == Reconciliation(
        debits=4, debit_amount=350, debit_reversals=1, debit_reversal_amount=100, credits=2, credit_amount=20,
        credit_reversals=1, credit_reversal_amount=10, transfers=4, transfer_reversals=1, inquiries=5, authorizations=6,
    )  # fmt: skip


@pytest.mark.parametrize(("count", "code"), [(2, "500"), (3, "501")])
def test_1993_says_it_by_its_action_code(count, code):
    codec = Iso8583Codec(Iso8583Options(dialect="iso93-ascii"))
    fields = {
        11: "000001",
        12: "260301230000",
        15: "260301",
        41: "TERM0001",
        42: "MERCHANT0000001",
        76: f"{count:010d}",
    }
    message = codec.decode(codec.dialect.encode("1500", fields))
    assert codec.reconciles(message) == ("0301", "")
    outcome = codec.reconcile(message, Reconciliation(debits=2))
    answer = codec.dialect.decode(codec.answer(codec.original(message), outcome))
    assert (answer.mti, answer.fields[39], outcome.code) == ("1510", code, code)


def test_a_link_of_transfers_has_none():
    with pytest.raises(RulesError, match=r"link.reconciliation"):
        check(rules(bank={"reconciliation": Reconciling()}))
    pair = Pair()
    codec = pair.engines["a"].wires["bank"].codec
    with pytest.raises(MessageError):
        codec.reconcile(None, Reconciliation())
