"""Reads a scenario file: title, configuration and steps, checked before anything runs. Errors name the file and the step."""

import re
from pathlib import Path
from typing import Any

import msgspec

from tools.scenarios.configuration import BASES, configuration
from tools.scenarios.operator import COMMANDS

ACTIONS = (
    "connects", "closes", "half-closes", "resets",  # a terminal's or bank's connection
    "listens", "disconnects",  # a host
    "sends", "answers", "receives", "acknowledges", "is closed",
)  # fmt: skip
DIRECTIVES = ("pass_ms", "kill", "restart", "etcd", "database", "operator", "state", "noted", "totals", "journal")
_ACTOR = re.compile(r"([a-z][a-z0-9_-]*?)([0-9]*)")
_REFERENCE = re.compile(r"(?:not )?([a-z]\w*)\.\w+")


class ScriptError(Exception):
    """A scenario file that cannot be played."""


class Extract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """totals, journal: which rows; "" is any. Of the journal those where the link, or the date, is of either side."""

    link: str = ""
    date: str = ""  # business date, MMDD


RENAMED = {"with_": "with", "as_": "as"}  # Python's own words


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=RENAMED):
    """What a step may say beside its action. Keys of `with_` and `fields` are data elements or names in the XML."""

    as_: str = ""  # the name of what is sent or received, for later steps
    with_: dict[str, str] = {}  # sends, answers: these fields instead of the template's
    without: list[int] = []  # and without these
    mti: str = ""  # sends, answers: instead of the template's
    header: str = ""  # hex: of what is sent; what the header of what is received must be
    hex: str = ""  # sends bytes: these
    on: str = ""  # sends, answers: over the connection of this message, where not over the request's
    upto: int = 0  # sends: only so many bytes of the frame; "sends the rest" sends the others
    fields: dict[str, str] = {}  # receives: what these must be
    absent: list[int] = []  # receives: must not be there
    only: list[int] = []  # receives: exactly these are there
    wire: str = ""  # receives: the whole message as hex
    same_bytes: str = ""  # receives: the message equals this one byte for byte
    among: bool = False  # receives: whichever of the messages that came fits; else the next one
    at: str = ""  # connects: the node that is to own the session
    stays: str = ""  # kill: "down" until restarted
    refused: bool = False  # operator: the switch refuses it
    rows: list[dict[str, str | int]] = []  # totals, journal: for each row the columns that matter; there are no others
    count: int = 0  # noted: so often (0: at least once)
    note: str = ""  # for the reader, and the drawing


class Step(msgspec.Struct, frozen=True):
    """One actor does or expects one thing."""

    number: int
    actor: str  # "" for a directive
    action: str  # one of ACTIONS or DIRECTIVES
    what: Any  # the words after the action, or a directive's value
    options: Options

    def __str__(self) -> str:
        text = f"{self.actor} {self.action} {self.what}" if self.actor else f"{self.action} = {self.what}"
        return f"step {self.number}: {text.strip()}"


class Scenario(msgspec.Struct, frozen=True):
    """A file, ready to be played."""

    name: str
    title: str
    covers: list[str]
    table: dict[str, Any]  # links, routes, stand-in and limits; addresses are the player's
    by_hand: list[str]  # hosts whose network management, connecting included, stands in the steps
    varies: list[str]  # fields that the switch makes here, and so may differ between two runs
    real: str  # why it cannot be played on real processes, or ""
    steps: list[Step]

    @property
    def hosts(self) -> list[str]:
        return [link["name"] for link in self.table["link"] if "connect" in link]

    def link_of(self, actor: str) -> dict[str, Any]:
        """The link at which an actor is: a host has its name, of terminals and banks the number is left out."""
        names: dict[str, dict[str, Any]] = {link["name"]: link for link in self.table["link"]}
        match = _ACTOR.fullmatch(actor)
        found = names.get(actor) or (names.get(match[1]) if match else None)
        if found is None or ("connect" in found) != (actor == found["name"]):
            hosts = ", ".join(self.hosts)
            raise ScriptError(f"{actor!r} is neither a host ({hosts}) nor a listening link and a number")
        return found


def load(path: Path) -> Scenario:
    """Read and check a file. Raises ScriptError."""
    try:
        given = msgspec.toml.decode(path.read_bytes())
        return _scenario(path.stem, given)
    except (OSError, msgspec.MsgspecError, ScriptError, ValueError) as error:
        raise ScriptError(f"{path.name}: {error}") from None


def _scenario(name: str, given: dict[str, Any]) -> Scenario:
    known = ("title", "covers", "base", "by_hand", "varies", "real", "link", "route", "stand_in", "limits", "step")
    if unknown := set(given) - set(known):
        raise ScriptError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    if not given.get("title") or not given.get("covers") or not given.get("step"):
        raise ScriptError("give a title, covers and steps")
    base = given.get("base", "cards")
    if base not in BASES:
        raise ScriptError(f"base {base!r} is not one of {', '.join(BASES)}")
    table = configuration(base, given)
    steps = [_step(number, step) for number, step in enumerate(given["step"], 1)]
    scenario = Scenario(
        name, given["title"], given["covers"], table, given.get("by_hand", []), given.get("varies", []),
        given.get("real", ""), steps,
    )  # fmt: skip
    _check(scenario)
    return scenario


def _step(number: int, given: dict[str, Any]) -> Step:
    where = f"step {number}"
    acts = [key for key in given if key not in Options.__struct_encode_fields__]
    if len(acts) != 1:
        raise ScriptError(f"{where}: one actor or directive, not {', '.join(acts) or 'none'}")
    (key,) = acts
    try:
        options = msgspec.convert({name: value for name, value in given.items() if name != key}, Options)
    except msgspec.ValidationError as error:
        raise ScriptError(f"{where}: {error}") from None
    if key in DIRECTIVES:
        return Step(number, "", key, _value(where, key, given[key]), options)
    action = next((each for each in ACTIONS if f"{given[key]} ".startswith(f"{each} ")), None)
    if action is None:
        raise ScriptError(f"{where}: {given[key]!r} does not begin with one of {', '.join(ACTIONS)}")
    return Step(number, key, action, given[key][len(action) :].strip(), options)


def _value(where: str, directive: str, given: Any) -> Any:
    if directive not in ("totals", "journal"):
        return given
    try:
        return msgspec.convert(given, Extract)
    except msgspec.ValidationError as error:
        raise ScriptError(f"{where}: {directive}: {error}") from None


def _check(scenario: Scenario) -> None:
    """Actors exist, hosts do what hosts do, and what is referred to has been named before."""
    named: set[str] = set()
    for step in scenario.steps:
        try:
            if step.actor:
                host = "connect" in scenario.link_of(step.actor)
                if step.action in ("listens", "disconnects") and not host:
                    raise ScriptError("only hosts listen and disconnect")
                if step.action in ("connects", "closes", "half-closes", "resets") and host:
                    raise ScriptError("hosts listen and disconnect")
            for command in step.what if step.action == "operator" else ():
                if command not in COMMANDS:
                    raise ScriptError(f"operator: {command!r} is not one of {', '.join(COMMANDS)}")
            for name in _references(step):
                if name not in named:
                    raise ScriptError(f"no step before it has named anything {name!r}")
        except ScriptError as error:
            raise ScriptError(f"{step}: {error}") from None
        if step.options.as_:
            named.add(step.options.as_)


def _references(step: Step) -> list[str]:
    found = [name for name in (step.options.same_bytes, step.options.on) if name]
    of_rows = (value for row in step.options.rows for value in row.values())
    for value in (*step.options.fields.values(), *step.options.with_.values(), *of_rows):
        if match := _REFERENCE.fullmatch(str(value)):
            found.append(match[1])
    words = str(step.what).split()
    if step.action == "answers":
        found += words[:1]
    elif step.action == "sends" and len(words) > 1 and (words[-1] == "again" or words[-2] == "of"):
        found.append(words[0] if words[-1] == "again" else words[-1])
    return found
