"""Nodes that leave and return: in order, killed, or displaced by a second process. The pair goes on by its log."""

import contextlib
import os
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import etcd3.etcdrpc as rpc
import grpc
from switch_rig import (
    WAIT_S,
    Recording,
    Traffic,
    Wire,
    card_request,
    clean,
    fresh,
    hashes_agree,
    heard_by_issuer,
    log_lines,
    logged,
    owned,
    postings,
    settled,
    until,
)

from tools.pair import Process, Settings, Switch

Start = Callable[..., Switch]
FENCE = b"/switch/demo/fence/b"
KILLED, FAILED = -signal.SIGKILL, 70
TERMINALS = 30


def fields_of(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def test_a_node_that_was_away_catches_up_by_snapshot_and_log_and_knows_old_outcomes(start: Start) -> None:
    switch = start(Settings(limits={"snapshot_entries": 60, "heartbeat_ms": 100, "segment_outcomes": 50}))
    number = fresh()
    recording = Recording(switch.directory / "own")
    with owned(switch, "b", recording=recording) as terminal:
        first = terminal.ask(card_request(number))
        assert first[39] == "00"
    with Traffic(switch, nodes="a") as traffic:
        assert switch.nodes["b"].stop() == 0
        until(lambda: switch.ask("a")["incarnations"]["b1"]["status"] == "left", "a to know that b has left")
        gone = switch.ask("a")["index"]
        assert switch.ask("a")["simplex"]

        def beyond(event: str, **least: int) -> bool:
            fields = [fields_of(line) for line in log_lines(switch, event, nodes="a")]
            return any(all(int(line[name]) >= count for name, count in least.items()) for line in fields)

        until(lambda: beyond("log.truncated", index=gone + 1), "the log to be truncated beyond what b had applied")
        # a snapshot's first outcomes are in its chunks: a segment is made of the next fifty
        until(lambda: beyond("snapshot.written", index=gone + 1, segments=1), "a snapshot with a segment")
        switch.start("b")
        loaded = logged(switch, "snapshot.loaded", nodes="b")
        assert int(fields_of(loaded)["index"]) > gone and int(fields_of(loaded)["segments"]) > 0
        status = switch.ask("b")
        assert status["incarnation"] == "b2" and not status["simplex"]
        assert status["index"] > int(fields_of(loaded)["index"])
        hashes_agree(switch)
        traffic.more(50)
        hashes_agree(switch)
    for node in "ba":  # b answers from a snapshot; then a has gone and returned too
        with owned(switch, node, recording=recording) as terminal:
            assert terminal.ask(card_request(number, mti="0201")) == first
        if node == "b":
            assert switch.nodes["a"].stop() == 0
            switch.start("a")
    assert heard_by_issuer(switch, number) == {"0200": 1} and postings(switch, number) == (1, 1)
    clean(switch, traffic, recording)


def test_when_both_have_left_the_next_start_goes_on_from_the_log(start: Start) -> None:
    switch = start(Settings())
    ports, number = switch.ports.terminals, fresh()
    recording = Recording(switch.directory / "own")
    with Wire(ports["a"], recording=recording) as terminal:
        first = terminal.ask(card_request(number))
    assert [node.stop() for node in switch.nodes.values()] == [0, 0]
    for node in switch.nodes:
        switch.start(node, wait=False)
    for node in switch.nodes:
        switch.wait_ready(node)
    with Wire(ports["b"], recording=recording) as terminal:
        assert terminal.ask(card_request(number, mti="0201")) == first
        assert terminal.ask(card_request())[39] == "00"
    assert switch.ask("a")["incarnations"].keys() == {"a2", "b2"}
    hashes_agree(switch, 2)
    clean(switch, recording, cut=True)


def test_a_killed_node_has_an_heir_and_its_terminals_find_one_outcome_at_the_other_node(start: Start) -> None:
    # answers take a while, so that the kill meets requests of which the issuer has booked some and answered none
    slow = Settings(timeout_ms=2500, issuer_options=("--delay-ms", "300..900"), issuer={"advice_retry_ms": 1000})
    switch = start(slow)
    ports, numbers = switch.ports.terminals, [fresh() for _ in range(TERMINALS)]
    recording = Recording(switch.directory / "own")
    with Traffic(switch, nodes="a", traffic="transfers") as traffic:
        terminals = [Wire(ports["b"], recording=recording) for _ in numbers]
        for terminal, number in zip(terminals, numbers, strict=True):
            terminal.request(card_request(number))
        until(lambda: sum(postings(switch, number)[0] for number in numbers) > TERMINALS // 2, "postings at the issuer")
        switch.nodes["b"].kill()
        heir = fields_of(logged(switch, "node.heir", nodes="a"))
        assert heir["dead"] == "b1" and heir["heir"] == "a1"
        outcomes: dict[int, str] = {}
        for terminal, number in zip(terminals, numbers, strict=True):
            with contextlib.suppress(EOFError, OSError):  # a session that ended with its node is none of this test's
                outcomes[number] = terminal.fields()[39]
            terminal.close()
        until(lambda: not orphans(switch), "no session to be without a node")
        switch.wait_ready("a")  # all outbound slots are a's now
        with Wire(ports["a"], recording=recording) as other:
            for number in numbers:
                answer = other.ask(card_request(number, mti="0201"))
                assert outcomes.setdefault(number, answer[39]) == answer[39]
                assert other.ask(card_request(number, mti="0201")) == answer
        traffic.more(50)
        switch.start("b")
        live(switch, "b2")
        assert switch.ask("b")["incarnation"] == "b2"
        hashes_agree(switch, 2)
        with Wire(ports["b"], recording=recording) as back:
            assert back.ask(card_request())[39] == "00"
    settled(switch)
    clean(switch, traffic, recording, cut=True)


def test_approved_withdrawals_whose_terminals_vanished_are_reversed(start: Start) -> None:
    switch = start(Settings(issuer_options=("--delay-ms", "4000"), issuer={"advice_window": TERMINALS}))
    numbers = [fresh() for _ in range(TERMINALS)]
    terminals = {number: Wire(switch.ports.terminals["ab"[number % 2]]) for number in numbers}
    for number, terminal in terminals.items():
        terminal.request(card_request(number))
    while terminals:  # each goes as soon as its request is booked, long before its answer
        booked = until(lambda: [each for each in terminals if postings(switch, each)[0]], "more to be booked")
        for number in booked:
            with terminals.pop(number) as terminal:
                terminal.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # an RST
    until(lambda: not links(switch)["terminals"]["sessions"], "their sessions to end")
    until(lambda: all(postings(switch, number) == (1, 0) for number in numbers), "every posting to be taken back")
    settled(switch)
    with Wire(switch.ports.terminals["b"]) as other:  # and a repeat is told so: the reversal replaced the approval
        assert {other.ask(card_request(number, mti="0201"))[39] for number in numbers} == {"91"}
    assert sum(heard_by_issuer(switch).get(mti, 0) for mti in ("0420", "0421")) >= TERMINALS
    assert all(heard_by_issuer(switch, number)["0200"] == 1 for number in numbers)


def orphans(switch: Switch) -> list[dict[str, str]]:
    """Sessions of incarnations that are over and have no heir."""
    acting = {id_ for id_, each in switch.ask("a")["incarnations"].items() if each["status"] == "live" or each["heir"]}
    return [row for row in switch.ask("a", "sessions")["sessions"] if row["owner"] not in acting]


def live(switch: Switch, incarnation: str) -> None:
    """Wait until a has it among the living: a node that serves may be ahead of its peer."""
    known = {"status": ""}
    until(lambda: switch.ask("a")["incarnations"].get(incarnation, known)["status"] == "live", f"{incarnation} to live")


def links(switch: Switch) -> dict[str, dict[str, int]]:
    return {link["name"]: link for link in switch.ask("a", "links")["links"]}


def test_a_second_process_of_the_same_node_ends_the_first_and_serves(start: Start, tmp_path: Path) -> None:
    switch = start(Settings())
    with Traffic(switch, nodes="a") as traffic, contextlib.ExitStack() as stack:
        first = switch.nodes["b"]
        second = Process("node-b-second", first.arguments, tmp_path)
        stack.callback(second.stop)
        first.signal(signal.SIGSTOP)  # it could not leave by itself
        second.start()
        assert first.wait() == KILLED
        switch.nodes["b"] = second
        switch.wait_ready("b")
        live(switch, "b2")
        until(lambda: switch.ask("a")["incarnations"].get("b1", {}).get("status") in (None, "dead"), "b1 to be dead")
        hashes_agree(switch, 2)
        with Wire(switch.ports.terminals["b"]) as terminal:
            assert terminal.ask(card_request(pan="4100001200012340"))[39] == "51"
        traffic.more(50)
        clean(switch, traffic, cut=True)


def test_a_node_whose_fence_was_taken_appends_nothing_more_and_leaves(start: Start) -> None:
    switch = start(Settings())
    with grpc.insecure_channel(switch.etcd.endpoints[0].removeprefix("http://")) as channel:
        kv = rpc.KVStub(channel)
        taken = b"1 999999 stranger"
        kv.Put(rpc.PutRequest(key=FENCE, value=taken))
        assert switch.nodes["b"].wait() in (FAILED, KILLED)  # by itself, or by a, who saw it go
        assert logged(switch, "mirror.failed", "Fenced", nodes="b")
        # the fence stands as it was put, until a, who has seen the end of the process, is its heir
        until(lambda: switch.ask("a")["incarnations"]["b1"]["status"] == "dead", "a to be the heir")
        (fence,) = kv.Range(rpc.RangeRequest(key=FENCE)).kvs
        assert fence.value == b"1 999999 dead"
    with Wire(switch.ports.terminals["a"]) as terminal:
        assert terminal.ask(card_request())[39] == "00"
    switch.start("b")
    live(switch, "b2")
    hashes_agree(switch, 2)


def test_no_process_of_a_switch_outlives_it(start: Start) -> None:
    switch = start(Settings())
    pids = [process.pid for process in (*switch.nodes.values(), *switch.simulators.values())] + [switch.etcd.pid()]
    switch.__exit__(None, None, None)
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        raise AssertionError(f"process {pid} is still there")


def test_a_node_that_cannot_greet_its_peer_leaves_it_alone(start: Start) -> None:
    """Its file moved, or was removed: who serves has all sessions, and who starts has none of them."""
    switch = start(Settings())
    path = switch.directory / "demo-b.handover"
    with Wire(switch.ports.terminals["b"]) as terminal:
        assert terminal.ask(card_request())[39] == "00"
        assert switch.nodes["a"].stop() == 0
        path.rename(path.with_suffix(".away"))
        switch.start("a", wait=False)
        assert switch.nodes["a"].wait(WAIT_S) == FAILED
        assert "was run_directory changed, or emptied?" in logged(switch, "node.failed", nodes="a")
        assert terminal.ask(card_request())[39] == "00"
        path.with_suffix(".away").rename(path)
        switch.start("a")
        assert terminal.ask(card_request())[39] == "00"
    assert not log_lines(switch, "process.killed")
    hashes_agree(switch)
