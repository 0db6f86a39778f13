"""Both nodes at work: the same state, one decision for what comes to both at once, and what operators see of it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from switch_rig import (
    Recording,
    Traffic,
    card_request,
    clean,
    figure,
    fresh,
    hashes_agree,
    health,
    heard_by_issuer,
    metrics,
    owned,
    postings,
    until,
)

from tools.pair import Settings, Switch

SETTINGS = Settings(limits={"heartbeat_ms": 100})
ROUNDS = 40
SWITCHCTL = "from switch.ops.switchctl import main; main()"


@pytest.fixture(scope="module")
def traffic(switch: Switch) -> Iterator[Traffic]:
    with Traffic(switch, repeats=0.1) as running:
        yield running


@pytest.fixture(scope="module")
def recording(switch: Switch) -> Recording:
    return Recording(switch.directory / "own")


def test_both_nodes_hold_the_same_state_while_both_work(switch: Switch, traffic: Traffic) -> None:
    hashes_agree(switch, 10)
    for node in "ab":
        assert figure(switch, "switch_connections", node) > 20


def test_the_same_request_to_both_nodes_at_the_same_instant_is_posted_once_and_answered_alike(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    with owned(switch, "a", recording=recording) as a, owned(switch, "b", recording=recording) as b:
        for round_ in range(ROUNDS):
            number = fresh()
            first, second = (a, b) if round_ % 2 else (b, a)
            frames = first.frame(card_request(number)), second.frame(card_request(number, mti="0201"))
            first.send(frames[0])
            second.send(frames[1])
            answers = a.fields(), b.fields()
            assert answers[0] == answers[1]
            assert answers[0][39] == "00"
            assert postings(switch, number) == (1, 1)
        # on each session the next answer is the next request's: no second one came
        for wire in (a, b):
            number = fresh()
            assert wire.ask(card_request(number))[11] == f"{number:06d}"


def test_a_request_is_answered_again_by_the_other_node_as_it_was_before(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    number = fresh()
    with owned(switch, "a", recording=recording) as a, owned(switch, "b", recording=recording) as b:
        first = a.ask(card_request(number))
        assert b.ask(card_request(number, mti="0201")) == a.ask(card_request(number, mti="0201")) == first
    assert first[39] == "00" and len(first[38]) == 6
    until(lambda: heard_by_issuer(switch, number), "the issuer's record")
    assert heard_by_issuer(switch, number) == {"0200": 1}


def same_sessions(switch: Switch, node: str) -> list[dict[str, Any]]:
    """The terminals' sessions, where both commands tell of as many: between the two some may end."""
    (link,) = [link for link in switch.ask(node, "links")["links"] if link["name"] == "terminals"]
    rows = [row for row in switch.ask(node, "sessions")["sessions"] if row["link"] == "terminals"]
    return rows if len(rows) == link["sessions"] >= 40 else []


def test_the_control_socket_tells_sessions_links_and_what_commands_there_are(switch: Switch, traffic: Traffic) -> None:
    for node in "ab":
        status = switch.ask(node)
        assert status["incarnation"] == f"{node}1" and not status["simplex"] and not status["held"]
        assert {item["status"] for item in status["incarnations"].values()} == {"live"}
        links = {link["name"]: link for link in switch.ask(node, "links")["links"]}
        assert links.keys() == {"terminals", "banks", "issuer", "creditor"}
        assert links["issuer"]["ready"] == links["creditor"]["ready"] == 2
        rows = until(lambda node=node: same_sessions(switch, node), "the sessions of the test before to be over")
        assert {row["owner"] for row in rows} == {"a1", "b1"}  # the state is the pair's, at either node
        refusal = switch.ask(node, "shutdown")
        assert not refusal["ok"] and "status, sessions, links" in refusal["error"]


def test_switchctl_asks_either_node(switch: Switch, traffic: Traffic) -> None:
    command = [sys.executable, "-c", SWITCHCTL]
    options = ["--config", str(switch.config_path), "--node", "b"]
    told = subprocess.run([*command, "status", *options, "--json"], capture_output=True, check=True, text=True)
    assert json.loads(told.stdout)["incarnation"] == "b1"
    table = subprocess.run([*command, "links", *options], capture_output=True, check=True, text=True)
    assert all(name in table.stdout for name in ("terminals", "banks", "issuer", "creditor"))
    wrong = subprocess.run(
        [*command, "status", "--config", str(switch.config_path), "--node", "c"], capture_output=True, text=True
    )
    assert wrong.returncode == 1 and "node c does not answer" in wrong.stderr and "Traceback" not in wrong.stderr


def test_metrics_and_health_answer_over_http(switch: Switch, traffic: Traffic) -> None:
    for node in "ab":
        code, body = health(switch, node)
        assert code == 200 and body["node"] == node and body["incarnations"].keys() == {"a1", "b1"}
        with urllib.request.urlopen(f"http://127.0.0.1:{switch.ports.http[node]}/metrics") as response:
            assert response.headers.get_content_type() == "text/plain"
        text = metrics(switch, node)
        for name in ("switch_entries_total", "switch_held 0.0", "switch_simplex 0.0", "switch_log_index"):
            assert name in text
    before = figure(switch, "switch_log_index", "b")
    until(lambda: figure(switch, "switch_log_index", "b") > before, "the log to go on")


def test_nothing_was_lost_or_doubled_and_every_session_stayed_open(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    traffic.more(200)
    verdict = clean(switch, traffic, recording)
    assert verdict.approved > 200 and verdict.repeats >= ROUNDS + traffic.result.repeats > ROUNDS
