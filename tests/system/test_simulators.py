"""Injector, simulators and auditor together over real sockets, without a switch between them.

The simulators are real processes that speak as the switch would toward terminals and banks, so the injector can talk
straight to them; what the auditor then finds is what the simulators were told to do wrong.
"""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from messages.iso20022 import load_schemas, parse
from tools.audit import audit
from tools.evidence import read_messages
from tools.inject import Injector, InjectorConfig
from tools.judge import Verdict
from tools.ledger import FILE, Ledger, Posting, read_ledger
from tools.measure import Result
from tools.record import IN, SessionOpened, read_chunks, read_sessions
from tools.streams import Stream

ROOT = Path(__file__).parents[2]
TERMINAL_SIDE = ("--dialect", "iso87-binary", "--header", "tpdu")
PATIENCE_S = 30.0
LOST_EACH = 12  # one answer of so many
TERMINALS = 5  # of a host that goes away


class Simulator:
    """A simulator process."""

    def __init__(self, role: str, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "tools.sim", role, "--listen", "127.0.0.1:0", "--dir", str(folder), *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def address(self) -> tuple[str, int]:
        """Waits until it listens."""
        assert self.process.stdout
        return "127.0.0.1", int(json.loads(self.process.stdout.readline())["port"])

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextmanager
def running(*simulators: Simulator) -> Iterator[None]:
    """Leaves no process behind."""
    try:
        yield
    finally:
        for simulator in simulators:
            simulator.process.kill()
            simulator.process.communicate()


def run(
    folder: Path, issuer: tuple[str, ...] = (), bank: tuple[str, ...] = (), lost_each: int = 0, **options: object
) -> Result:
    """A second of mixed traffic against one issuer and one bank. It ends with the last answer that comes.

    lost_each: the hosts lose one answer of so many. No arrival finds all terminals waiting, though a host stand still.
    """
    simulators = (
        Simulator("issuer", folder / "issuer", *TERMINAL_SIDE, *issuer),
        Simulator("bank", folder / "bank", *bank),
    )
    with running(*simulators):
        cards, transfers = (simulator.address() for simulator in simulators)
        settings = {
            "record": folder / "inject",
            "cards": (cards,),
            "transfers": (transfers,),
            "traffic": "mixed",
            "terminals": 200,
            "banks": 3,
            "pipeline": 70,
            "rate": 200.0,
            "seconds": 1.0,
            "drain_s": PATIENCE_S,
        }
        result = asyncio.run(traffic(InjectorConfig(**{**settings, **options}), lost_each))
        assert [simulator.end() for simulator in simulators] == [0, 0]
    return result


async def traffic(config: InjectorConfig, lost_each: int) -> Result:
    injector = Injector(config)
    run = asyncio.create_task(injector.run())
    if lost_each:
        tally = injector._tally
        async with asyncio.timeout(PATIENCE_S):
            await injector._finished.wait()
            while tally.answered < tally.sent - tally.sent // lost_each:
                await asyncio.sleep(0.01)
        tally.settled.set()  # the others never come
    return await run


def judge(folder: Path) -> Verdict:
    return audit([folder / "inject"], folder / "issuer", folder / "bank")


def test_a_run_without_faults_is_clean(tmp_path: Path) -> None:
    result = run(tmp_path)
    verdict = judge(tmp_path)
    assert verdict.findings == []
    assert verdict.clean
    assert result.sent == verdict.sent == verdict.answered == result.answered > 150
    assert result.approved == verdict.approved
    assert result.lost == result.unexpected == result.closes == result.resets == result.skipped == 0
    assert verdict.declined > 0, "some are declined, so that both ways are tried"
    assert sum(second.answered for second in result.per_second) == result.answered
    assert 0 < result.latency_ms.p50 <= result.latency_ms.p99 <= result.latency_ms.max
    assert result.longest_gap_ms > 0
    reports = [parse(payload, load_schemas()) for payload in xml_received(tmp_path / "inject")]
    assert {report.type for report in reports} == {"pacs.002.001.10"}
    assert {report.header is None for report in reports} == {True, False}, "a header when the request had one"


def xml_received(folder: Path) -> list[bytes]:
    """The messages that banks received."""
    banks = {
        event.session: Stream(event.framing, event.header)
        for event in read_sessions(folder, 1)
        if isinstance(event, SessionOpened) and not event.dialect
    }
    chunks = [chunk for chunk in read_chunks(folder, 1) if chunk.direction == IN and chunk.session in banks]
    return [cut.payload for chunk in chunks for cut in banks[chunk.session].feed(chunk.data)]


@pytest.mark.parametrize("rails", ["cards", "transfers"])
def test_lost_doubled_and_wrong_answers_are_found(tmp_path: Path, rails: str) -> None:
    faults = ("--lose", f"1/{LOST_EACH}", "--duplicate", "1/10", "--wrong", "1/9")
    result = run(tmp_path, faults, faults, LOST_EACH, traffic=rails, rate=150.0)
    verdict = judge(tmp_path)
    # a wrong answer with the right RRN stands for a lost one, and two faults may meet: hence halves
    assert result.lost == verdict.lost >= result.sent // LOST_EACH // 2
    assert verdict.duplicated >= result.sent // 10 // 2
    assert verdict.unexpected >= result.sent // 9 // 2
    assert result.unexpected > 0
    assert verdict.ledger_mismatch > 0, "booked, but never answered"
    assert len(verdict.findings) == 20
    assert not verdict.clean


def test_repeats_of_unanswered_requests_are_posted_twice_and_found(tmp_path: Path) -> None:
    result = run(tmp_path, ("--lose", "1/10"), traffic="cards", repeat_after_ms=150.0)
    verdict = judge(tmp_path)
    assert result.repeats == verdict.repeats > 0
    assert result.lost == verdict.lost == 0
    assert 0 < verdict.duplicated <= verdict.repeats, "the issuer does not know repeats: the switch has to"


def test_both_answers_to_a_repeat_that_was_not_needed_are_taken(tmp_path: Path) -> None:
    result = run(tmp_path, ("--delay-ms", "250..300"), traffic="cards", rate=60.0, repeat_after_ms=150.0)
    assert result.repeats > 0
    assert result.lost == result.unexpected == 0


def test_what_is_not_heard_is_repeated_once_and_then_reversed(tmp_path: Path) -> None:
    result = run(tmp_path, ("--drop", "0.4"), traffic="cards", repeat_after_ms=100.0, reverse_after_ms=(50.0, 150.0))
    verdict = judge(tmp_path)
    assert result.lost == result.unexpected == 0
    assert verdict.lost == verdict.ledger_mismatch == verdict.unexpected == 0
    assert result.reversals == verdict.reversed > 0
    assert result.repeats == verdict.repeats > result.reversals
    sent: dict[str, list[str]] = {}
    for seen in read_messages(tmp_path / "inject", pytest.fail):
        if seen.outward:
            sent.setdefault(seen.facts.key[1], []).append(seen.facts.type)
    reversed_ = [types for types in sent.values() if "0420" in types]
    assert all(types[:3] == ["0200", "0201", "0420"] for types in reversed_)
    assert ["0200", "0201"] in sent.values(), "an answered repeat is not reversed"


@pytest.mark.parametrize("rails", ["cards", "transfers"])
def test_a_share_of_all_messages_is_sent_twice_and_hosts_that_do_not_know_repeats_are_found(
    tmp_path: Path, rails: str
) -> None:
    slow = ("--delay-ms", "0..50")  # some repeats come before their answer, some after it
    result = run(tmp_path, slow, slow, traffic=rails, repeats=0.5)
    verdict = judge(tmp_path)
    assert result.sent / 4 < result.repeats == verdict.repeats < result.sent
    assert result.lost == result.repeats_lost == result.unexpected == verdict.lost == 0
    assert 0 < verdict.duplicated <= verdict.repeats
    assert (verdict.unexpected > 0) == (rails == "cards"), "another approval code, and an approval after a decline"


def test_a_host_that_goes_away_is_a_cut_connection(tmp_path: Path) -> None:
    async def traffic(config: InjectorConfig) -> Result:
        """Until all terminals, which were connected, are cut off."""
        injector = Injector(config)
        tally, run = injector._tally, asyncio.create_task(injector.run())
        async with asyncio.timeout(PATIENCE_S):
            while tally.answered < TERMINALS:
                await asyncio.sleep(0.01)
            issuer.process.kill()
            while tally.closes + tally.resets < TERMINALS:
                await asyncio.sleep(0.01)
        injector.stop()
        return await run

    issuer = Simulator("issuer", tmp_path / "issuer", *TERMINAL_SIDE)
    with running(issuer):
        cards = (issuer.address(),)
        config = InjectorConfig(
            record=tmp_path / "inject", cards=cards, terminals=TERMINALS, rate=50.0, seconds=PATIENCE_S, drain_s=0.1
        )
        result = asyncio.run(traffic(config))
    assert audit([tmp_path / "inject"]).resets == result.closes + result.resets == TERMINALS


def test_a_restarted_host_goes_on_with_its_books(tmp_path: Path) -> None:
    for name in ("first", "second"):
        issuer = Simulator("issuer", tmp_path / "issuer", *TERMINAL_SIDE)
        with running(issuer):
            cards = (issuer.address(),)
            config = InjectorConfig(record=tmp_path / name, cards=cards, terminals=5, rate=50.0, seconds=0.3)
            asyncio.run(Injector(config).run())
            assert issuer.end() == 0
    verdict = audit([tmp_path / "first", tmp_path / "second"], tmp_path / "issuer")
    assert verdict.clean
    books = read_ledger(tmp_path / "issuer" / FILE)
    assert [entry.number for entry in books] == list(range(1, len(books) + 1))
    reopened = Ledger(tmp_path / "issuer")
    assert sum(reopened.balances.values()) == sum(entry.amount for entry in books if isinstance(entry, Posting))
    reopened.close()
