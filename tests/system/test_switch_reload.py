"""A configuration that changes while the pair works: `systemctl reload` (SIGHUP) and `switchctl reload`."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from switch_rig import DECLINED_PAN, Traffic, Wire, card_request, clean, fresh, hashes_agree, log_lines, settled, until

from tools.pair import Settings, Switch

Start = Callable[..., Switch]


def test_new_rules_are_active_on_both_nodes_and_faulty_ones_harm_nobody(start: Start) -> None:
    switch = start(Settings())
    with Traffic(switch, terminals=40) as traffic:
        traffic.more(100)
        pids = {node: switch.nodes[node].pid for node in "ab"}
        good = switch.config_path.read_bytes()
        for faulty in (b"[pair", good.replace(b"2-byte-be", b"3-byte-be"), good.replace(b'"issuer"', b'"issuers"', 1)):
            switch.config_path.write_bytes(faulty)
            told = len(log_lines(switch, "rules.refused", nodes="a"))
            switch.nodes["a"].signal(signal.SIGHUP)
            until(lambda told=told: len(log_lines(switch, "rules.refused", nodes="a")) > told, "the refusal in a's log")
            assert not switch.ask("b", "reload")["ok"]
        traffic.more(100)
        switch.configure(Settings(terminals={"iso8583": {"dialect": "iso87-binary", "response_codes": {"no_route": "58"}}}))
        told = len(log_lines(switch, "rules.active", nodes="a"))
        switch.nodes["a"].signal(signal.SIGHUP)
        until(lambda: len(log_lines(switch, "rules.active", nodes="a")) > told, "the new rules")
        for node in "ab":
            with Wire(switch.ports.terminals[node]) as wire:
                assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"
                until(lambda wire=wire: wire.ask(card_request(mti="0302"))[39] == "58", "the new code of no route")
        traffic.more(100)
        assert pids == {node: switch.nodes[node].pid for node in "ab"}
    clean(switch, traffic)


def test_a_link_that_a_request_needs_stays_and_the_operator_is_told_which(start: Start) -> None:
    further = {"more": {}}
    patient = {"timeout_ms": 600_000, "echo_interval_ms": 600_000}
    switch = start(Settings(further=further, **patient))
    issuer = switch.simulators["issuer"]
    with Wire(switch.ports.further["more"]["a"]) as wire:
        issuer.signal(signal.SIGSTOP)  # it answers when the test lets it
        wire.request(card_request(fresh()))
        until(lambda: switch.ask("a")["transactions"] == 1, "the request to be in flight")
        switch.configure(Settings(**patient))
        answer = switch.ask("a", "reload")
        assert not answer["ok"] and "more" in answer["error"]
        issuer.signal(signal.SIGCONT)
        assert wire.fields()[39] == "00"
    settled(switch)
    told = len(log_lines(switch, "rules.active", nodes="a"))
    assert switch.ask("a", "reload")["ok"]
    until(lambda: len(log_lines(switch, "rules.active", nodes="a")) > told, "the new rules")
    index = switch.ask("a")["index"]
    until(lambda: switch.ask("b")["index"] >= index, "b to have them, too")  # each listens at both addresses
    until(lambda: all(switch.ask(node)["sessions"] == 4 for node in "ab"), "the sessions of the link to end")
    with Wire(switch.ports.terminals["b"]) as other:
        assert other.ask(card_request())[39] == "00"
    for node in "ab":
        with pytest.raises(ConnectionRefusedError):  # nobody listens for it any more
            Wire(switch.ports.further["more"][node])
    switch.configure(Settings(further=further, **patient))
    assert switch.ask("b", "reload")["ok"]
    for node in "ab":
        until(lambda node=node: log_lines(switch, "link.listening", "link=more", nodes=node)[3:], "both addresses, again")
        with Wire(switch.ports.further["more"][node]) as again:
            assert again.ask(card_request(pan=DECLINED_PAN))[39] == "51"
    hashes_agree(switch)


def test_after_a_takeover_the_heir_has_the_journal_that_its_peer_has_read(start: Start, tmp_path: Path) -> None:
    switch, url = start(Settings()), f"sqlite:///{tmp_path}/journal.db"
    switch.configure(Settings(limits={"journal_waiting_max": 5}, journal={"url": url}))
    assert switch.ask("a", "reload")["ok"]
    with Wire(switch.ports.terminals["b"]) as wire:
        until(lambda: log_lines(switch, "rules.active by=a1", nodes="a"), "the new rules")
        switch.nodes["a"].kill()
        until(lambda: log_lines(switch, "takeover.done", nodes="b"), "b to be the heir")
        for _ in range(8):  # more than may wait for a database
            assert wire.ask(card_request())[39] == "00"
            until(lambda: not switch.ask("b")["journal"]["waiting"], "the row to be written")
    assert not log_lines(switch, "journal.failed", nodes="b")
