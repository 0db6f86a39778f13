"""STANs: never pending twice, over two nodes, a restart, a takeover and the wrap-around."""

import pytest
from engines import Pair, answer_to, card, rules

from messages.iso20022.options import Iso20022Options
from messages.message import NetworkFunction
from switch.core.proposals import NetworkSend
from switch.core.rules import RulesError
from switch.core.wires import Wire, wires


@pytest.fixture
def pair():
    return Pair(rules(net={"timeout_ms": 500}))


def test_the_nodes_draw_from_even_and_odd_numbers(pair):
    pair.connect()
    given = {node: [pair.offer(pair.accept(node=node), card(n)).stan for n in (1, 2, 3)] for node in "ab"}
    assert given == {"a": [2, 4, 6], "b": [1, 3, 5]}


@pytest.mark.parametrize("node", "ab")
def test_after_a_restart_it_goes_on_behind_what_was_applied(pair, node):
    terminal, _ = pair.accept(node=node), pair.connect(node="b" if node == "a" else "a")
    for number in range(1, 4):
        pair.receive(terminal, card(number))
    last = pair.state.stans[f"net/{node}"]
    pair.die(node)
    pair.restart(node)
    assert pair.offer(pair.accept(node=node), card(9)).stan == last + 2


@pytest.mark.parametrize(("node", "last", "first"), [("a", 999_998, 2), ("b", 999_999, 1), ("b", 999_997, 999_999)])
def test_it_wraps_around_and_passes_over_what_is_pending(pair, node, last, first):
    terminal, _ = pair.accept(node=node), pair.connect()
    pending = pair.receive(terminal, card(1)).stan
    assert pending in (1, 2)
    pair.engines[node].wires["net"]._stan = last
    assert pair.receive(terminal, card(2)).stan == (first if first != pending else pending + 2)


def test_it_passes_over_the_stan_of_an_advice_that_waits(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(1))
    pair.pass_ms(500)
    pair.tend()
    (advice,) = pair.state.advices.values()
    assert advice.stan == 4
    pair.engines["a"].wires["net"]._stan = 999_998
    assert [pair.receive(terminal, card(n)).stan for n in (2, 3)] == [2, 6]
    pair.receive(net, answer_to(pair.sent(net)[1]))
    pair.engines["a"].wires["net"]._stan = 2
    assert pair.receive(terminal, card(4)).stan == 4


def test_two_proposals_of_one_stan_are_not_both_accepted(pair):
    one, two, _ = pair.accept(), pair.accept(), pair.connect()
    first = pair.offer(one, card(1))
    pair.engines["a"].wires["net"]._stan = 0
    second = pair.offer(two, card(2, de7="0301100001"))
    assert first.stan == second.stan and first.match_key != second.match_key
    assert pair.append("a", first, second) == [True, False]


def test_a_reversal_of_a_pending_stan_is_not_accepted(pair):
    terminal, _ = pair.accept(), pair.connect()
    pair.receive(terminal, card(1))
    pair.pass_ms(500)
    ((subject, timeout),) = pair.due("a")
    pair.engines["a"].wires["net"]._stan = timeout.advice.stan - 2
    pair.receive(pair.accept(), card(2))
    assert pair.append("a", timeout) == [False]
    pair.engines["a"].resolved(subject)
    pair.tend()
    assert {advice.stan for advice in pair.state.advices.values()}.isdisjoint({timeout.advice.stan})


def test_an_echo_leaves_its_stan_behind_for_the_next_life(pair):
    net = pair.connect(node="a")
    pair.append("a", NetworkSend(net, NetworkFunction.ECHO, 44, b"8|x", b"frame"))
    assert pair.state.stans == {"net/a": 44}


def test_a_link_whose_schemas_are_none_is_named(tmp_path):
    (tmp_path / "broken.xsd").write_text("<x/>")
    given = rules(hub={"iso20022": Iso20022Options(schema_dir=str(tmp_path))})
    with pytest.raises(RulesError, match=r"hub.*broken\.xsd"):
        wires(given, {})


def test_a_link_may_not_have_more_in_flight_than_there_are_stans():
    given = {link.name: link for link in rules(net={"inflight_max": 250_000}).links}
    with pytest.raises(RulesError, match="net"):
        Wire(given["net"])
