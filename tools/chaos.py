"""Faults at random instants under traffic, in an order that a seed decides; the auditor judges what the world saw.

With an unreliable issuer terminals and ledger part all the time: timeouts, reversals and advices must bring them together.
"""

import contextlib
import itertools
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from switch.core.rules import Limits
from switch.mirror.keys import Keys
from tools.chaos_faults import FAULTS, Done, Step, chosen, order, small_disk
from tools.chaos_remains import exposures, overgrown, stored
from tools.chaos_report import ChaosReport, Happened, show
from tools.children import end_in_order
from tools.demo import Hashes, Sample, inject, sample
from tools.fdstore import FdStore
from tools.kills import duplex
from tools.pair import Settings, Switch

LOOK_S = 0.25
LOOKS_A_SAMPLE = 4
WAIT_S = 60.0  # patience, not an expectation
DAY_S = 86_400.0  # traffic runs until it is told to stop
REPLAY_WINDOW_MS = 60_000  # so that state and log are level after a minute, however long the run is
QUOTA_BYTES, QUOTA_BYTES_EACH_RATE = 64 << 20, 400_000  # of an etcd that is to be filled: enough for the switch alone
UNRELIABLE_TIMEOUT_MS = 1_500
UNRELIABLE = (  # an issuer's options: it loses requests and answers, answers too late or twice, or has no time for advices
    "--drop", "0.02", "--lose", "0.02", "--late", "0.02", "--late-ms", "2500", "--duplicate", "0.03", "--wrong", "0.01",
    "--busy", "0.1", "--delay-ms", "1..20",
)  # fmt: skip
# impatient terminals reverse what is still in flight, patient ones what the switch has not answered in time
DOUBTFUL = {"repeat-after-ms": 700, "reverse-after-ms": "300..2300", "advices": 0.1, "cancels": 0.05}
TROUBLE = (OSError, RuntimeError, ValueError, subprocess.SubprocessError)


class NothingToAudit(Exception):
    """The injector has left no result. The text says why."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A run: as many kills, or faults, or seconds, whichever is not 0."""

    seed: int
    members: int
    kills: int = 0
    faults: int = 0
    seconds: float = 0.0
    only: tuple[str, ...] = ()
    both: bool = False
    terminals: int = 100
    banks: int = 8
    rate: float = 150.0
    traffic: Literal["cards", "transfers", "mixed"] = "mixed"
    issuer: Literal["reliable", "unreliable"] = "reliable"

    def each_round(self) -> dict[str, int]:
        """How often each fault comes in a round. Raises ValueError for a plan that never ends or cannot be."""
        each_round = chosen(self.members, self.only, self.both)
        if self.kills and not any(FAULTS[name].kills for name in each_round):
            raise ValueError(f"none of {', '.join(each_round)} kills a node: the run would never end")
        return each_round

    def command(self) -> str:
        """The same faults in the same order."""
        how = next(f"--{name} {value:g}" for name, value in self._ends().items() if value)
        more = f" --only {','.join(self.only)}" * bool(self.only) + " --both" * self.both
        more += " --issuer unreliable" * (self.issuer == "unreliable")
        what = f"--terminals {self.terminals} --rate {self.rate:g} --traffic {self.traffic}"
        return f"tools/chaos {how} --seed {self.seed} --members {self.members}{more} {what}"

    def _ends(self) -> dict[str, float]:
        return {"kills": self.kills, "faults": self.faults, "seconds": self.seconds}


class Observer:
    """Looks at the switch from a thread of its own: hashes, and every second memory and the injector's last word."""

    def __init__(self, switch: Switch, began: float, log: Path, progress: Progress) -> None:
        self.samples: list[Sample] = []
        self.disagreed = 0
        self.failure: BaseException | None = None
        self._switch, self._began, self._log, self._progress = switch, began, log, progress
        self._hashes = Hashes()
        self._agree: bool | None = None  # told at no sample yet
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer")

    def _run(self) -> None:
        try:
            for look in itertools.count(1):
                if self._stopped.wait(LOOK_S):
                    return
                agree = self._hashes.compare(self._switch)
                self.disagreed += agree is False
                if self._agree is not False and agree is not None:
                    self._agree = agree
                if look % LOOKS_A_SAMPLE == 0:
                    self._sample()
        except Exception as error:
            self.failure = error

    def _sample(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, IndexError):  # a node or etcd is away: the next one tells
            self.samples.append(sample(self._switch, self._began, self._agree))
            self._agree = None
        lines = self._log.read_bytes()[-300:].decode(errors="replace").splitlines()
        for task in self._progress.tasks:
            self._progress.update(task.id, traffic=lines[-1].strip() if lines else "")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()


class Chaos:
    """One run."""

    def __init__(self, directory: Path, plan: Plan, progress: Progress) -> None:
        """Raises ValueError for a plan that cannot be."""
        self.happened: list[Happened] = []
        self.findings: list[str] = []
        self._directory, self._plan, self._progress = directory, plan, progress
        self._each_round = plan.each_round()
        settings = Settings(limits={"replay_window_ms": REPLAY_WINDOW_MS})
        if plan.issuer == "unreliable":
            lane = {"timeout_ms": UNRELIABLE_TIMEOUT_MS, "advice_window": 8, "advice_retry_ms": 1_000,
                    "advice_retry_max_ms": 4_000}  # fmt: skip
            seed = ("--seed", str(plan.seed))
            settings = msgspec.structs.replace(settings, issuer=lane, issuer_options=(*UNRELIABLE, *seed))
        if "etcd-full" in self._each_round:
            quota = QUOTA_BYTES + int(plan.rate * QUOTA_BYTES_EACH_RATE)
            settings = msgspec.structs.replace(settings, etcd_quota_bytes=quota)
        self._switch = Switch(directory, settings, plan.members)
        self._began = 0.0

    def run(self) -> ChaosReport:
        """Traffic, faults, audit. What goes wrong is a finding, and the last fault then. Raises NothingToAudit."""
        directory, plan, switch = self._directory, self._plan, self._switch
        with contextlib.ExitStack() as stack:
            if "kill-both" in self._each_round:
                for name, node in switch.nodes.items():
                    node.store = stack.enter_context(FdStore(directory / f"{name}.notify"))
            if "disk-full" in self._each_round:
                try:
                    stack.enter_context(small_disk(switch.etcd.directory / "m0"))
                except subprocess.CalledProcessError as error:
                    raise NothingToAudit(f"etcd cannot have a small disk of its own: {error}") from None
            stack.enter_context(switch)
            log = directory / "inject.log"
            options = {"seconds": DAY_S, "terminals": plan.terminals, "banks": plan.banks, "rate": plan.rate,
                       "traffic": plan.traffic, "pipeline": 32, "seed": plan.seed, "repeats": 0.03}  # fmt: skip
            options |= DOUBTFUL if plan.issuer == "unreliable" else {}
            words = stack.enter_context(log.open("wb"))
            traffic = stack.enter_context(_ending(inject(switch, directory, options, words.fileno())))
            self._began = time.monotonic()
            with Observer(switch, self._began, log, self._progress) as observer:
                try:
                    self._all(traffic)
                except TROUBLE as error:
                    self._find(str(error))
                self._end(traffic)
            self._look_at_remains()
            if observer.failure is not None:
                raise observer.failure
            if observer.disagreed:
                self._find(f"the nodes' hashes of the same index differed {observer.disagreed} time(s)")
            seconds = time.monotonic() - self._began
            self.findings += [f"{name} ended with {code}" for name, code in switch.stop_nodes().items() if code]
            self.findings += switch.defects()[:20]
        if not (directory / "inject.json").exists():
            raise NothingToAudit("; ".join(self.findings) or "the injector wrote no result: see inject.log")
        self._say("auditing the records")
        timer_s = switch.settings.timeout_ms / 1000 if plan.issuer == "reliable" else None
        samples, length = observer.samples, round(seconds, 1)
        return ChaosReport.judge(
            directory, self.happened, samples, self.findings, plan.seed, plan.members, length, timer_s
        )

    def _all(self, traffic: "subprocess.Popen[bytes]") -> None:
        """Fault after fault, until there were enough; the pair is whole in the end."""
        plan, task = self._plan, self._progress.add_task("", total=None, traffic="")
        expected = plan.terminals * (plan.traffic != "transfers") + plan.banks * (plan.traffic != "cards")
        self._wait(lambda: self._switch.ask("a")["sessions"] >= expected, f"{expected} sessions")
        if stores := [node.store for node in self._switch.nodes.values() if node.store]:
            # they take one at a time: a socket that waits in a node for its turn dies with both
            held = "the fd stores to hold all sessions"
            self._wait(lambda: len(set().union(*(store.held() for store in stores))) >= expected, held)
        self._whole(traffic)
        self._progress.update(task, total=plan.kills or plan.faults or plan.seconds)
        for step in order(plan.seed, self._each_round):
            kills, passed = sum(len(each.kills) for each in self.happened), time.monotonic() - self._began
            done = kills if plan.kills else len(self.happened) if plan.faults else passed
            self._progress.update(task, completed=done, description=f"{len(self.happened)} faults, {kills} kills")
            if done >= (plan.kills or plan.faults or plan.seconds):
                return
            time.sleep(step.wait_s)
            self._whole(traffic)  # what has ended meanwhile did so by itself
            self._happen(step, traffic)

    def _happen(self, step: Step, traffic: "subprocess.Popen[bytes]") -> None:
        """One fault, from its first instant until the pair is whole again."""
        before = self._incarnations()
        start, epoch = time.monotonic(), time.time()
        fault = Happened(
            name=step.fault, start_s=round(start - self._began, 3), duration_s=0.0, detail="did not end",
            start_epoch=epoch,
        )  # fmt: skip
        self.happened.append(fault)
        try:
            done = FAULTS[step.fault].run(self._switch, step)
            fault.detail, fault.kills = done.detail, done.kills
            self._whole(traffic)
            self._check(done, before)
        except TROUBLE as error:
            fault.detail = f"{fault.detail}; FAILED: {error}"
            raise RuntimeError(f"fault {len(self.happened)}, {step.fault} of {step.node}: {error}") from error
        finally:
            fault.duration_s = round(time.monotonic() - start, 3)
            with (self._directory / "faults.jsonl").open("ab") as file:
                file.write(msgspec.json.encode(fault) + b"\n")
        self._say(f"{fault.start_s:8.1f} s  {fault.name:17} {fault.detail}; whole after {fault.duration_s:.1f} s")

    def _check(self, done: Done, before: dict[str, str]) -> None:
        """Who was to be replaced has been, and nobody else."""
        for node, incarnation in self._incarnations().items():
            if (incarnation != before[node]) != (node in done.replaced):
                meant = "another one" if node in done.replaced else "still"
                raise RuntimeError(f"{node} is {incarnation} now, and should be {meant} {before[node]}")

    def _incarnations(self) -> dict[str, str]:
        return {node: self._switch.ask(node)["incarnation"] for node in "ab"}

    def _whole(self, traffic: "subprocess.Popen[bytes]") -> None:
        """Wait until both nodes and all of etcd are at work. Raises RuntimeError for what has ended by itself."""

        def whole() -> bool:
            for name, node in self._switch.nodes.items():
                if not node.running():
                    raise RuntimeError(f"node {name} has ended with {node.wait()} by itself: see {node.log.name}")
            if traffic.poll() is not None:
                raise RuntimeError(f"the injector has ended with {traffic.returncode}: see inject.log")
            with contextlib.suppress(OSError, ValueError):  # ended just now: the next look says so
                return duplex(self._switch) and not any(self._switch.ask(node)["held"] for node in "ab")
            return False

        for number in range(self._plan.members):
            self._switch.etcd.wait_ready(number)
        self._wait(whole, "the pair to be whole again")

    def _end(self, traffic: "subprocess.Popen[bytes]") -> None:
        """The injector awaits its last answers; nothing is left to do for the switch then, all lanes are empty."""
        told = traffic.poll() is None
        traffic.send_signal(signal.SIGTERM)
        try:
            if traffic.wait(WAIT_S) and told:
                self._find(f"the injector was told to end and did so with {traffic.returncode}: see inject.log")
        except subprocess.TimeoutExpired:
            self._find(f"the injector was told to end and has not within {WAIT_S:g} s: see inject.log")
        left: dict[str, dict[str, int]] = {}

        def settled() -> bool:
            for node in "ab":
                with contextlib.suppress(OSError, ValueError):
                    status = self._switch.ask(node)
                    left[node] = {name: status[name] for name in ("transactions", "advices") if status[name]}
            return left == {"a": {}, "b": {}}

        try:
            self._wait(settled, "the last transactions and advices")
        except TimeoutError as error:
            self._find(f"{error}; what is left: {left or 'no node answers'}")
            with contextlib.suppress(OSError, ValueError):
                self.findings += [f"left: {row}" for row in self._switch.ask("a", "advices")["advices"][:20]]

    def _look_at_remains(self) -> None:
        """In etcd and in the logs, while all is still there."""
        switch, prefix = self._switch, Keys("demo").prefix
        limits = msgspec.convert(switch.settings.limits, Limits)
        try:
            values = list(stored(switch.etcd.endpoints[0], prefix))
        except RuntimeError as error:
            self._find(str(error))
            values = []
        keys = (key for key, _ in values)
        found = overgrown(keys, prefix, limits.snapshot_entries, limits.heartbeat_ms)
        for text in found + exposures(values, [node.log for node in switch.nodes.values()]):
            self._find(text)

    def _wait(self, condition: object, what: str) -> None:
        self._switch.wait_for(condition, what, WAIT_S)

    def _find(self, text: str) -> None:
        self.findings.append(text)
        self._say(f"FINDING: {text}")

    def _say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _ending(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does not outlive the block."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _folder(directory: Path | None) -> Path:
    """Where the run lives. Older records in it would be audited with the new ones."""
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="switch-chaos-"))
    if directory.exists() and any(directory.iterdir()):
        raise typer.BadParameter(f"{directory} is not empty: give a new folder", param_hint="--directory")
    return directory


def _advise(directory: Path, plan: Plan) -> None:
    """What to do after a failure."""
    records = " ".join(f"--{name} {directory / name}" for name in ("inject", "issuer", "bank"))
    print(
        f"everything is kept in {directory}\n"
        "  faults.jsonl              what was done when, and what came of it\n"
        "  node-a.log, node-b.log    how the nodes saw it; etcd/ has its members' data and logs\n"
        f"  judge the records anew:   python -m tools.audit {records}\n"
        f"  the same order of faults: {plan.command()}\n"
        "  (the instants are others each time: repeat it until it shows, with --only to narrow it down)",
        file=sys.stderr,
    )


def main(
    kills: Annotated[int, typer.Option(min=0, help="until so many kills of a node")] = 0,
    faults: Annotated[int, typer.Option(min=0, help="until so many faults of any kind")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="for so long; 60 when nothing else is said")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="decides the order of faults; told in the report")] = None,
    members: Annotated[int, typer.Option(help="of etcd: 1 or 3")] = 1,
    only: Annotated[str, typer.Option(help=f"these faults, by comma: {', '.join(FAULTS)}")] = "",
    both: Annotated[bool, typer.Option(help="also kills both nodes at once; fd stores keep their sockets")] = False,
    terminals: Annotated[int, typer.Option(help="card terminals, spread over both nodes")] = 100,
    rate: Annotated[float, typer.Option(help="requests a second, open loop")] = 150,
    traffic: Annotated[Literal["cards", "transfers", "mixed"], typer.Option(help="kind of traffic")] = "mixed",
    issuer: Annotated[
        Literal["reliable", "unreliable"],
        typer.Option(help="an unreliable one loses, delays and repeats; terminals reverse what they hear nothing of"),
    ] = "reliable",
    json: Annotated[Path | None, typer.Option(help="writes the report here")] = None,
    directory: Annotated[Path | None, typer.Option(help="a new folder for everything; else one in /tmp")] = None,
    keep: Annotated[bool, typer.Option(help="keeps the folder of a clean run, too")] = False,
) -> None:
    """Let faults happen to a switch under traffic, one at a time, and judge it. Exit code 0 only for a clean run.

    Takeovers are timed from the signal until the heir serves, as the heir tells; silences and waits as terminals saw them.
    """
    if sum(map(bool, (kills, faults, seconds))) > 1:
        raise typer.BadParameter("give one of --kills, --faults and --seconds")
    if not kills and not faults:
        seconds = seconds or 60.0
    plan = Plan(
        seed=int(time.time()) if seed is None else seed, members=members, kills=kills, faults=faults, seconds=seconds,
        only=tuple(filter(None, only.split(","))), both=both, terminals=terminals, rate=rate, traffic=traffic,
        issuer=issuer,
    )  # fmt: skip
    try:
        plan.each_round()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    end_in_order()
    folder = _folder(directory)
    clean = False
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[traffic]}"))
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            progress.console.print(f"seed {plan.seed}, everything in {folder}", highlight=False)
            try:
                report = Chaos(folder, plan, progress).run()
            except NothingToAudit as error:
                print(f"nothing can be audited: {error}", file=sys.stderr)
                raise typer.Exit(1) from None
        document = msgspec.json.format(msgspec.json.encode(report)) + b"\n"
        for file in filter(None, (folder / "chaos.json", json)):
            file.write_bytes(document)
        show(report)
        clean = report.clean
    finally:
        if clean and not keep:
            shutil.rmtree(folder, ignore_errors=True)
        elif not clean:
            _advise(folder, plan)
        else:
            print(f"everything is kept in {folder}", file=sys.stderr)
    if not clean:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
