"""Coverage-guided fuzzing of what parses bytes from outside: `tools/fuzz TARGET`; `--input FILE` replays one input.

The targets stand in tests/fuzz/targets.py, their seeds in tests/fuzz/corpus. Atheris (libFuzzer) mutates the seeds, watches
which lines of messages/ and switch/ they reach, and stops at the first defect: an exception that a target does not allow,
a promise that does not hold, more time or memory than the bounds here. The input is kept, and the seed is printed.
"""

import importlib
import os
import random
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

ROOT = Path(__file__).parents[1]
FUZZ = ROOT / "tests" / "fuzz"
CORPUS = FUZZ / "corpus"
KEPT = ROOT / "out" / "fuzz"  # inputs that broke a promise
LENGTH_MAX = 8192  # the largest seeds are snapshots
TIMEOUT_S = 10  # of one input
MEMORY_MB = 1024  # of the process; python and the schemas take some 200
PACKAGES = ["messages", "switch", "iso8583"]


def targets() -> dict[str, Any]:
    """The table of targets. They and their oracles live with the tests, which are no package."""
    sys.path[:0] = [str(FUZZ), str(ROOT / "tests" / "unit")]
    table: dict[str, Any] = importlib.import_module("targets").TARGETS
    return table


def known() -> list[str]:
    """The names of the targets: each has its seeds."""
    return sorted(path.name for path in CORPUS.iterdir())


def seeds(name: str) -> list[Path]:
    return sorted((CORPUS / name).iterdir())


def replay(name: str, file: Path) -> None:
    """Run the target once over a file, without instrumentation: a defect shows as its traceback."""
    accepted = targets()[name].run(file.read_bytes())
    print(f"{name}: {file} was {'accepted' if accepted else 'refused'}")


def fuzz(names: list[str], seconds: int, seed: int) -> list[str]:
    """Fuzz one target after the other, each in a child that is forked when all is loaded; the names of those that broke."""
    try:
        import atheris
    except ImportError as error:
        raise SystemExit(f"atheris is not to be had here: {error}") from None
    with atheris.instrument_imports(include=PACKAGES):
        table = targets()
    KEPT.mkdir(parents=True, exist_ok=True)
    broken = []
    for name in names:
        print(f"{name}: seed {seed}, {seconds} s", flush=True)
        before = set(KEPT.glob(f"{name}-*"))
        child = os.fork()
        if not child:
            _run(atheris, name, table[name], seconds, seed)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            broken.append(name)
            kept = sorted(set(KEPT.glob(f"{name}-*")) - before)
            replays = "".join(f"\n  replay: tools/fuzz {name} --input {path}" for path in kept)
            print(f"{name}: broke a promise, status {status}{replays or ', nothing new was kept'}", flush=True)
    return broken


def _run(atheris: Any, name: str, target: Any, seconds: int, seed: int) -> NoReturn:
    """libFuzzer ends the process, with a status that is not 0 for a defect."""

    def one(data: bytes) -> None:
        target.run(data)

    one(b"")  # what a target loads at its first call does not count against the clock
    options = [
        f"-max_total_time={seconds}", f"-seed={seed}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={LENGTH_MAX}", f"-artifact_prefix={KEPT}/{name}-", "-print_final_stats=1",
        "-seed_inputs=" + ",".join(map(str, seeds(name))),
    ]  # fmt: skip
    if target.dictionary:
        options.append(f"-dict={FUZZ / target.dictionary}")
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()
    raise AssertionError("libFuzzer came back")


def command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET]...", help=f"all, or some of: {', '.join(known())}")
    ] = None,
    seconds: Annotated[int, typer.Option(help="for each target")] = 60,
    seed: Annotated[int, typer.Option(help="of the mutations; 0 draws one")] = 0,
    input: Annotated[Path | None, typer.Option(help="replay this input with one target instead")] = None,
) -> None:
    """Feed parsers of outside bytes with mutations of their seeds. Inputs that break a promise are kept in out/fuzz."""
    chosen = names or known()
    for name in chosen:
        if name not in known():
            raise typer.BadParameter(f"no target {name!r}")
    if input is None:
        raise typer.Exit(bool(fuzz(chosen, seconds, seed or random.SystemRandom().randrange(1, 1 << 31))))
    if len(chosen) != 1:
        raise typer.BadParameter("--input is of one target")
    replay(chosen[0], input)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    app()
