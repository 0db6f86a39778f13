"""switch-sim: a simulated card issuer or creditor bank for the switch to connect to.

Prints one line of JSON with its address when it listens; ends on SIGTERM or SIGINT with its record complete.
"""

import asyncio
import gc
import resource
import signal
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from tools.bank import Bank
from tools.decisions import DeclineRules, parse_endings
from tools.faults import FaultPlan, Faults, parse_delay
from tools.host import Application, Host
from tools.issuer import Issuer
from tools.ledger import Ledger
from tools.record import Recorder

main = typer.Typer(help=__doc__, add_completion=False, no_args_is_help=True)

Listen = Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one")]
Folder = Annotated[Path, typer.Option("--dir", help="record and ledger; goes on with those of an earlier life")]
Framing = Annotated[str, typer.Option()]
Header = Annotated[str, typer.Option(help="none, tpdu or fixed:N")]
Decline = Annotated[list[str], typer.Option(help="ENDING=CODE: declines PANs or accounts with these last digits")]
Above = Annotated[int | None, typer.Option(help="declines amounts above this many minor units")]
Delay = Annotated[str, typer.Option(help="every answer waits MIN..MAX ms")]
Frequency = Annotated[str, typer.Option(help='probability ("0.01") or every Nth ("1/100")')]
LateMs = Annotated[float, typer.Option()]
Seed = Annotated[int, typer.Option()]


@main.command()
def issuer(
    listen: Listen,
    folder: Folder,
    dialect: Annotated[str, typer.Option()] = "iso87-ascii",
    framing: Framing = "2-byte-be",
    header: Header = "none",
    decline: Decline = ["0=51"],  # noqa: B006 typer copies it
    decline_above: Above = None,
    delay_ms: Delay = "0",
    lose: Frequency = "0",
    late: Frequency = "0",
    late_ms: LateMs = 5000.0,
    duplicate: Frequency = "0",
    wrong: Frequency = "0",
    drop: Frequency = "0",
    busy: Frequency = "0",
    seed: Seed = 1,
) -> None:
    """A card issuer: ISO 8583:1987."""
    ledger = Ledger(folder)
    faults = Faults(_plan(delay_ms, lose, late, late_ms, duplicate, wrong, seed, drop, busy))
    application = Issuer(dialect, ledger, DeclineRules(parse_endings(decline), decline_above, "61"), seed, faults)
    uvloop.run(_serve("issuer", listen, folder, application, ledger, faults, framing, header, dialect))


@main.command()
def bank(
    listen: Listen,
    folder: Folder,
    framing: Framing = "8-ascii",
    header: Header = "none",
    decline: Decline = ["0=AC04"],  # noqa: B006 typer copies it
    decline_above: Above = None,
    delay_ms: Delay = "0",
    lose: Frequency = "0",
    late: Frequency = "0",
    late_ms: LateMs = 5000.0,
    duplicate: Frequency = "0",
    wrong: Frequency = "0",
    seed: Seed = 1,
) -> None:
    """A creditor bank: ISO 20022 pacs.008 and pacs.002."""
    ledger = Ledger(folder)
    application = Bank(ledger, DeclineRules(parse_endings(decline), decline_above, "AM02"), seed)
    faults = Faults(_plan(delay_ms, lose, late, late_ms, duplicate, wrong, seed))
    uvloop.run(_serve("bank", listen, folder, application, ledger, faults, framing, header, ""))


def _plan(
    delay_ms: str,
    lose: str,
    late: str,
    late_ms: float,
    duplicate: str,
    wrong: str,
    seed: int,
    drop: str = "0",
    busy: str = "0",
) -> FaultPlan:
    return FaultPlan(
        delay_ms=parse_delay(delay_ms),
        lose=lose,
        late=late,
        late_ms=late_ms,
        duplicate=duplicate,
        wrong=wrong,
        drop=drop,
        busy=busy,
        seed=seed,
    )


async def _serve(
    role: str,
    listen: str,
    folder: Path,
    application: Application,
    ledger: Ledger,
    faults: Faults,
    framing: str,
    header: str,
    dialect: str,
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one descriptor a session
    gc.disable()  # walking ever larger books would stall answers, and nothing here makes many cycles
    host = Host(application, ledger, Recorder(folder), faults, framing, header, dialect)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address, _, port = listen.rpartition(":")
    bound = await host.listen(address, int(port))
    print(msgspec.json.encode({"listening": role, "host": address, "port": bound}).decode(), flush=True)
    await stop.wait()
    await host.close()


if __name__ == "__main__":
    main()
