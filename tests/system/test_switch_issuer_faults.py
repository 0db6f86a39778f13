"""An issuer and a bank that lose, delay, double and falsify answers: every request has one outcome, on both sides."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from switch_rig import (
    Recording,
    Traffic,
    Wire,
    card_request,
    clean,
    figure,
    fresh,
    hashes_agree,
    heard_by_issuer,
    log_lines,
    logged,
    postings,
    settled,
    until,
)

from tools.pair import Settings, Switch

Start = Callable[..., Switch]
MISBEHAVIOUR = ("--lose", "1/20", "--late", "1/23", "--late-ms", "1500", "--duplicate", "1/17", "--wrong", "1/19")


def test_under_every_misbehaviour_at_once_books_and_answers_agree_in_the_end(start: Start) -> None:
    switch = start(Settings(
        timeout_ms=700, issuer={"advice_retry_ms": 600}, issuer_options=MISBEHAVIOUR, bank_options=MISBEHAVIOUR,
    ))  # fmt: skip
    with Traffic(switch, terminals=120) as traffic:
        traffic.more(600)
        until(lambda: figure(switch, "transaction.timeout") > 20, "timeouts")
        until(lambda: figure(switch, "answer.late") > 20 and figure(switch, "answer.unmatched") > 0, "late and wrong answers")
        until(lambda: heard_by_issuer(switch)["0421"], "a reversal whose acknowledgement was lost or late")
        hashes_agree(switch)
    settled(switch)  # advices are repeated until they are acknowledged
    assert heard_by_issuer(switch)["0420"] > 0
    verdict = clean(switch, traffic)
    assert verdict.declined > 20


def test_a_request_that_is_never_answered_is_declined_and_undone_once_the_issuer_is_well(start: Start) -> None:
    switch = start(Settings(timeout_ms=500, issuer={"advice_retry_ms": 500}, issuer_options=("--lose", "1")))
    recording, number = Recording(switch.directory / "own"), fresh()
    with Wire(switch.ports.terminals["a"], recording=recording) as terminal:
        declined = terminal.ask(card_request(number))
        assert declined[39] == "68"
        logged(switch, "transaction.timeout", "target=issuer")
        until(lambda: heard_by_issuer(switch, number)["0420"] == 1, "the reversal to reach the issuer")
        assert postings(switch, number) == (1, 0)
        assert switch.ask("a")["advices"] == switch.ask("b")["advices"] == 1  # its answer was lost, too
        active(switch, Settings(issuer={"advice_retry_ms": 500}))  # it is given time, being well
        switch.replace_simulator("issuer")
        settled(switch)
        until(lambda: heard_by_issuer(switch, number)["0421"], "the repeated reversal in the record")
        assert postings(switch, number) == (1, 0)
        assert heard_by_issuer(switch, number)["0200"] == 1
        assert terminal.ask(card_request(number, mti="0201")) == declined
        assert terminal.ask(card_request())[39] == "00"
    clean(switch, recording, cut=True)


def active(switch: Switch, settings: Settings) -> None:
    """The pair goes on with these."""
    told = len(log_lines(switch, "rules.active"))
    switch.configure(settings)
    assert switch.ask("a", "reload")["ok"]
    until(lambda: len(log_lines(switch, "rules.active")) > told, "the new rules")


def test_a_late_answer_is_absorbed_and_never_reaches_the_terminal(start: Start) -> None:
    switch = start(Settings(timeout_ms=500, terminals={"keepalive": "echo"}))
    recording, number, issuer = Recording(switch.directory / "own"), fresh(), switch.simulators["issuer"]
    with Wire(switch.ports.terminals["b"], recording=recording) as terminal:
        issuer.signal(signal.SIGSTOP)  # it answers when the terminal has been told, however slow the switch's timer is
        assert terminal.ask(card_request(number))[39] == "68"
        issuer.signal(signal.SIGCONT)
        logged(switch, "answer.late", "link=issuer")
        terminal.send(b"\0\0")
        assert terminal.answer() == b""  # the next thing that comes is the echo
        assert terminal.ask(card_request(number, mti="0201"))[39] == "68"
        settled(switch)
        assert postings(switch, number) == (1, 0)
    clean(switch, recording)


def test_an_issuer_that_answers_everything_twice_keeps_its_sessions(start: Start) -> None:
    switch = start(Settings(issuer_options=("--duplicate", "1")))
    with Traffic(switch, terminals=120, rate=600, traffic="cards") as traffic:
        traffic.more(1_500)
    settled(switch)
    clean(switch, traffic)


def test_an_advice_that_is_not_taken_is_parked_until_an_operator_retries_or_settles_it(start: Start) -> None:
    lane = {"advice_retry_ms": 200, "advice_tries_max": 1, "advice_not_found_tries": 1}
    switch = start(Settings(timeout_ms=500, issuer=lane, issuer_options=("--drop", "1")))
    with Wire(switch.ports.terminals["a"]) as terminal:
        for _ in range(2):
            assert terminal.ask(card_request())[39] == "68"

    def parked() -> list[dict[str, object]]:
        rows: list[dict[str, object]] = switchctl(switch, "advices", "--parked", "--node", "b", "--json")["advices"]
        return rows

    until(lambda: len(parked()) == 2, "both reversals to be parked")
    assert {(row["link"], row["parked"]) for row in parked()} == {("issuer", "unanswered")}
    active(switch, Settings(issuer={"advice_tries_max": 1, "advice_not_found_tries": 1}))  # no haste any more
    switch.simulators["issuer"].stop()
    until(lambda: not issuer_sessions(switch), "the links to the issuer to be down")
    switch.replace_simulator("issuer")
    until(lambda: issuer_sessions(switch) == 2, "the links to be signed on again")
    first, second = (str(row["id"]) for row in parked())
    switchctl(switch, "retry", first)
    until(lambda: len(parked()) == 1, "the one to be delivered")
    switchctl(switch, "settle", second, "--node", "b")
    settled(switch)
    heard = heard_by_issuer(switch)
    assert (heard["0420"], heard["0421"]) == (2, 1)  # it may have come before: it is marked as a repeat
    with pytest.raises(subprocess.CalledProcessError):
        switchctl(switch, "retry", first)


def switchctl(switch: Switch, *arguments: str) -> dict[str, Any]:
    """What it prints as JSON, if that is wanted. Raises CalledProcessError when it fails."""
    command = [sys.executable, "-c", "from switch.ops.switchctl import main; main()", *arguments]
    done = subprocess.run([*command, "--config", str(switch.config_path)], capture_output=True, check=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout) if "--json" in arguments else {}
    return told


def test_without_an_issuer_requests_are_declined_at_once_and_with_it_the_switch_goes_on(start: Start) -> None:
    switch = start(Settings(issuer={"reconnect_max_ms": 300}))
    recording, number = Recording(switch.directory / "own"), fresh()
    with Wire(switch.ports.terminals["a"], recording=recording) as terminal:
        switch.simulators["issuer"].stop()
        until(lambda: not issuer_sessions(switch), "the links to the issuer to be down")
        declined = terminal.ask(card_request(number))
        assert declined[39] == "91"
        switch.replace_simulator("issuer")
        until(lambda: issuer_sessions(switch) == 2, "the links to be signed on again")
        assert terminal.ask(card_request(number, mti="0201")) == declined
        assert terminal.ask(card_request())[39] == "00"
    clean(switch, recording, cut=True)


def issuer_sessions(switch: Switch) -> int:
    """Links to the issuer that are ready."""
    (ready,) = [link["ready"] for link in switch.ask("a", "links")["links"] if link["name"] == "issuer"]
    return int(ready)
