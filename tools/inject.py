"""switch-inject: card and transfer traffic at a given rate from many terminals and banks, written down byte for byte.

Open loop: requests start at their intended times whatever the answers do, and latency counts from there.
"""

import asyncio
import contextlib
import gc
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
import uvloop

from messages.framing import Framer
from messages.iso8583 import load_dialect
from tools.cards import issue_cards
from tools.client import Wiring
from tools.faults import parse_delay
from tools.measure import Progress, Result, Tally
from tools.record import Recorder
from tools.terminals import Habits, Terminals
from tools.transfer_requests import built_in_templates, file_templates
from tools.transfers import Banks

Traffic = Literal["cards", "transfers", "mixed"]
Address = tuple[str, int]

TICK_S = 0.001
FLUSH_S = 0.25
CARDS = 2000
MAXIMUM_BYTES = 1 << 20


class InjectorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A run. rate: requests a second, of both kinds together. pipeline: transfers outstanding per bank session."""

    record: Path
    cards: tuple[Address, ...] = ()
    transfers: tuple[Address, ...] = ()
    traffic: Traffic = "cards"
    rate: float = 100.0
    seconds: float = 10.0
    terminals: int = 100
    banks: int = 4
    pipeline: int = 1
    repeat_after_ms: float = 0.0  # see Habits
    reverse_after_ms: tuple[float, float] = (0.0, 0.0)  # see Habits
    advices: float = 0.0
    cancels: float = 0.0
    repeats: float = 0.0  # of all messages, answered or not
    drain_s: float = 10.0
    transfer_files: Path | None = None
    seed: int = 1
    dialect: str = "iso87-binary"
    card_framing: str = "2-byte-be"
    card_header: str = "tpdu"
    transfer_framing: str = "8-ascii"
    transfer_header: str = "none"


class Injector:
    """One run of traffic. `on_progress` is called every second."""

    def __init__(self, config: InjectorConfig, on_progress: Callable[[Progress], None] | None = None) -> None:
        """Raises ValueError for a configuration that cannot be run."""
        self._config = config
        self._on_progress = on_progress
        self._tally = Tally()
        self._recorder = Recorder(config.record)
        dice = random.Random(config.seed)
        self._terminals = self._make_terminals(dice) if config.traffic in ("cards", "mixed") else None
        self._banks = self._make_banks(dice) if config.traffic in ("transfers", "mixed") else None
        self._fleets = [fleet for fleet in (self._terminals, self._banks) if fleet]
        self._arrivals = 0
        self._begun = 0.0
        self._finished = asyncio.Event()
        self._stopped = False

    def _make_terminals(self, dice: random.Random) -> Terminals:
        config = self._config
        if not config.cards:
            raise ValueError("card traffic needs an address for terminals")
        dialect = load_dialect(config.dialect)
        framer = Framer.of(config.card_framing, config.card_header, MAXIMUM_BYTES)
        wiring = Wiring(framer, config.card_header, dialect.name, self._recorder)
        cards = issue_cards(CARDS, dice)
        low, high = config.reverse_after_ms
        habits = Habits(
            repeat_after_s=config.repeat_after_ms / 1000,
            reverse_after_s=(low / 1000, high / 1000),
            advices=config.advices,
            cancels=config.cancels,
            repeats=config.repeats,
        )
        return Terminals(list(config.cards), config.terminals, dialect, wiring, cards, self._tally, dice, habits)

    def _make_banks(self, dice: random.Random) -> Banks:
        config = self._config
        if not config.transfers:
            raise ValueError("transfer traffic needs an address for banks")
        templates = file_templates(config.transfer_files) if config.transfer_files else built_in_templates()
        framer = Framer.of(config.transfer_framing, config.transfer_header, MAXIMUM_BYTES)
        wiring = Wiring(framer, config.transfer_header, "", self._recorder)
        return Banks(
            list(config.transfers), config.banks, templates, wiring, self._tally, dice, config.pipeline, config.repeats
        )

    def stop(self) -> None:
        """Send no more; `run` goes on to its end."""
        self._stopped = True
        self._finished.set()

    async def run(self) -> Result:
        """Connect, send for the configured time, await what is outstanding, close. Raises OSError."""
        await asyncio.gather(*(fleet.connect() for fleet in self._fleets))
        self._begun = time.monotonic()
        self._tally.begin(self._begun)
        self._recorder.mark("begun", self._begun)
        self._tick()
        watch = asyncio.create_task(self._watch())
        await self._finished.wait()
        await self._drain()
        watch.cancel()
        for fleet in self._fleets:
            fleet.closing = True  # all of them now: what one repeats while another closes would not be awaited any more
        now = time.monotonic()
        self._recorder.mark("ended", now)
        for fleet in self._fleets:
            await fleet.close()
        result = self._tally.result(now)
        self._recorder.close()
        return result

    def _tick(self) -> None:
        """Send all that is due."""
        now = time.monotonic()
        due = int((now - self._begun) * self._config.rate)
        while self._arrivals < due and not self._stopped:
            self._arrivals += 1
            self._arrive(self._begun + self._arrivals / self._config.rate, time.monotonic())
        if self._stopped or now - self._begun >= self._config.seconds:
            self._finished.set()
            return
        ends = self._begun + self._config.seconds
        rate = self._config.rate
        next_due = min(self._begun + (self._arrivals + 1) / rate, ends) if rate else ends
        asyncio.get_running_loop().call_later(max(next_due - time.monotonic(), TICK_S), self._tick)

    def _arrive(self, intended: float, now: float) -> None:
        # A timer tick late is the injector's own grain and not the switch's; anything beyond it counts.
        since = now if now - intended <= 2 * TICK_S else intended
        fleet = self._fleets[self._arrivals % len(self._fleets)]
        if not fleet.send(since, now):
            self._tally.skipped += 1

    async def _watch(self) -> None:
        """Repeats, flushes and tells of progress in the background, the drain included."""
        shown = flushed = time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            if self._terminals:
                self._terminals.lose_patience(now)
            if now - flushed >= FLUSH_S:
                flushed = now
                self._recorder.flush()
            if now - shown >= 1.0:
                shown += 1.0
                if self._on_progress:
                    self._on_progress(self._tally.progress(now))

    async def _drain(self) -> None:
        settled = self._tally.settled
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                while not settled.is_set():  # once more: a repeat may be sent between its being set and our waking up
                    await settled.wait()


def show_progress(progress: Progress) -> None:
    """One line on stderr."""
    print(
        f"{progress.seconds:6.1f} s  sent {progress.sent}  answered {progress.answered}  approved {progress.approved}  "
        f"outstanding {progress.outstanding}  {progress.rate}/s  p50 {progress.p50:.2f} ms  p99 {progress.p99:.2f} ms",
        file=sys.stderr,
        flush=True,
    )


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Pairs of "HOST:PORT,HOST:PORT". Raises ValueError."""
    pairs = [address.rpartition(":") for address in text.split(",") if address]
    return tuple((host, int(port)) for host, _, port in pairs)


cli = typer.Typer(help=__doc__, add_completion=False)


@cli.command()
def inject(
    record: Annotated[Path, typer.Option(help="folder for the record")],
    cards: Annotated[str, typer.Option(help="HOST:PORT[,HOST:PORT] that terminals connect to")] = "",
    transfers: Annotated[str, typer.Option(help="HOST:PORT[,HOST:PORT] that banks connect to")] = "",
    traffic: Annotated[str, typer.Option(help="cards, transfers or mixed (one to one)")] = "cards",
    rate: Annotated[float, typer.Option(help="requests a second; 0: sessions only")] = 100.0,
    seconds: Annotated[float, typer.Option()] = 10.0,
    terminals: Annotated[int, typer.Option()] = 100,
    banks: Annotated[int, typer.Option()] = 4,
    pipeline: Annotated[int, typer.Option(help="transfers outstanding per bank session")] = 1,
    repeat_after_ms: Annotated[float, typer.Option(help="terminals repeat what is not answered; 0: never")] = 0.0,
    reverse_after_ms: Annotated[
        str,
        typer.Option(
            help="terminals give unanswered requests up after MIN..MAX ms, and reverse them; 0: never. "
            "With --repeat-after-ms, too, so long after one repeat"
        ),
    ] = "0",
    advices: Annotated[float, typer.Option(help="share of card sales that are done already: 0220")] = 0.0,
    cancels: Annotated[float, typer.Option(help="share of approvals that terminals reverse")] = 0.0,
    repeats: Annotated[
        float, typer.Option(help="share of all messages that are sent again within 50 ms, answered or not")
    ] = 0.0,
    drain: Annotated[float, typer.Option(help="seconds to wait for outstanding answers at the end")] = 10.0,
    transfer_files: Annotated[Path | None, typer.Option(help="real pacs.008.001.08 files as templates")] = None,
    seed: Annotated[int, typer.Option()] = 1,
    dialect: Annotated[str, typer.Option()] = "iso87-binary",
    framing: Annotated[str, typer.Option(help="of card sessions")] = "2-byte-be",
    header: Annotated[str, typer.Option(help="of card sessions: none, tpdu or fixed:N")] = "tpdu",
    json: Annotated[Path | None, typer.Option(help="writes the result here")] = None,
) -> None:
    """Run traffic against a switch and print the result; fails when anything was lost, unexpected or cut off."""
    config = InjectorConfig(
        record=record,
        cards=parse_addresses(cards),
        transfers=parse_addresses(transfers),
        traffic=msgspec.convert(traffic, Traffic),
        rate=rate,
        seconds=seconds,
        terminals=terminals,
        banks=banks,
        pipeline=pipeline,
        repeat_after_ms=repeat_after_ms,
        reverse_after_ms=parse_delay(reverse_after_ms),
        advices=advices,
        cancels=cancels,
        repeats=repeats,
        drain_s=drain,
        transfer_files=transfer_files,
        seed=seed,
        dialect=dialect,
        card_framing=framing,
        card_header=header,
    )
    result = uvloop.run(_run(config))
    document = msgspec.json.format(msgspec.json.encode(result))
    if json:
        json.write_bytes(document + b"\n")
    series = ("per_second", "answers")
    summary = {name: value for name, value in msgspec.to_builtins(result).items() if name not in series}
    print(msgspec.json.encode(summary).decode())
    if result.lost or result.repeats_lost or result.unexpected or result.closes or result.resets:
        raise typer.Exit(1)


async def _run(config: InjectorConfig) -> Result:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one descriptor a terminal
    gc.disable()  # its pauses would be taken for the switch's, and nothing here makes many cycles
    injector = Injector(config, show_progress)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, injector.stop)
    return await injector.run()


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
