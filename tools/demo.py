"""The demo: a switch of two nodes under real traffic, watched live, then judged by the auditor."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
import typer

from tools.audit import audit
from tools.children import end_in_order, spawn
from tools.judge import Verdict
from tools.kills import Kill, Killer, Mode
from tools.pair import Settings, Switch
from tools.sandbox import SandboxUnavailable, SystemdSwitch

SAMPLE_S = 1.0


class Sample(msgspec.Struct):
    """What the pair used at one moment."""

    seconds: float
    rss_mb: dict[str, float]
    etcd_rss_mb: float
    etcd_db_mb: float
    hashes_agree: bool | None  # None: no common index at that moment


class Report(msgspec.Struct, kw_only=True):
    """What the demo writes as JSON."""

    clean: bool
    sent: int
    answered: int
    approved: int
    lost: int
    duplicated: int
    resets: int
    ledger_mismatch: int
    tps: float
    latency_ms: dict[str, float]
    longest_gap_ms: float
    skipped: int
    kills: int
    takeover_ms: list[float]
    each_kill: list[Kill]
    hash_comparisons: int
    hash_mismatches: int
    samples: list[Sample]
    verdict: Verdict

    @classmethod
    def of(cls, directory: Path, kills: list[Kill], samples: list[Sample], sound: bool, **more: Any) -> Self:
        """Audits the records of a run. sound: nothing else was found against it. more: fields of a longer report."""
        verdict = audit([directory / "inject"], directory / "issuer", directory / "bank")
        result = json.loads((directory / "inject.json").read_bytes())
        compared = [each.hashes_agree for each in samples if each.hashes_agree is not None]
        return cls(
            clean=verdict.clean and sound and bool(compared) and all(compared),
            sent=verdict.sent, answered=verdict.answered, approved=verdict.approved, lost=verdict.lost,
            duplicated=verdict.duplicated, resets=verdict.resets, ledger_mismatch=verdict.ledger_mismatch,
            tps=round(result["answered"] / result["seconds"], 1), latency_ms=result["latency_ms"],
            longest_gap_ms=result["longest_gap_ms"], skipped=result["skipped"],
            kills=len(kills), takeover_ms=[each.takeover_ms for each in kills], each_kill=kills,
            hash_comparisons=len(compared), hash_mismatches=compared.count(False), samples=samples, verdict=verdict,
            **more,
        )  # fmt: skip


class Hashes:
    """What the nodes told of their state's hash, by index."""

    def __init__(self) -> None:
        self._told: dict[str, dict[int, str]] = {"a": {}, "b": {}}

    def compare(self, switch: Switch) -> bool | None:
        """Whether what the nodes tell now agrees with what the other told of the same index; None: it told nothing."""
        agree: bool | None = None
        for node, other in ("ab", "ba"):
            try:
                index, value = switch.ask(node)["hash"]
            except (OSError, ValueError):
                continue
            if not index:
                continue  # it has applied no heartbeat yet
            if self._told[node].setdefault(index, value) != value:
                agree = False
            if index in self._told[other]:
                agree = self._told[other][index] == value and agree is not False
        return agree


def sample(switch: Switch, began: float, agree: bool | None) -> Sample:
    """Memory of the processes and size of etcd. Raises OSError and RuntimeError while etcd does not answer."""
    return Sample(
        round(time.monotonic() - began, 1),
        {name: round(node.rss_bytes() / 1e6, 1) for name, node in switch.nodes.items() if node.running()},
        round(switch.etcd.rss() / 1e6, 1),
        round(switch.etcd.db_size() / 1e6, 1),
        agree,
    )


def inject(
    switch: Switch, directory: Path, options: dict[str, Any], progress: int | None = None
) -> subprocess.Popen[bytes]:
    """Traffic in a process of its own; its result is in inject.json then. `progress`: where its stderr goes."""
    arguments = [
        "--record", str(directory / "inject"), "--json", str(directory / "inject.json"),
        "--cards", switch.addresses(switch.ports.terminals), "--transfers", switch.addresses(switch.ports.banks),
    ]  # fmt: skip
    for name, value in options.items():
        arguments += [f"--{name}", str(value)]
    command = [sys.executable, "-m", "tools.inject", *arguments]
    return spawn(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=progress)


def run(directory: Path, switch: Switch, options: dict[str, Any], kill: Mode = "none", every_s: float = 2) -> Report:
    """Traffic, kills and audit on a switch that is not started yet."""
    samples: list[Sample] = []
    hashes = Hashes()
    with switch:
        print(f"two nodes, etcd, issuer and bank are up in {directory}", file=sys.stderr)
        began = time.monotonic()
        traffic = inject(switch, directory, options)
        killer = Killer(switch, kill, every_s)
        try:
            while traffic.poll() is None:
                if time.monotonic() - began > options["seconds"] - 1:
                    killer.stop()
                samples.append(sample(switch, began, hashes.compare(switch)))
                try:
                    traffic.wait(SAMPLE_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            killer.stop()
            if traffic.poll() is None:
                traffic.kill()
                traffic.wait()
        codes = switch.stop_nodes()
    unclean = [f"{name} ended with {code}" for name, code in codes.items() if code] + killer.failures
    for each in unclean:
        print(each, file=sys.stderr)
    print("auditing the records", file=sys.stderr)
    return Report.of(directory, killer.kills, samples, not unclean)


def _draw(file: Path, directory: Path, report: Report, title: str) -> None:
    from tools.picture import Picture, draw  # costly to import, and not always wanted

    result = json.loads((directory / "inject.json").read_bytes())
    draw(file, Picture.of(result, report.each_kill, title))


def _switch(directory: Path, kill: Mode) -> Switch:
    """Sockets outlive the death of both nodes in systemd's fd store only; a request outlives it if its timer is longer."""
    if kill == "both-at-once":
        return SystemdSwitch(directory, Settings(timeout_ms=30_000))
    return Switch(directory)


def main(
    seconds: Annotated[float, typer.Option(help="how long traffic runs")] = 30,
    terminals: Annotated[int, typer.Option(help="card terminals, spread over both nodes")] = 200,
    rate: Annotated[float, typer.Option(help="requests a second, open loop")] = 300,
    traffic: Annotated[Literal["cards", "transfers", "mixed"], typer.Option(help="kind of traffic")] = "mixed",
    banks: Annotated[int, typer.Option(help="bank sessions")] = 8,
    kill: Annotated[Mode, typer.Option(help="which node is killed with SIGKILL while traffic runs")] = "none",
    kill_every: Annotated[float, typer.Option(help="seconds between kills; the pair is whole again before each")] = 2,
    json: Annotated[Path | None, typer.Option(help="writes the report here")] = None,
    picture: Annotated[Path | None, typer.Option(help="draws latency over time and the kills into this PNG")] = None,
    keep: Annotated[Path | None, typer.Option(help="keeps records, logs and configuration in this folder")] = None,
) -> None:
    """Run a whole switch on this machine and judge it. Exit code 0 only when the audit is clean."""
    end_in_order()
    directory = keep or Path(tempfile.mkdtemp(prefix="switch-demo-"))
    options = {"seconds": seconds, "terminals": terminals, "rate": rate, "traffic": traffic, "banks": banks,
               "pipeline": 32}  # fmt: skip
    try:
        report = run(directory, _switch(directory, kill), options, kill, kill_every)
        if picture is not None:
            _draw(picture, directory, report, f"{traffic}, {terminals} terminals, {rate:g} requests a second")
    except SandboxUnavailable as error:
        print(f"both nodes at once can be killed under systemd only: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    for name in ("sent", "answered", "approved", "lost", "duplicated", "resets", "ledger_mismatch", "tps"):
        print(f"{name:16} {getattr(report, name)}")
    print("latency_ms       " + "  ".join(f"{name} {value:.1f}" for name, value in report.latency_ms.items()))
    if report.kills:
        ordered = sorted(report.takeover_ms)
        median, worst = ordered[len(ordered) // 2], ordered[-1]
        print(f"kills            {report.kills}  takeover p50 {median:.1f} ms  max {worst:.1f} ms")
        print(f"longest gap      {report.longest_gap_ms:.1f} ms without any answer")
    for finding in report.verdict.findings:
        print(f"finding: {finding}")
    print("the audit is clean" if report.clean else "THE AUDIT IS NOT CLEAN")
    if not report.clean:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
