"""The pair as units of a real systemd: what is verified of them, and what survives which death.

Skips where no systemd can be booted, and says why; with REQUIRE_SYSTEMD=1 that is a failure.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from switch_rig import Recording, Traffic, Wire, card_request, clean, log_lines, session, until

from tools.kills import duplex
from tools.pair import Settings
from tools.sandbox import UNITS, SystemdSwitch, boots, drop_in, listen_streams

EXPOSURE_MAX = 20  # tenths, of systemd-analyze security
SETTINGS = Settings(timeout_ms=90_000)  # longer than any outage here: no request is declined for its age
PATIENCE_S = 90.0
pytestmark = pytest.mark.timeout(300)
runs: list[Traffic | Recording] = []  # all traffic of this file, audited at its end


def _install() -> None:
    """systemd from Debian, where it is not installed. Without root or apt it stays missing, and `boots` says so."""
    if shutil.which("systemd-analyze") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "systemd"]):
            subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def systemd() -> None:
    _install()
    why = boots()
    if why and os.environ.get("REQUIRE_SYSTEMD") == "1":
        pytest.fail(why)
    if why:
        pytest.skip(why)


@pytest.fixture(scope="module")
def switch(systemd: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdSwitch]:
    with SystemdSwitch(tmp_path_factory.mktemp("pair") / "switch", SETTINGS) as pair:
        yield pair


@pytest.fixture
def traffic(switch: SystemdSwitch, request: pytest.FixtureRequest) -> Iterator[Traffic]:
    """Traffic of this test on a pair that is whole."""
    until(lambda: duplex(switch), "both nodes", PATIENCE_S)
    run = Traffic(switch, rate=60, terminals=20, name=request.node.name, drain_s=PATIENCE_S)
    runs.append(run)
    with run:
        yield run
    assert (run.result.lost, run.result.resets, run.result.closes) == (0, 0, 0)


@pytest.fixture
def units(systemd: None, tmp_path: Path) -> Path:
    """The units, with a program and addresses that exist here."""
    shutil.copytree(UNITS, tmp_path / "units")
    for name, text in (
        ("switch@.service.d", drop_in(tmp_path / "switch.toml", "/dev/null")),
        ("switch.socket.d", listen_streams(["127.0.0.1:7001"])),
    ):
        (tmp_path / "units" / name).mkdir()
        (tmp_path / "units" / name / "here.conf").write_text(text)
    return tmp_path / "units"


def _analyze(units: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}
    return subprocess.run(["systemd-analyze", *arguments], env=environment, capture_output=True, text=True, cwd=units)


@pytest.mark.parametrize("unit", ["switch@a.service", "switch@b.service", "switch.socket", "switch.target"])
def test_systemd_has_nothing_to_say_against_a_unit(units: Path, unit: str) -> None:
    done = _analyze(units, "verify", f"./{unit}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_node_is_exposed_to_little(units: Path) -> None:
    done = _analyze(units, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "./switch@a.service")
    assert done.returncode == 0, done.stdout[-300:]


def _pids(switch: SystemdSwitch) -> dict[str, int]:
    return {node: unit.pid for node, unit in switch.nodes.items()}


def _kill(switch: SystemdSwitch, nodes: str, number: str = "KILL") -> None:
    units = [f"switch@{node}.service" for node in nodes]
    switch.systemd.ctl("kill", "-s", number, "--kill-whom=main", *units)


def _whole(switch: SystemdSwitch, former: dict[str, int], gone: str) -> None:
    """The nodes that had died run again, as other processes, and hold each other's sockets."""

    def back() -> bool:
        try:
            return all(_pids(switch)[node] != former[node] for node in gone) and duplex(switch)
        except ProcessLookupError:
            return False

    until(back, f"{gone} to come back", PATIENCE_S)


def _restored(switch: SystemdSwitch) -> int:
    return len(log_lines(switch, "store.restored"))


def test_both_nodes_accept_from_the_sockets_of_the_socket_unit(switch: SystemdSwitch, traffic: Traffic) -> None:
    switch.systemd.ctl("start", "switch.target")
    assert [switch.systemd.show(unit, "ActiveState") for unit in ("switch.target", "switch@a", "switch@b")] == [
        "active"
    ] * 3
    assert "running" in switch.systemd.show("switch.socket", "SubState")
    addresses = switch.systemd.show("switch.socket", "Listen")
    for port in {*switch.ports.terminals.values(), *switch.ports.banks.values()}:
        assert f"127.0.0.1:{port} (Stream)" in addresses
        assert all(log_lines(switch, "link.listening", f":{port}", nodes=node) for node in "ab")
    traffic.more(50)
    assert switch.systemd.run("ps", "-o", "user=", "-C", "python").stdout.split().count("switch") >= 2


def test_a_killed_node_is_back_and_no_session_has_noticed(switch: SystemdSwitch, traffic: Traffic) -> None:
    for node in "ab":
        former = _pids(switch)
        _kill(switch, node)
        traffic.more(30)
        _whole(switch, former, node)
    traffic.more(30)


def test_sessions_outlive_the_death_of_both_nodes_and_new_connections_wait(
    switch: SystemdSwitch, traffic: Traffic
) -> None:
    recording = Recording(switch.directory / "wires")
    runs.append(recording)
    for _ in range(3):
        former, restored = _pids(switch), _restored(switch)
        with Wire(switch.ports.terminals["a"], recording=recording) as silent:
            until(lambda silent=silent: session(switch, silent), "a session on which nothing was sent yet")
            _kill(switch, "ab")
            with Wire(switch.ports.terminals["b"], recording=recording) as waiting:
                waiting.request(card_request())
                silent.request(card_request())
                assert waiting.fields()[39] == "00"
                assert silent.fields()[39] == "00"
            traffic.more(30)
            _whole(switch, former, "ab")
            assert _restored(switch) == restored + 2


def test_a_node_that_is_stopped_is_killed_by_its_peer(switch: SystemdSwitch, traffic: Traffic) -> None:
    former = _pids(switch)
    _kill(switch, "a", "STOP")
    traffic.more(30)
    _whole(switch, former, "a")


def test_nodes_that_both_stand_still_are_killed_by_the_watchdog(switch: SystemdSwitch, traffic: Traffic) -> None:
    former = _pids(switch)
    _kill(switch, "ab", "STOP")
    _whole(switch, former, "ab")
    assert "Watchdog timeout" in switch.systemd.journal()
    traffic.more(30)


def test_a_restart_under_load_hands_the_sessions_over(switch: SystemdSwitch, traffic: Traffic) -> None:
    for node in "ab":
        former = _pids(switch)
        switch.systemd.ctl("restart", f"switch@{node}.service")
        _whole(switch, former, node)
        traffic.more(30)


def test_the_store_keeps_the_open_sessions_and_no_others(switch: SystemdSwitch) -> None:
    """After all these deaths: nothing is left of sessions that have ended."""

    def equal() -> bool:
        held = {switch.systemd.show(f"switch@{node}.service", "NFileDescriptorStore") for node in "ab"}
        return held == {str(switch.ask("a")["sessions"])}

    until(equal, "the stores to hold the open sessions", PATIENCE_S)


def test_a_stop_of_the_whole_is_clean_and_every_request_has_had_its_one_answer(switch: SystemdSwitch) -> None:
    verdict = clean(switch, *runs, cut=False)
    assert verdict.answered == verdict.sent > 0
    states = switch.systemd.ctl("list-units", "--all", "--plain", "--no-legend", "switch*").splitlines()
    assert not [line for line in states if "failed" in line or " active " in line]
