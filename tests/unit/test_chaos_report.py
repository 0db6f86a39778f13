"""What tools/chaos makes of the records of a run."""

from pathlib import Path
from typing import Literal

import msgspec
import pytest

from tools.chaos_declines import Decline, Standstill, declined_by_switch, unexcused
from tools.chaos_report import Happened, blind, unasked_declines
from tools.demo import Sample
from tools.record import MessageLine


def record(folder: Path, *messages: tuple[float, Literal["in", "out"], str, str, str]) -> Path:
    """A record folder: of each message the time, direction, type, reference and code."""
    folder.mkdir()
    (folder / "wire-1.rec").touch()
    lines = [
        MessageLine(time, time, 1, direction, 0, 0, type_, (reference, "T1"), 100, code)
        for time, direction, type_, reference, code in messages
    ]
    (folder / "messages-1.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return folder


# --- declines


def test_the_switch_declined_what_no_host_declined(tmp_path: Path) -> None:
    inject = record(
        tmp_path / "inject",
        (1, "out", "0200", "r1", ""), (1.5, "in", "0210", "r1", "51"),  # by the issuer
        (2, "out", "0200", "r2", ""), (2.5, "in", "0210", "r2", "91"),  # it approved
        (3, "out", "0200", "r3", ""), (3.5, "in", "0210", "r3", "00"),
        (4, "out", "0200", "r4", ""), (4.5, "in", "0210", "r4", "91"),  # it never heard of this one
        (5, "out", "pacs.008.001.08", "e1", ""), (5.5, "in", "pacs.002", "e1", "RJCT"),  # by the bank
        (6, "out", "pacs.008.001.08", "e2", ""), (6.1, "in", "pacs.002", "e2", "PDNG"), (7, "in", "pacs.002", "e2", "RJCT"),
        (8, "out", "0420", "r3", ""), (8.5, "in", "0430", "r3", "25"),  # no request
    )  # fmt: skip
    issuer = record(
        tmp_path / "issuer",
        (1.2, "out", "0210", "r1", "51"),
        (2.2, "out", "0210", "r2", "00"),
        (8.2, "out", "0430", "r4", "25"),
    )
    bank = record(tmp_path / "bank", (5.2, "out", "pacs.002.001.10", "e1", "RJCT/AC04"))
    assert declined_by_switch(inject, (issuer, bank)) == [
        Decline("r2", "91", 2, 2.5), Decline("r4", "91", 4, 4.5), Decline("e2", "RJCT", 6, 7)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "told", "excused"),
    [
        (100, 108, True),
        (100, 107.6, True),
        (100, 107, False),
        (90, 99.9, False),
        (112.1, 121, False),
        (90, 100.1, True),
    ],
)
def test_only_a_request_that_outlived_its_timer_while_the_log_stood_still_may_be_declined(
    asked: float, told: float, excused: bool
) -> None:
    stood = [Standstill(10, 20), Standstill(100, 112)]
    assert unexcused([Decline("r", "68", asked, told)], stood, timer_s=8) == (
        [] if excused else [Decline("r", "68", asked, told)]
    )


def test_a_fault_that_holds_nothing_up_is_no_excuse() -> None:
    late = [Decline("r7", "68", 100, 109)]

    def during(name: str) -> list[str]:
        fault = Happened(name=name, start_s=0, duration_s=9, detail="", start_epoch=100)
        return unasked_declines(late, [fault], 8)

    assert during("etcd-kill") == during("hang") == []
    assert during("kill") == [
        "the switch declined 1 request(s) by itself, and no fault can have made it: r7 by 68 after 9.00 s"
    ]


# --- hashes


def samples(*seconds: float) -> list[Sample]:
    """Moments at which hashes were compared, and others."""
    compared = [Sample(at, {}, 0.0, 0.0, True) for at in seconds]
    return sorted([*compared, *(Sample(at, {}, 0.0, 0.0, None) for at in range(300))], key=lambda each: each.seconds)


def test_hashes_must_be_compared_once_a_minute_and_once_in_five_faults() -> None:
    assert blind(samples(50, 110, 160), 200, faults=15) == []
    assert blind(samples(50, 110, 160), 200, faults=16) != []
    assert blind(samples(50, 160), 200, faults=1) == ["hashes were compared 2 times in 1 faults, and not once for 110 s"]
    assert blind(samples(), 61, faults=0) != []
    assert blind(samples(61), 62, faults=0) != []
