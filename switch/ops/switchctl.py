"""switchctl: asks a node about itself, or tells it to reload. `--json` for programs."""

import json
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from switch.config import ConfigError, load
from switch.mirror.sealing import create_key_file
from switch.ops.books import (
    SHOWN,
    CsvOption,
    DateOption,
    LastOption,
    LinkOption,
    chosen,
    columns,
    journal_rows,
    newest,
    shown,
    stores,
    write_csv,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 160)
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The pair's configuration file.")]
NodeOption = Annotated[str, typer.Option("--node", "-n", help="a or b.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
CONFIG = Path("/etc/switch/switch.toml")


def ask(config: Path, node: str, command: str, **arguments: Any) -> dict[str, Any]:
    """One command to one node. Exits with 1 and says what to do where it does not answer."""
    try:
        pair = load(config).pair
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    path = Path(pair.run_directory) / f"{pair.name}-{node}.sock"
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(sock.makefile().readline())
    except (OSError, ValueError) as error:  # ValueError: it ended in the midst of its answer
        raise SystemExit(f"node {node} does not answer at {path} ({error}): does it run?") from None
    if not answer.pop("ok"):
        raise SystemExit(answer["error"])
    return answer


def show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer))
        return
    for name, value in answer.items():
        if isinstance(value, list) and value:
            table = Table(title=name)
            for place, column in enumerate(value[0]):
                table.add_column(column, no_wrap=not place)  # what a row is about stays whole on a narrow screen
            for row in value:
                table.add_row(*(str(cell) for cell in row.values()))
            console.print(table)
        elif isinstance(value, dict):
            table = Table("", "", title=name, show_header=False)
            for key, cell in value.items():
                table.add_row(key, str(cell))
            console.print(table)
        else:
            console.print(f"{name}: {value}", highlight=False)


def _command(name: str, text: str) -> None:
    def run(config: ConfigOption = CONFIG, node: NodeOption = "a", as_json: JsonOption = False) -> None:
        show(ask(config, node, name), as_json)

    app.command(name, help=text)(run)


_command("status", "What the node is doing, and its log.")
_command("sessions", "The open sessions of the pair.")
_command("links", "The links and their lanes.")
_command("rotate-key", "Seal with a new data key; the present one is destroyed when nothing needs it.")
_command("reload", "Read the configuration file again and make its rules active on both nodes.")


@app.command(help="What waits in the store-and-forward lanes.")
def advices(
    parked: Annotated[bool, typer.Option("--parked", help="Only what waits for an operator.")] = False,
    config: ConfigOption = CONFIG,
    node: NodeOption = "a",
    as_json: JsonOption = False,
) -> None:
    show(ask(config, node, "advices", parked=parked), as_json)


@app.command(help="Try a parked advice again.")
def retry(number: int, config: ConfigOption = CONFIG, node: NodeOption = "a") -> None:
    ask(config, node, "settle", id=number, retry=True)


@app.command(help="Let a parked advice go: it was settled by other means.")
def settle(number: int, config: ConfigOption = CONFIG, node: NodeOption = "a") -> None:
    ask(config, node, "settle", id=number, retry=False)


@app.command(help="The metrics, in Prometheus' text format.")
def metrics(config: ConfigOption = CONFIG, node: NodeOption = "a") -> None:
    print(ask(config, node, "metrics")["metrics"], end="")


@app.command(help="Counts and amounts by link and business date: the settlement extract.")
def totals(
    config: ConfigOption = CONFIG, node: NodeOption = "a", link: LinkOption = "", date: DateOption = "",
    csv: CsvOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    rows = chosen(ask(config, node, "totals")["totals"], link, date)
    if csv is None:
        show({"totals": rows}, as_json)
    else:
        write_csv(csv, ["link", "date", "profile", "currency", "counted", "count", "amount"], rows)


@app.command(help="Finished transactions, from the journal's databases; works without the nodes.")
def journal(
    config: ConfigOption = CONFIG, link: LinkOption = "", date: DateOption = "", last: LastOption = 50,
    csv: CsvOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    names = columns() if csv is not None or as_json else SHOWN
    rows = shown(newest(journal_rows(config, link, date, last), last), names)
    if csv is None:
        show({"journal": rows}, as_json)
    else:
        write_csv(csv, list(names), rows)


@app.command(help="Check a configuration file.")
def check(config: ConfigOption = CONFIG) -> None:
    try:
        loaded = load(config)
        stores(loaded)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    except OSError as error:  # a StoreError: a node serves, and tells of its journal only once it has rows
        raise SystemExit(f"{config}: [journal] url: {error}") from None
    print(f"{config}: {len(loaded.link)} links, {len(loaded.route)} routes")


@app.command(help="Write a new key file for sealing.")
def keygen(path: Path) -> None:
    create_key_file(path)


def main() -> None:
    app()
