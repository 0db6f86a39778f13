"""Where a node's time goes under load: py-spy looks at node a, and each sample goes to the group of its innermost frame.

A frame belongs to a group by its file and function; a frame of no group (a library, a helper) belongs to its caller's.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from tools.demo import inject
from tools.pair import Switch
from tools.throughput import cpu_s

SAMPLES_PER_S = 100
RAMP_S = 2.0
TOP = 20
MAIN_THREAD = re.compile(r"thread \([^)]*\): MainThread;")
FRAME = re.compile(r"(?:.*\.)?([^. ]+) \((.+?)(?::\d+)?\)")  # "Class.function (path:line)"
CODEC_ENCODES = ("forward", "answer", "original", "refuse", "network_answer", "reversal", "network_request")
# file (or the beginning of its path), functions (none: all), group; the first row that matches counts
GROUPS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("messages/iso8583/codec.py", ("decode",), "offer: decode cards"),
    ("messages/iso8583/codec.py", CODEC_ENCODES, "offer: encode cards"),
    ("messages/iso20022/codec.py", ("decode",), "offer: decode transfers"),
    ("messages/iso20022/codec.py", CODEC_ENCODES, "offer: encode transfers"),
    ("switch/core/offer.py", (), "offer"),
    ("switch/core/engine.py", ("offer",), "offer"),
    ("switch/core/engine.py", ("_compare",), "hash"),
    ("switch/core/state.py", ("hash", "_digest"), "hash"),
    ("switch/core/proposals.py", ("decode_entry",), "apply: decode the entry"),
    ("switch/core/fold.py", (), "apply"),
    ("switch/core/engine.py", ("apply",), "apply"),
    ("switch/core/tend.py", (), "timers"),
    ("switch/core/proposals.py", ("encode", "encode_entry"), "mirror: encode proposals"),
    ("switch/mirror/sealing.py", (), "mirror: seal and open"),
    ("switch/mirror/append.py", (), "mirror: append"),
    ("switch/mirror/watch.py", (), "mirror: watch"),
    ("switch/mirror/", (), "mirror"),
    ("switch/sessions/reading.py", (), "sockets: read"),
    ("switch/sessions/handover.py", (), "sockets: hand over"),
    ("switch/sessions/", (), "sockets: write and keep"),
    ("switch/succession.py", (), "pair"),
    ("switch/ops/", (), "metrics and logs"),
    ("switch/node.py", ("apply", "load", "_poll", "_tend", "submit", "_resolved", "_say"), "node"),
)
OTHER = "event loop and other"


class Group(msgspec.Struct, frozen=True):
    """Parts of all samples. own: innermost. inclusive: anywhere on the stack."""

    name: str
    own: float
    inclusive: float


class Hotspots(msgspec.Struct, frozen=True):
    """Of the main thread. cores: CPU time of the whole process per time. functions: (own part, function)."""

    samples: int = 0
    cores: float = 0.0
    groups: list[Group] = []
    functions: list[tuple[float, str]] = []
    skipped: str = ""  # why


def measure(seconds: float, rate: float, terminals: int) -> Hotspots:
    """Mixed traffic of `rate` on a pair, and py-spy on node a for `seconds`."""
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        return Hotspots(skipped="there is no py-spy")
    directory = Path(tempfile.mkdtemp(prefix="switch-bench-"))
    try:
        with Switch(directory) as switch:
            options: dict[str, Any] = {"seconds": seconds + 3 * RAMP_S, "rate": rate, "terminals": terminals}
            options |= {"traffic": "mixed", "banks": 8, "pipeline": 32}
            load = inject(switch, directory / "load", options, subprocess.DEVNULL)
            try:
                switch.wait_for(lambda: switch.ask("a")["transactions"], "traffic")
                return _spy(spy, switch.nodes["a"].pid, seconds, directory / "stacks")
            finally:
                load.kill()
                load.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _spy(spy: str, pid: int, seconds: float, file: Path) -> Hotspots:
    command = [spy, "record", "--format", "raw", "--output", str(file), "--duration", str(max(round(seconds), 1)),
               "--rate", str(SAMPLES_PER_S), "--threads", "--pid", str(pid)]  # fmt: skip
    began, used = time.monotonic(), cpu_s(pid)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode or not file.exists():
        said = (done.stderr.strip() or "nothing").splitlines()
        return Hotspots(skipped=f"py-spy cannot look at the node: {said[0]}")
    cores = (cpu_s(pid) - used) / (time.monotonic() - began)
    lines = [line for line in file.read_text().splitlines() if MAIN_THREAD.match(line)]
    return summarize(lines, round(cores, 2))


def summarize(lines: list[str], cores: float) -> Hotspots:
    """Groups and functions of collapsed stacks ("outermost;...;innermost COUNT")."""
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        found = [group for group in map(_group, reversed(frames)) if group]
        own[found[0] if found else OTHER] += int(count)
        for group in set(found or [OTHER]):
            inclusive[group] += int(count)
        functions[re.sub(r":\d+\)$", ")", frames[-1])] += int(count)
    total = max(own.total(), 1)
    return Hotspots(
        own.total(),
        cores,
        [Group(name, round(own[name] / total, 4), round(part / total, 4)) for name, part in inclusive.most_common()],
        [(round(part / total, 4), name) for name, part in functions.most_common(TOP)],
    )


def _group(frame: str) -> str | None:
    match = FRAME.fullmatch(frame)
    if match is None:
        return None
    function, path = match.groups()
    for place, names, group in GROUPS:
        if f"/{place}" in f"/{path}" and (not names or function in names):
            return group
    return None
