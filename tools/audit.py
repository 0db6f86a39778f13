"""The auditor's command: `python -m tools.audit --inject DIR --issuer DIR --bank DIR --json FILE`.

Ends with status 1 when the verdict is not clean.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from tools.judge import Auditor, Verdict


def audit(inject: list[Path], issuer: Path | None = None, bank: Path | None = None) -> Verdict:
    """Judge the runs recorded in `inject` against the books of the hosts, which must have seen no other runs."""
    auditor = Auditor()
    for folder in inject:
        auditor.hear_injector(folder)
    rails: dict[Literal["card", "transfer"], Path | None] = {"card": issuer, "transfer": bank}
    return auditor.judge({rail: auditor.hear_host(folder, rail) for rail, folder in rails.items() if folder})


def command(
    inject: Annotated[list[Path], typer.Option(help="record of the injector; may be given more than once")],
    issuer: Annotated[Path | None, typer.Option(help="record of the issuer")] = None,
    bank: Annotated[Path | None, typer.Option(help="record of the bank")] = None,
    json: Annotated[Path | None, typer.Option(help="writes the verdict here")] = None,
) -> None:
    """Judge a run by the records of injector, issuer and bank."""
    verdict = audit(inject, issuer, bank)
    document = msgspec.json.format(msgspec.json.encode(verdict)).decode()
    if json:
        json.write_text(document + "\n")
    print(document)
    if not verdict.clean:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(command)
