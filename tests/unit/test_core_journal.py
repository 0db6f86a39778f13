"""The journal in the state: each final outcome once, numbered without gaps, kept until a database has it, and bounded."""

from engines import DIALECT, Pair, answer_to, card, network, rules, status, transfer

from messages.message import Decision
from switch.core import snapshot
from switch.core.proposals import Absorb, Configure, Journaled, NetworkRequest, Refuse, Reply, Request, Store
from switch.core.records import Role
from switch.core.rules import Limits

ON = Limits(journal_waiting_max=100)


def journalling(limits=ON, **links):
    return Pair(rules(limits=limits, **links))


def rows(pair):
    """(number, kind, decision) of what waits, in order."""
    items = pair.state.journal
    return [(n, items[n].kind.value, items[n].outcome and items[n].outcome.decision.name) for n in sorted(items)]


def pay(pair, terminal, net, number=1, code="00"):
    pair.receive(terminal, card(number))
    pair.receive(net, answer_to(pair.forwarded(net), code))
    pair.ack(terminal)


def test_a_transaction_is_in_it_when_it_is_finished_and_not_before():
    pair = journalling()
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert rows(pair) == []
    pair.ack(terminal)
    assert rows(pair) == [(1, "request", "APPROVED")]
    item = pair.state.journal[1]
    assert (item.link, item.target, item.transaction, item.stan) == ("pos", "net", 1, int(_stan(pair, net)))


def _stan(pair, net):
    return DIALECT.decode(pair.forwarded(net)).fields[11]


def test_a_decline_a_timeout_and_a_refusal_each_have_theirs():
    pair = journalling(net={"timeout_ms": 500})
    terminal, net = pair.accept(), pair.connect()
    pay(pair, terminal, net, 1, "51")
    pair.receive(terminal, card(2))
    pair.pass_ms(500)
    pair.tend()
    pair.ack(terminal)
    pair.end(net)
    assert isinstance(pair.receive(terminal, card(3)), Refuse)
    assert rows(pair) == [(1, "request", "DECLINED"), (2, "request", "DECLINED"), (3, "refusal", "DECLINED")]
    assert [pair.state.journal[number].transaction for number in (1, 2, 3)] == [1, 2, 0]


def test_repeats_add_none():
    pair = journalling()
    terminal, net = pair.accept(), pair.connect()
    pay(pair, terminal, net)
    assert isinstance(pair.receive(terminal, card()), Reply)
    pair.ack(terminal)
    assert rows(pair) == [(1, "request", "APPROVED")]


def test_a_refused_proposal_leaves_none():
    pair = journalling()
    terminal, net = pair.accept(), pair.connect()
    pair.end(net)
    refusal = pair.offer(terminal, card())
    assert pair.append("a", refusal, refusal) == [True, False]
    assert rows(pair) == [(1, "refusal", "DECLINED")]


def test_an_approval_that_is_undone_has_a_row_of_its_own_and_its_reversal_another():
    pair = journalling()
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.end(terminal)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.tend()
    assert rows(pair) == [(1, "undone", "APPROVED"), (2, "request", "DECLINED")]
    pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[-1]))
    assert rows(pair)[2:] == [(3, "advice", "APPROVED")]
    assert [pair.state.journal[number].transaction for number in (1, 2, 3)] == [1, 1, 1]
    assert pair.state.journal[3].advice == 1 and pair.state.journal[3].target == "net"


def test_a_confirmation_that_wants_no_answer_is_in_it_when_it_was_delivered():
    pair = journalling(hub={"timeout_ms": 500})
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    pair.pass_ms(500)
    pair.tend()
    pair.ack(bank)
    assert [kind for _, kind, _ in rows(pair)] == ["request"]
    pair.ack(hub)
    assert [kind for _, kind, _ in rows(pair)] == ["request", "advice"]


def test_transfers_are_in_it():
    pair = journalling()
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    pair.receive(hub, status())
    pair.ack(bank)
    assert rows(pair) == [(1, "request", "APPROVED")] and pair.state.journal[1].outcome.code == "ACSC"


def test_an_item_leaves_only_when_a_database_has_it():
    pair = journalling()
    terminal, net = pair.accept(), pair.connect()
    for number in (1, 2, 3):
        pay(pair, terminal, net, number)
    assert pair.append("b", Journaled(2)) == [True]  # whoever says so
    assert [number for number, _, _ in rows(pair)] == [3]
    assert pair.append("a", Journaled(2)) == [False]  # the next writer, which wrote the same rows again
    pay(pair, terminal, net, 4)
    assert [number for number, _, _ in rows(pair)] == [3, 4]
    assert pair.append("a", Journaled(99)) == [True]
    assert rows(pair) == [] and pair.state.meta.journaled == pair.state.meta.journal == 4


def test_a_takeover_in_the_middle_keeps_numbers_and_items():
    pair = journalling()
    terminal, net = pair.accept(), pair.connect(node="b")
    pay(pair, terminal, net, 1)
    pair.receive(terminal, card(2))
    pair.die("a", held=[terminal])
    assert rows(pair) == [(1, "request", "APPROVED")]
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.ack(terminal)
    pair.restart("a")
    assert pair.append("b", Journaled(1)) == [True]
    pay(pair, terminal, net, 3)
    assert [number for number, _, _ in rows(pair)] == [2, 3]
    assert [pair.state.journal[number].transaction for number in (2, 3)] == [2, 3]


def test_a_snapshot_holds_what_waits():
    pair = journalling()
    terminal, net = pair.accept(), pair.connect()
    for number in (1, 2):
        pay(pair, terminal, net, number)
    pair.append("a", Journaled(1))
    view = snapshot.View(pair.state)
    segments = {name: encode() for name, encode in view.segments().items()}
    copy = snapshot.load(view.index, list(view.chunks()), segments)
    assert copy.journal == pair.state.journal and list(copy.journal) == [2]
    assert (copy.meta.journal, copy.meta.journaled, copy.meta.origin) == (2, 1, "token")


def test_without_a_bound_there_is_no_journal():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    pay(pair, terminal, net)
    assert rows(pair) == [] and pair.state.meta.journal == 0


def test_switched_off_it_keeps_what_still_waits():
    pair = journalling()
    terminal, net = pair.accept(), pair.connect()
    pay(pair, terminal, net, 1)
    pair.append("a", Configure(rules().encode()))
    pay(pair, terminal, net, 2)
    assert [number for number, _, _ in rows(pair)] == [1]
    assert pair.append("a", Journaled(1)) == [True] and rows(pair) == []


# --- the bound


def full():
    pair = journalling(Limits(journal_waiting_max=2))
    terminal, net = pair.accept(), pair.connect()
    pay(pair, terminal, net, 1)
    assert "journal.full" not in pair.notes
    pay(pair, terminal, net, 2)
    assert "journal.full" in pair.notes
    return pair, terminal, net


def test_at_the_bound_requests_are_declined_and_nothing_more_waits():
    pair, terminal, _ = full()
    refusal = pair.receive(terminal, card(3))
    assert isinstance(refusal, Refuse) and refusal.outcome.decision is Decision.DECLINED
    assert refusal.why == "the journal is full" and pair.codes(terminal) == ["96"]
    assert [number for number, _, _ in rows(pair)] == [1, 2]
    pair.append("a", Journaled(1))
    assert "journal.taken" in pair.notes
    assert isinstance(pair.receive(terminal, card(3)), Request), "what was not accepted is not kept for repeats"


def test_a_request_that_was_on_its_way_to_the_log_does_not_go_over_the_bound():
    pair = journalling(Limits(journal_waiting_max=1))
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card(1))
    pair.receive(net, answer_to(pair.forwarded(net)))
    late = pair.offer(two, card(2))
    pair.ack(one)
    assert isinstance(late, Request) and pair.append("a", late) == [False]


def test_what_is_in_flight_at_the_bound_is_finished_and_kept():
    pair = journalling(Limits(journal_waiting_max=1))
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(1))
    pair.receive(terminal, card(2))
    for payload in pair.sent(net, Role.FORWARD):
        pair.receive(net, answer_to(payload))
    pair.ack(terminal)
    assert [number for number, _, _ in rows(pair)] == [1, 2]


def test_advices_go_on_at_the_bound_and_wait_at_their_sender_at_twice_the_bound():
    pair, terminal, net = full()
    for number in (3, 4):
        assert isinstance(pair.receive(terminal, card(number, mti="0220")), Store)
        pair.tend()
        pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[-1]))
    assert [kind for _, kind, _ in rows(pair)] == ["request", "request", "advice", "advice"]
    held = pair.receive(terminal, card(5, mti="0220"))
    assert isinstance(held, Absorb) and held.reason == "advice: the journal is full"


def test_an_advice_that_will_never_be_taken_is_told_so_and_is_in_no_book():
    pair = journalling()
    terminal, _ = pair.accept(), pair.connect()
    pair.receive(terminal, card(1, mti="0220"))
    before, told = rows(pair), len(pair.sent(terminal))
    counted = dict(pair.state.totals)
    pair.receive(terminal, card(1, mti="0220", de4="000000000077"))
    assert DIALECT.decode(pair.sent(terminal)[told]).fields[39] == "94" and pair.notes[-1] == "input.absorbed"
    assert rows(pair) == before and pair.state.totals == counted and len(pair.state.advices) == 1


def test_repeats_and_network_management_go_on_at_the_bound():
    pair, terminal, _ = full()
    assert isinstance(pair.receive(terminal, card(1)), Reply)
    assert pair.codes(terminal) == ["00"]
    assert isinstance(pair.receive(terminal, network("0800", "301")), NetworkRequest)
