"""Each parser of outside bytes holds its promises over its seeds, over mutations of them, and over what atheris finds.

SWITCH_FUZZ_S is how many seconds atheris has for each target. What breaks a promise is kept in out/fuzz; the failure says how
to replay it. Without atheris (it has wheels for few machines) only the mutations that hypothesis thinks of are tried.
"""

import importlib.util
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS

from tools.fuzz import CORPUS, ROOT, TIMEOUT_S

SECONDS = int(os.environ.get("SWITCH_FUZZ_S", "1"))
SEED = int(os.environ.get("SWITCH_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
INPUTS = [(name, path) for name in TARGETS for path in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}/{path.name}" for name, path in INPUTS])
def test_a_target_holds_over_its_corpus(name: str, path: Path) -> None:
    TARGETS[name].run(path.read_bytes())


def test_the_corpus_is_what_the_samples_make_and_has_what_each_target_accepts_and_refuses() -> None:
    made = seeds.corpus()
    assert made.keys() == TARGETS.keys() == {path.name for path in CORPUS.iterdir()}
    for name, target in TARGETS.items():
        for seed, data in made[name].items():
            assert (CORPUS / name / seed).read_bytes() == data, "run tests/fuzz/seeds.py"
        assert any(target.run(data) for data in made[name].values()), f"{name}: no seed gets through"
        assert not target.run(b"\xff"), f"{name}: nothing is refused"


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, bytes]:
    """A seed cut, doubled, with bits turned and bytes put in, or with the end of another one."""
    name, path = draw(st.sampled_from(INPUTS))
    data = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "turn", "insert", "remove", "double", "cross"])):
            case "cut":
                del data[at:]
            case "turn" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del data[at : at + draw(st.integers(1, 16))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "cross":
                other = draw(st.sampled_from(sorted((CORPUS / name).iterdir()))).read_bytes()
                data[at:] = other[at:]
    return name, bytes(data)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutations())
def test_mutations_of_the_corpus_break_no_promise(case: tuple[str, bytes]) -> None:
    name, data = case
    TARGETS[name].run(data)


@pytest.mark.timeout(len(TARGETS) * (SECONDS + TIMEOUT_S) + 60)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_atheris_finds_no_input_that_breaks_a_promise() -> None:
    command = [sys.executable, "-m", "tools.fuzz", *TARGETS, "--seconds", str(SECONDS), "--seed", str(SEED)]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    told = done.stdout
    print(told)  # each target with the seed; those that broke with what replays them
    if done.returncode:
        pytest.fail(f"{told}\n{done.stderr[-4000:]}", pytrace=False)
    runs = dict(zip(TARGETS, re.findall(r"stat::number_of_executed_units: (\d+)", done.stderr), strict=True))
    print(f"runs: {runs}")
    short = [name for name, number in runs.items() if int(number) <= len(list((CORPUS / name).iterdir()))]
    assert not short, f"no input but the seeds was tried on {short}"
