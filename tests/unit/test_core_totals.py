"""Totals: each link's own view of what was decided, by business date, once, whatever repeats, is undone or takes over."""

import pytest
from engines import CARDS, DIALECT, Pair, answer_to, card, rules
from msgspec.structs import replace
from test_core_store import reversal
from test_core_unsent import RULE, given, no_pin

from switch.core.proposals import AdviceSend, Settle
from switch.core.records import Counted, Role
from switch.core.rules import Limits

AMOUNT = 1_000  # of card()


def figures(pair, link):
    """{(date, counted): (count, amount)} of one link."""
    assert all(key.split("|")[0] == item.link for key, item in pair.state.totals.items())
    return {
        (item.date, item.counted.value): (item.count, item.amount)
        for item in pair.state.totals.values()
        if item.link == link
    }


def dated(pair, **dates):
    """As cutovers set them."""
    for engine in pair.engines.values():
        for link, date in dates.items():
            engine.state.put_date(link, date)
        engine.state.commit()


def pay(pair, terminal, net, number=1, answer=None, **changes):
    pair.receive(terminal, card(number, **changes))
    pair.receive(net, answer or answer_to(pair.forwarded(net)))
    pair.ack(terminal)


def tell(pair, net, code="00"):
    """Each advice that is due goes out and is answered."""
    while any(isinstance(due, AdviceSend) for due in pair.tend()):
        pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[-1], code))


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


def test_a_reversal_of_what_is_not_known_here_counts_at_both():
    """What it is about may have been approved before outcomes were forgotten."""
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, reversal(9))
    tell(pair, net)
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


# --- advices of terminals, stand-in, what is sent elsewhere

ONE = (1, AMOUNT)
STORED = Limits(journal_waiting_max=100)


def stored(**links):
    pair = Pair(rules(limits=STORED, net={"timeout_ms": 1_000, "advice_retry_ms": 100} | links.pop("net", {}), **links))
    return pair, pair.accept(), pair.connect()


def rows(pair):
    """(kind, decision, transaction, advice) of each row, in order."""
    items = [pair.state.journal[number] for number in sorted(pair.state.journal)]
    return [(i.kind.value, i.outcome and i.outcome.decision.name, i.transaction, i.advice) for i in items]


def test_a_completion_counts_at_its_source_when_it_is_kept_and_at_its_target_when_that_has_it():
    pair, terminal, net = stored()
    pair.receive(terminal, card(mti="0220"))
    assert figures(pair, "pos") == {("", "advice"): ONE} and not figures(pair, "net") and not rows(pair)
    tell(pair, net)
    assert figures(pair, "pos") == figures(pair, "net") == {("", "advice"): ONE}
    assert rows(pair) == [("advice", "APPROVED", 0, 1)]


def test_a_reversal_after_its_original_is_over_leaves_a_row_of_what_it_undid():
    pair, terminal, net = stored()
    pay(pair, terminal, net)
    pair.receive(terminal, reversal())
    assert rows(pair) == [("request", "APPROVED", 1, 0), ("undone", "APPROVED", 1, 0)]
    tell(pair, net)
    assert rows(pair)[2:] == [("advice", "APPROVED", 1, 1)]
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): ONE, ("", "reversal"): ONE}
    assert {total.profile for total in pair.state.totals.values()} == {"purchase"}, "on the side of its original"


def test_the_same_before_the_terminal_has_acknowledged_the_approval():
    pair, terminal, net = stored()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.receive(terminal, reversal())
    pair.ack(terminal)
    tell(pair, net)
    assert rows(pair) == [
        ("request", "APPROVED", 1, 0), ("undone", "APPROVED", 1, 0), ("advice", "APPROVED", 1, 1),
    ]  # fmt: skip
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): ONE, ("", "reversal"): ONE}


def test_a_reversal_of_what_is_in_flight_moves_nothing_at_its_source():
    pair, terminal, net = stored()
    pair.receive(terminal, card())
    pair.receive(terminal, reversal())
    pair.receive(net, partly(pair, net))
    pair.ack(terminal)
    tell(pair, net)
    assert figures(pair, "pos") == {("", "declined"): ONE, ("", "cancelled"): ONE}
    part = (1, AMOUNT // 4)
    assert figures(pair, "net") == {("", "approved"): part, ("", "reversal"): part}
    assert rows(pair) == [("request", "DECLINED", 1, 0), ("advice", "APPROVED", 1, 1)]


def partly(pair, net):
    """The approval of a quarter."""
    told = DIALECT.decode(answer_to(pair.forwarded(net), "10"))
    return DIALECT.assemble(told.mti, {**told.raw, 4: DIALECT.encode_field(4, f"{AMOUNT // 4:012d}")})


def test_one_that_is_not_needed_is_dropped_and_has_a_row():
    pair, terminal, net = stored()
    pair.receive(terminal, card())
    pair.receive(terminal, reversal())
    pair.receive(net, answer_to(pair.forwarded(net), "51"))
    pair.ack(terminal)
    pair.receive(terminal, reversal(stan=777))
    assert not pair.state.advices
    assert rows(pair) == [("dropped", None, 1, 1), ("request", "DECLINED", 1, 0), ("dropped", "APPROVED", 1, 0)]
    assert figures(pair, "pos") == {("", "declined"): ONE, ("", "cancelled"): (2, 2 * AMOUNT)}
    assert figures(pair, "net") == {("", "declined"): ONE}


def test_one_whose_original_timed_out_is_no_reversal_of_an_approval():
    pair, terminal, net = stored()
    pair.receive(terminal, card())
    pair.receive(terminal, reversal())
    pair.pass_ms(1_000)
    tell(pair, net)
    pair.ack(terminal)
    assert figures(pair, "net") == {("", "cancelled"): ONE}
    assert figures(pair, "pos") == {("", "declined"): ONE, ("", "cancelled"): ONE}


def test_a_target_that_knows_no_original_has_moved_nothing():
    pair, terminal, net = stored(net={"advice_not_found_tries": 1})
    pair.receive(terminal, reversal(9))
    pair.receive(terminal, card(8, mti="0220"))
    tell(pair, net, "25")
    assert figures(pair, "net") == {("", "cancelled"): ONE, ("", "declined"): ONE}
    assert [row[:2] for row in rows(pair)] == [("advice", "DECLINED")] * 2


def test_what_an_operator_settles_has_a_row_and_is_in_no_total_of_its_target():
    pair, terminal, net = stored()
    pair.receive(terminal, card(mti="0220"))
    pair.tend()
    pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[-1], "30"))
    assert not rows(pair)
    pair.append("a", Settle(1, True))
    assert not rows(pair), "it is tried again"
    tell(pair, net, "30")
    pair.append("a", Settle(1, False))
    assert rows(pair) == [("settled", "DECLINED", 0, 1)] and pair.state.journal[1].outcome.code == "30"
    assert not figures(pair, "net")


def test_a_reversal_of_an_approval_in_part_takes_back_that_part():
    pair, terminal, net = stored()
    pair.receive(terminal, card())
    pair.receive(net, partly(pair, net))
    pair.ack(terminal)
    pair.receive(terminal, reversal())
    tell(pair, net)
    part = (1, AMOUNT // 4)
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): part, ("", "reversal"): part}


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_reversal_in_part_and_then_of_the_rest(acknowledged):
    pair, terminal, net = stored()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    if acknowledged:
        pair.ack(terminal)
    pair.receive(terminal, reversal(de95=f"{400:012d}{0:012d}C00000000C00000000"))
    assert figures(pair, "pos") == {("", "approved"): ONE, ("", "reversal"): (1, 600)}
    assert rows(pair) == [("request", "APPROVED", 1, 0)]
    tell(pair, net)
    pair.receive(terminal, reversal(stan=777))
    pair.ack(terminal)
    tell(pair, net)
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): ONE, ("", "reversal"): (2, AMOUNT)}
    assert [row[0] for row in rows(pair)] == ["request", "advice", "undone", "advice"]


def test_what_a_reversal_in_part_has_left_and_reached_nobody_is_reversed_too():
    pair, terminal, net = stored()
    other = pair.accept()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.receive(other, reversal(de95=f"{400:012d}{0:012d}C00000000C00000000"))
    pair.end(terminal, 0)
    pair.tend()
    pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[-1]))
    tell(pair, net)
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): ONE, ("", "reversal"): (2, AMOUNT)}
    assert [row[0] for row in rows(pair)] == ["request", "undone", "advice", "advice"]


def test_a_source_that_takes_no_part_is_declined_and_its_issuer_reversed():
    pair, terminal, net = stored(pos={"iso8583": replace(CARDS, partial=False)})
    pair.receive(terminal, card())
    pair.receive(net, partly(pair, net))
    pair.ack(terminal)
    tell(pair, net)
    part = (1, AMOUNT // 4)
    assert figures(pair, "net") == {("", "approved"): part, ("", "reversal"): part}
    assert figures(pair, "pos") == {("", "declined"): ONE}


def test_a_reversed_completion_is_undone_by_its_advice():
    pair, terminal, net = stored()
    pair.receive(terminal, card(mti="0220"))
    original = f"0220{1:06d}0301100000{'123456'.zfill(11)}{0:011d}"
    pair.receive(terminal, card(501, mti="0400", de90=original))
    tell(pair, net)
    assert rows(pair) == [("undone", "APPROVED", 0, 1), ("advice", "APPROVED", 0, 1), ("advice", "APPROVED", 0, 2)]
    assert figures(pair, "pos") == figures(pair, "net") == {("", "advice"): ONE, ("", "reversal"): ONE}


def test_stand_in_is_an_approval_of_its_source_and_an_advice_of_its_target():
    pair = Pair(replace(given([RULE]), limits=STORED))
    dated(pair, net="0301")
    terminal = pair.accept()
    pair.receive(terminal, no_pin())
    pair.tend()
    pair.ack(terminal)
    net = pair.connect()
    pair.receive(terminal, reversal())
    tell(pair, net)
    assert figures(pair, "pos") == {("", "approved"): ONE, ("", "reversal"): ONE}
    assert figures(pair, "net") == {("0301", "advice"): ONE, ("0301", "reversal"): ONE}
    assert rows(pair) == [
        ("request", "APPROVED", 1, 0), ("undone", "APPROVED", 1, 0), ("advice", "APPROVED", 1, 1),
        ("advice", "APPROVED", 1, 2),
    ]  # fmt: skip


def test_stand_in_that_reaches_nobody_is_an_advice_and_a_reversal_of_its_target():
    pair = Pair(replace(given([RULE]), limits=STORED))
    terminal = pair.accept()
    pair.receive(terminal, no_pin())
    pair.tend()
    pair.end(terminal, 0)
    pair.tend()
    net = pair.connect()
    tell(pair, net)
    assert figures(pair, "net") == {("", "advice"): ONE, ("", "reversal"): ONE}
    assert figures(pair, "pos") == {("", "declined"): ONE}


def test_only_the_target_that_answered_counts():
    pair = Pair(replace(given(), limits=STORED))
    terminal, net, alt = pair.accept(), pair.connect(), pair.connect("alt")
    pair.receive(terminal, card())
    pair.end(net, 0, written=0)
    pair.tend()
    pair.receive(alt, answer_to(pair.forwarded(alt)))
    pair.ack(terminal)
    assert not figures(pair, "net") and figures(pair, "alt") == figures(pair, "pos") == {("", "approved"): ONE}
    assert pair.state.journal[1].target == "alt"


def test_another_session_for_its_answer_changes_nothing():
    pair = Pair(replace(given(pos={"redeliver": True}), limits=STORED))
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.end(one, 0)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.tend()
    pair.ack(two)
    assert figures(pair, "pos") == figures(pair, "net") == {("", "approved"): ONE}
    assert rows(pair) == [("request", "APPROVED", 1, 0)]


def test_a_cutover_begins_the_date_under_which_is_counted():
    pair, terminal, net = stored()
    fields = {7: "0301100000", 11: "000007", 15: "0302", 70: "201"}
    pair.receive(net, DIALECT.assemble("0800", {each: DIALECT.encode_field(each, fields[each]) for each in fields}))
    pay(pair, terminal, net)
    assert set(figures(pair, "net")) == {("0302", "approved")}
