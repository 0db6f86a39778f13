"""Listening sockets that are given by the service manager: used as they are, by their links' names."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from switch_rig import Wire, card_request, fresh, log_lines, postings

from tools.pair import Settings, Switch


@pytest.fixture
def sockets() -> Iterator[dict[str, socket.socket]]:
    given = {name: socket.create_server(("127.0.0.1", 0), backlog=64) for name in ("terminals", "banks")}
    yield given
    for sock in given.values():
        sock.close()


def test_a_node_takes_its_listening_sockets_by_name_and_serves_who_waited_in_them(
    tmp_path: Path, sockets: dict[str, socket.socket]
) -> None:
    switch = Switch(tmp_path / "switch", Settings())
    switch.nodes["a"].given = sockets
    early, number = Wire(sockets["terminals"].getsockname()[1]), fresh()
    early.request(card_request(number))  # nobody serves yet
    sent = time.monotonic()
    with switch:
        lines = log_lines(switch, "link.listening", nodes="a")
        for name, sock in sockets.items():
            port = sock.getsockname()[1]
            assert any(f"link={name} " in line and line.endswith(f":{port}") for line in lines)
        answer = early.fields()
        # it is a request like any other: declined by record if it waited longer than its timer while nobody was there
        waited_ms = (time.monotonic() - sent) * 1000
        assert answer[39] == "00" or waited_ms > switch.settings.timeout_ms
        assert early.ask(card_request())[39] == "00"
        assert postings(switch, number)[1] == (answer[39] == "00")
        # the address of the configuration is not bound: the given socket stands for it
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", switch.ports.terminals["a"])) != 0
        with Wire(switch.ports.terminals["b"]) as other:
            assert other.ask(card_request())[39] == "00"
        # the sockets outlive the node: who comes while it is away is served by the next
        assert switch.nodes["a"].stop() == 0
        early.close()
        with Wire(sockets["terminals"].getsockname()[1]) as waiting:
            waiting.request(card_request())
            switch.start("a")
            assert waiting.fields()[39] in ("00", "91")
            assert waiting.ask(card_request())[39] == "00"
