"""Totals: each link's own view of what was decided, by business date, once, whatever repeats, is undone or takes over."""

import pytest
from engines import DIALECT, Pair, answer_to, card, rules
from msgspec.structs import replace

from messages.iso8583.codec import Iso8583Codec
from messages.message import Kind, Summary, Trait
from switch.core.records import Counted, Role
from switch.core.rules import Limits

AMOUNT = 1_000  # of card()


@pytest.fixture(autouse=True)
def _told(monkeypatch):
    """Summaries as profiles will give them."""
    decode = Iso8583Codec.decode

    def told(self, payload):
        message = decode(self, payload)
        if message.kind not in (Kind.REQUEST, Kind.ADVICE):
            return message
        traits = Trait.REVERSAL if message.attributes.type.startswith("04") else Trait.MONEY
        about = message.attributes
        return replace(message, summary=Summary("purchase", int(traits), about.amount or 0, about.currency))

    monkeypatch.setattr(Iso8583Codec, "decode", told)


def figures(pair, link):
    """{(date, counted): (count, amount)} of one link."""
    assert all(key.split("|")[0] == item.link for key, item in pair.state.totals.items())
    return {
        (item.date, item.counted.value): (item.count, item.amount)
        for item in pair.state.totals.values()
        if item.link == link
    }


def dated(pair, **dates):
    """As cutovers will set them."""
    for engine in pair.engines.values():
        for link, date in dates.items():
            engine.state.put_date(link, date)
        engine.state.commit()


def pay(pair, terminal, net, number=1, answer=None, **changes):
    pair.receive(terminal, card(number, **changes))
    pair.receive(net, answer or answer_to(pair.forwarded(net)))
    pair.ack(terminal)


def test_both_links_count_what_was_approved():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    for number in (1, 2):
        pay(pair, terminal, net, number)
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): (2, 2 * AMOUNT)}
    (total,) = (item for item in pair.state.totals.values() if item.link == "net")
    assert (total.profile, total.currency, total.counted) == ("purchase", "978", Counted.APPROVED)


def test_the_target_counts_at_its_answer_and_the_source_when_it_was_told():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert figures(pair, "net") and not figures(pair, "pos")
    pair.ack(terminal)
    assert figures(pair, "pos") == figures(pair, "net")


def test_what_the_switch_declines_is_no_figure_of_a_target():
    pair = Pair(rules(net={"timeout_ms": 500}))
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(1))
    pair.pass_ms(500)
    pair.tend()
    pair.ack(terminal)
    reversal = pair.sent(net, Role.ADVICE)[-1]
    pair.receive(net, answer_to(reversal))
    assert figures(pair, "net") == {("", "cancelled"): (1, AMOUNT)}, (
        "the target never said that it approved: no reversal"
    )
    pair.end(net)
    pair.receive(terminal, card(2))
    assert figures(pair, "pos") == {("", "declined"): (2, 2 * AMOUNT)}


def test_an_approval_that_was_undone_is_approved_and_reversed_at_the_target_and_declined_at_the_source():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.end(terminal)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.tend()
    assert figures(pair, "pos") == {("", "declined"): (1, AMOUNT)}
    pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[-1]))
    assert figures(pair, "net") == {("", "approved"): (1, AMOUNT), ("", "reversal"): (1, AMOUNT)}


def test_a_terminals_reversal_counts_at_both():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    pay(pair, terminal, net, mti="0420", de90="0200" + "0" * 38)
    assert figures(pair, "pos") == figures(pair, "net") == {("", "reversal"): (1, AMOUNT)}


def test_a_partial_approval_counts_what_was_approved_and_a_declines_amount_is_what_was_asked():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    partial = DIALECT.decode(answer_to(pair.forwarded(net), "10"))
    raw = {**partial.raw, 4: DIALECT.encode_field(4, f"{AMOUNT // 4:012d}")}
    pair.receive(net, DIALECT.assemble(partial.mti, raw))
    pair.ack(terminal)
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): (1, AMOUNT // 4)}
    pair.receive(terminal, card(2))
    declined = DIALECT.decode(answer_to(pair.forwarded(net), "51"))
    pair.receive(net, DIALECT.assemble(declined.mti, {**declined.raw, 4: DIALECT.encode_field(4, "0" * 12)}))
    assert figures(pair, "net")["", "declined"] == (1, AMOUNT)


def test_repeats_and_takeovers_count_once():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect(node="b")
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.die("a", held=[terminal])
    pair.ack(terminal)
    pair.receive(terminal, card())
    pair.ack(terminal)
    pair.restart("a")
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): (1, AMOUNT)}


def test_a_request_counts_under_the_date_at_which_it_was_accepted():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    dated(pair, net="0301", pos="0228")
    pair.receive(terminal, card())
    dated(pair, net="0302", pos="0301")
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.ack(terminal)
    pay(pair, terminal, net, 2)
    once = (1, AMOUNT)
    assert figures(pair, "net") == {("0301", "approved"): once, ("0302", "approved"): once}
    assert figures(pair, "pos") == {("0228", "approved"): once, ("0301", "approved"): once}


def test_the_oldest_date_of_a_link_is_dropped_and_what_comes_late_for_it_counts_today():
    pair = Pair(rules(limits=Limits(totals_dates_max=2)))
    terminal, net = pair.accept(), pair.connect()
    dated(pair, net="1230")
    pair.receive(terminal, card(1))
    late = answer_to(pair.forwarded(net))
    for number, date in enumerate(("1230", "1231", "0101"), 2):  # the order of cutovers, not of digits
        dated(pair, net=date)
        pay(pair, terminal, net, number)
    assert {date for date, _ in figures(pair, "net")} == {"1231", "0101"}
    assert {date for date, _ in figures(pair, "pos")} == {""}, "another link keeps its own"
    pair.receive(net, late)
    once, twice = (1, AMOUNT), (2, 2 * AMOUNT)
    assert figures(pair, "net") == {("1231", "approved"): once, ("0101", "approved"): twice}


def test_a_date_that_counts_late_is_older_than_the_present_one():
    pair = Pair(rules(limits=Limits(totals_dates_max=2)))
    terminal, net = pair.accept(), pair.connect()
    dated(pair, net="1231")
    pair.receive(terminal, card(1))
    late = answer_to(pair.forwarded(net))
    dated(pair, net="0101")
    pay(pair, terminal, net, 2)
    pair.receive(net, late)
    dated(pair, net="0102")
    pay(pair, terminal, net, 3)
    assert {date for date, _ in figures(pair, "net")} == {"0101", "0102"}


def test_more_kinds_of_totals_than_may_be_are_counted_without_profile_and_currency():
    pair = Pair(rules(limits=Limits(totals_max=1)))
    terminal = pair.accept()
    for number in range(1, 6):
        pair.receive(terminal, card(number, de49=f"{100 + number}"))
    counts = {item.currency: (item.count, item.amount) for item in pair.state.totals.values()}
    assert counts == {"": (4, 0), "101": (1, AMOUNT)}


def test_none_are_kept_where_none_are_wanted():
    pair = Pair(rules(limits=Limits(totals_dates_max=0)))
    terminal, net = pair.accept(), pair.connect()
    pay(pair, terminal, net)
    assert pair.state.totals == {}
