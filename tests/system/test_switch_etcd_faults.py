"""A whole switch when its only etcd restarts or goes away: it holds, resumes by itself, loses and doubles nothing."""

import time
from collections.abc import Iterator

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
    health,
    log_lines,
    postings,
    until,
)

from tools.pair import Settings, Switch

TIMEOUT_MS = 3000
AWAY_S = 5.0
SETTINGS = Settings(timeout_ms=TIMEOUT_MS)


@pytest.fixture(scope="module")
def traffic(switch: Switch) -> Iterator[Traffic]:
    with Traffic(switch) as running:
        yield running


@pytest.fixture(scope="module")
def recording(switch: Switch) -> Recording:
    return Recording(switch.directory / "own")


def test_etcd_is_killed_and_started_again_under_load(switch: Switch, traffic: Traffic) -> None:
    switch.etcd.kill()
    switch.etcd.start(0)
    traffic.more(150)
    hashes_agree(switch)


def test_without_etcd_the_switch_holds_and_says_so_and_resumes_by_itself(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    refused = figure(switch, "request.refused")
    ports, numbers = switch.ports.terminals, (fresh(), fresh())
    known = Wire(ports["a"], recording=recording)
    assert known.ask(card_request())[39] == "00"
    switch.etcd.stop()
    for node in "ab":
        until(lambda node=node: health(switch, node)[0] == 503, f"{node} to say that it holds")
        assert health(switch, node)[1]["held"] and figure(switch, "switch_held", node) == 1
    newcomer = Wire(ports["b"], recording=recording)  # waits in the backlog
    known.request(card_request(numbers[0]))
    newcomer.request(card_request(numbers[1]))
    went, answered = time.monotonic(), traffic.answered
    until(lambda: time.monotonic() - went > AWAY_S, "the outage to be as long as it is meant to be")
    assert traffic.answered == answered  # nothing is said behind the log's back
    switch.etcd.start(0)
    for node in "ab":
        until(lambda node=node: health(switch, node)[0] == 200, f"{node} to resume")
    traffic.more(150)
    # what had waited longer than its timer is declined by record and was never forwarded; its repeat hears the same
    assert [known.fields()[39], newcomer.fields()[39]] == ["91", "91"]
    assert newcomer.ask(card_request(numbers[0], mti="0201"))[39] == "91"
    assert [postings(switch, number) for number in numbers] == [(0, 0), (0, 0)]
    assert newcomer.ask(card_request())[39] == "00"
    assert figure(switch, "request.refused") >= refused + 2
    for node in "ab":
        assert log_lines(switch, "switch.held", nodes=node) and log_lines(switch, "switch.resumed", nodes=node)
    hashes_agree(switch)
    known.close()
    newcomer.close()


def test_nothing_was_lost_or_doubled_and_every_session_stayed_open(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    clean(switch, traffic, recording)
