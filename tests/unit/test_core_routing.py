"""Routes: the longest prefix wins, then the order of the file; every condition must hold."""

import pytest
from engines import Pair, card, link, rules
from msgspec.structs import replace

from messages.message import Attributes
from switch.core.proposals import Refuse, Request
from switch.core.routing import Routing
from switch.core.rules import Route, Rules, RulesError, check

LINKS = [link(name) for name in ("pos", "atm", "one", "two", "three")]


def targets(attributes, *routes, source="pos"):
    found = Routing(Rules(links=LINKS, routes=list(routes))).route(source, attributes)
    return [] if found is None else found.targets


def test_the_longest_bin_wins_whatever_the_order():
    routes = [Route(name="short", bins=["41"], targets=["one"]), Route(name="long", bins=["4111"], targets=["two"])]
    assert targets(Attributes("0200", bin="41111111111"), *routes) == ["two"]
    assert targets(Attributes("0200", bin="41222222222"), *routes) == ["one"]
    assert targets(Attributes("0200", bin="55"), *routes) == []


def test_a_longer_bin_that_does_not_fit_otherwise_gives_way():
    routes = [
        Route(name="long", bins=["4111"], currencies=["840"], targets=["two"]),
        Route(name="short", bins=["41"], targets=["one"]),
    ]
    assert targets(Attributes("0200", bin="4111", currency="978"), *routes) == ["one"]


def test_of_equals_the_first_in_the_file_wins_and_a_bin_goes_before_none():
    routes = [
        Route(name="all", targets=["three"]),
        Route(name="first", bins=["41"], targets=["one"]),
        Route(name="second", bins=["41"], targets=["two"]),
    ]
    assert targets(Attributes("0200", bin="4111"), *routes) == ["one"]
    assert targets(Attributes("0200"), *routes) == ["three"]


def test_a_sticky_route_needs_cards():
    check(rules_of_transfers("order"))
    with pytest.raises(RulesError, match="sticky"):
        check(rules_of_transfers("sticky"))


def rules_of_transfers(strategy):
    base = rules()
    return replace(base, routes=[base.routes[0], replace(base.routes[1], strategy=strategy)])


def test_rules_that_no_entry_holds_are_refused():
    base = rules()
    bins = [str(400_000_000 + number) for number in range(110_000)]
    with pytest.raises(RulesError, match="an entry holds"):
        check(replace(base, routes=[replace(base.routes[0], bins=bins), base.routes[1]]))
    check(replace(base, routes=[replace(base.routes[0], bins=bins[:90_000]), base.routes[1]]))


def test_targets_take_turns_by_their_weights():
    base = rules(net={"connect": ["h:3"]})
    route = Route(name="cards", source=["pos"], targets=["net", "alt"], strategy="weighted", weights=[3, 1])
    pair = Pair(replace(base, links=[*base.links, link("alt", connect=["h:5"])], routes=[route, base.routes[1]]))
    terminal = pair.accept()
    for name in ("net", "alt"):
        pair.connect(name)
    for number in range(1, 9):
        pair.receive(terminal, card(number))
    assert pair.state.waiting == {"net": 6, "alt": 2}


def test_a_bic_is_a_prefix_and_the_longest_wins():
    routes = [Route(name="bank", bics=["CRED"], targets=["one"]), Route(name="fr", bics=["CREDFR"], targets=["two"])]
    assert targets(Attributes("pacs.008.001.08", bic="CREDFRPP"), *routes) == ["two"]
    assert targets(Attributes("pacs.008.001.08", bic="CREDBEBB"), *routes) == ["one"]


@pytest.mark.parametrize(
    ("condition", "fits", "fails"),
    [
        ({"source": ["atm"]}, None, Attributes("0200")),
        ({"types": ["02"]}, Attributes("0200"), Attributes("0100")),
        ({"processing_codes": ["00", "01"]}, Attributes("0200", processing_code="010000"), Attributes("0200")),
        ({"currencies": ["978"]}, Attributes("0200", currency="978"), Attributes("0200", currency="840")),
        ({"amount_min": 10}, Attributes("0200", amount=10), Attributes("0200", amount=9)),
        ({"amount_max": 10}, Attributes("0200", amount=10), Attributes("0200", amount=11)),
        ({"amount_min": 0}, Attributes("0200", amount=0), Attributes("0200")),
    ],
)
def test_each_condition_must_hold(condition, fits, fails):
    route = Route(name="only", targets=["one"], **condition)
    assert targets(fails, route) == []
    assert targets(fits or fails, route, source="pos" if fits else "atm") == ["one"]


def test_the_second_target_serves_where_the_first_cannot():
    given = rules(bank={"iso20022": None, "iso8583": rules().links[0].iso8583, "listen": {}, "connect": ["h:9"]})
    given.routes[0].targets[:] = ["net", "bank"]
    given.routes.pop()
    pair = Pair(given)
    terminal, spare = pair.accept(), pair.connect("bank")
    assert pair.offer(terminal, card()).target_session == spare
    net = pair.connect("net")
    assert pair.offer(terminal, card()).target_session == net


def test_sessions_of_a_link_take_turns_and_our_own_go_first():
    pair = Pair()
    terminal, mine, _ = pair.accept(node="a"), pair.connect(node="a", slot=0), pair.connect(node="b", slot=1)
    assert {pair.offer(terminal, card(n)).target_session for n in range(1, 5)} == {mine}
    pair.end(mine)
    assert isinstance(pair.offer(terminal, card()), Request)
    both = Pair()
    terminal, one, two = both.accept(), both.connect(slot=0), both.connect(slot=1)
    assert {both.offer(terminal, card(n)).target_session for n in range(1, 5)} == {one, two}


def test_a_session_with_a_full_outbox_takes_no_requests():
    pair = Pair(rules(net={"outbox_max_bytes": 200}))
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(1))
    assert isinstance(pair.receive(terminal, card(2)), Refuse)
    pair.ack(net)
    assert isinstance(pair.offer(terminal, card(3)), Request)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (Rules(links=[link("pos"), link("pos")]), "pos"),
        (Rules(links=[link("")]), "name"),
        (Rules(links=[link("pos", connect=["h:1"], listen={"a": "h:1"})]), "listen or connect"),
        (Rules(links=[link("pos", iso8583=None)]), "iso8583"),
        (Rules(links=[link("pos", framing="none")]), "framing"),
        (Rules(links=[link("pos", frame_max_bytes=10**6)]), "frame_max_bytes"),
        (Rules(links=[link("net", connect=["h:1"], connections=0)]), "connections"),
        (Rules(links=[link("net", connect=["h"])]), "host:port"),
        (Rules(links=[link("net", connect=["h:²"])]), "host:port"),
        (Rules(links=[link("net", connect=["h:100000"])]), "host:port"),
        (Rules(links=[link("net", timeout_ms=1 << 64)]), "64 bits"),
        (Rules(links=LINKS, routes=[Route(name="r", targets=[])]), "target"),
        (Rules(links=LINKS, routes=[Route(name="r", targets=["nowhere"])]), "nowhere"),
        (Rules(links=[*LINKS, link("bank")], routes=[Route(name="r", source=["pos"], targets=["bank"])]), "rails"),
    ],
)
def test_rules_that_cannot_work_say_where(given, what):
    with pytest.raises(RulesError, match=what):
        check(given)
