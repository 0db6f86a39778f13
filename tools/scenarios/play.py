"""Plays a scenario in a world: does what its steps do, and holds what comes against what they expect."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from messages.message import MessageError
from tools.scenarios.drawing import Drawing
from tools.scenarios.expect import SECRET, differences, masked, resolved, rows_differ
from tools.scenarios.operator import figure
from tools.scenarios.script import Scenario, Step
from tools.scenarios.speech import Speech, SpeechError, Told, Wanted, speech
from tools.scenarios.world import Arrived, World

KEEPALIVE = "keepalive"
# what the switch makes itself, and so may differ between two runs; a scenario may name more
ITS_OWN = {"7", "11", "12", "90", "90.stan", "90.transmission", "56", "56.stan", "56.local_time", "MsgId"}


class StepFailed(Exception):
    """A step that did not go as it says. Its text is complete: step, expectation, what came, and all that went before."""


class Exchanged(msgspec.Struct, frozen=True):
    """A message as it was seen by an actor, without what the switch makes anew in each run."""

    actor: str
    direction: str  # "sent" or "received"
    mti: str
    fields: dict[str, str]

    def __repr__(self) -> str:
        return f"{self.direction} {self.told()}"

    def told(self) -> dict[str, str]:
        """What may be shown of it."""
        shown = {name: masked(name, value) for name, value in self.fields.items()}
        return {"actor": self.actor, "direction": self.direction, "mti": self.mti, **shown}


class Player:
    """One run of one scenario. `before`: called before each step with it, to let a node die there."""

    def __init__(self, scenario: Scenario, world: World, before: Callable[[Step], None] = lambda step: None) -> None:
        self.scenario = scenario
        self.drawing = Drawing(scenario.hosts)
        self.exchanged: list[Exchanged] = []
        self.done = 0  # steps
        self._world = world
        self._before = before
        self._named: dict[str, Told] = {}
        self._inbox: dict[str, deque[Told]] = {}
        self._speeches: dict[str, Speech] = {}
        self._rest: dict[str, tuple[str, bytes]] = {}  # actor: of what it has sent a part of
        self._number = 0

    def play(self) -> None:
        """All steps, and nothing may come beside what they expect. Raises StepFailed."""
        for step in self.scenario.steps:
            self._before(step)
            try:
                if step.options.note:
                    self.drawing.remark(step.options.note)
                self._step(step)
            except (MessageError, SpeechError, ValueError, KeyError) as error:
                raise self._failed(step, f"{type(error).__name__}: {error}") from error
            self.done += 1
        self._world.quiet()
        self._collect()
        for actor, inbox in self._inbox.items():
            if inbox:
                came = ", ".join(told.mti for told in inbox)
                raise self._failed(None, f"{actor}: no step expects what came: {came}")

    @property
    def conversations(self) -> dict[str, list[Exchanged]]:
        """What each actor said and heard, in its order: the same in every run of the scenario."""
        actors = sorted({each.actor for each in self.exchanged})
        return {actor: [each for each in self.exchanged if each.actor == actor] for actor in actors}

    def _failed(self, step: Step | None, text: str) -> StepFailed:
        self._collect()
        where = str(step) if step else "after the last step"
        waiting = [f"  {actor}: {', '.join(t.mti for t in inbox)}" for actor, inbox in self._inbox.items() if inbox]
        unread = "\nnot read yet:\n" + "\n".join(waiting) if waiting else ""
        return StepFailed(f"{self.scenario.name}: {where}\n{text}{unread}\n\n{self.drawing.text()}")

    def _step(self, step: Step) -> None:
        name = step.action.replace("-", "_").replace(" ", "_")
        getattr(self, f"_{name}")(step)

    # --- connections

    def _connects(self, step: Step) -> None:
        self._world.connect(step.actor, step.options.at)
        self.drawing.event(step.actor, f"connects{step.options.at and f' at {step.options.at}'}")

    def _closes(self, step: Step) -> None:
        self._world.leave(step.actor, step.action)  # type: ignore[arg-type]
        self.drawing.event(step.actor, step.action)

    _half_closes = _resets = _closes

    def _listens(self, step: Step) -> None:
        self._world.listen(step.actor)
        self.drawing.event(step.actor, "listens")

    def _disconnects(self, step: Step) -> None:
        self._world.disconnect(step.actor)
        self.drawing.event(step.actor, "disconnects")

    def _is_closed(self, step: Step) -> None:
        if not self._world.wait(lambda: not self._world.connected(step.actor)):
            raise self._failed(step, "the switch has not closed its connection")
        self.drawing.event(step.actor, "is closed by the switch")

    def _acknowledges(self, step: Step) -> None:
        """nothing, everything, or so many bytes more."""
        words = {"everything": None, "nothing": 0}
        extent = words[step.what] if step.what in words else int(step.what.split()[0])
        self._world.take(step.actor, extent)
        self.drawing.event(step.actor, f"acknowledges {step.what}")

    # --- messages

    def _speech(self, actor: str) -> Speech:
        link = self.scenario.link_of(actor)
        return self._speeches.setdefault(link["name"], speech(link))

    def _wanted(self, step: Step) -> Wanted:
        self._number += 1
        digits = "".join(filter(str.isdecimal, step.actor))
        fields = {name: resolved(value, self._named) for name, value in step.options.with_.items()}
        return Wanted(self._number, int(digits or 1), fields, step.options.without, step.options.mti)

    def _sends(self, step: Step) -> None:
        actor, what = step.actor, str(step.what)
        if actor not in self.scenario.hosts and not self._world.connected(actor) and actor not in self._inbox:
            self._world.connect(actor, "")
        self._inbox.setdefault(actor, deque())
        spoken = self._speech(actor)
        if what == "the rest":
            stream, data = self._rest.pop(actor)
            self._world.write(actor, stream, data)
            self.drawing.event(actor, f"sends the other {len(data)} bytes")
            return
        if what == "bytes":
            data = bytes.fromhex(step.options.hex)
            self._world.write(actor, "", data)
            self.drawing.event(actor, f"sends {len(data)} bytes")
            return
        if what == KEEPALIVE:
            self._world.write(actor, "", spoken.framer.keepalive)
            self.drawing.message(actor, True, Told(KEEPALIVE, {}, b""), "")
            return
        self._say(step, self._payload(step, spoken, what), spoken)

    def _payload(self, step: Step, spoken: Speech, what: str) -> bytes:
        if what.endswith(" again"):
            return self._named[what.removesuffix(" again")].payload
        template, _, reference = what.partition(" of ")
        if template == "repeat":
            return spoken.repeat(self._named[reference])
        return spoken.build(template, self._named.get(reference), self._wanted(step))

    def _answers(self, step: Step) -> None:
        request = self._named[str(step.what)]
        self._say(step, self._speech(step.actor).answer(request, self._wanted(step)), self._speech(step.actor), request)

    def _say(self, step: Step, payload: bytes, spoken: Speech, request: Told | None = None) -> None:
        told = spoken.read(payload)
        header = bytes.fromhex(step.options.header)
        if request is not None and not header:
            header = spoken.framer.answer_header(request.header)
        data, carrier = spoken.framer.frame(payload, header), self._named.get(step.options.on, request)
        stream = carrier.stream if carrier is not None else ""
        upto = step.options.upto or len(data)
        if upto < len(data):
            self._rest[step.actor] = stream, data[upto:]
        self._world.write(step.actor, stream, data[:upto])
        told = msgspec.structs.replace(told, header=header, stream=stream)
        self._note(step, told, sent=True)
        if upto < len(data):
            self.drawing.event(step.actor, f"has sent {upto} bytes of it")

    def _note(self, step: Step, told: Told, *, sent: bool) -> None:
        if step.options.as_:
            self._named[step.options.as_] = told
        self.drawing.message(step.actor, sent, told, step.options.as_)
        made = ITS_OWN.union(self.scenario.varies)
        fields = {name: value for name, value in told.fields.items() if name not in made}
        self.exchanged.append(Exchanged(step.actor, "sent" if sent else "received", told.mti, fields))

    def _receives(self, step: Step) -> None:
        if step.what == "nothing":
            self._world.quiet()
            self._collect()
            if self._inbox.get(step.actor):
                raise self._failed(step, f"nothing was to come, but a {self._inbox[step.actor][0].mti} did")
            self.drawing.event(step.actor, "receives nothing")
            return
        told = self._next(step)
        self._note(step, told, sent=False)

    def _next(self, step: Step) -> Told:
        """The next message of the actor, or with `among` the first that fits; taken out of its inbox."""
        found: list[Told] = []
        inbox = self._inbox.setdefault(step.actor, deque())

        def fits(told: Told) -> bool:
            return not differences(told, str(step.what), step.options, self._named)

        def there() -> bool:
            self._collect()
            found[:] = [told for told in inbox if fits(told)] if step.options.among else list(inbox)
            return bool(found)

        if not self._world.wait(there):
            closed = "" if self._world.connected(step.actor) else ", and its connection is closed"
            raise self._failed(step, f"expected a {step.what}; nothing {'that fits ' if inbox else ''}came{closed}")
        told = found[0]
        inbox.remove(told)
        if not step.options.among and (wrong := differences(told, str(step.what), step.options, self._named)):
            self.drawing.message(step.actor, False, told, "?")
            raise self._failed(step, "\n".join(wrong))
        return told

    def _collect(self) -> None:
        for arrived in self._world.arrivals():
            self._inbox.setdefault(arrived.actor, deque()).append(self._read(arrived))

    def _read(self, arrived: Arrived) -> Told:
        if not arrived.payload:
            return Told(KEEPALIVE, {}, b"", header=arrived.header, stream=arrived.stream)
        told = self._speech(arrived.actor).read(arrived.payload)
        return msgspec.structs.replace(told, header=arrived.header, stream=arrived.stream)

    # --- the pair, time, and what is asked of them

    def _pass_ms(self, step: Step) -> None:
        self._world.pass_ms(int(step.what))
        self.drawing.remark(f"{step.what} ms pass")

    def _kill(self, step: Step) -> None:
        node = str(step.what)
        if node.startswith("owner of "):
            node = self._world.owner(node.removeprefix("owner of "))
        self._world.kill(node, stays_down=step.options.stays == "down")
        self.drawing.remark(f"{'both nodes die' if node == 'both' else f'node {node} dies'}")

    def _restart(self, step: Step) -> None:
        self._world.restart(str(step.what))
        self.drawing.remark(f"node {step.what} is restarted")

    def _etcd(self, step: Step) -> None:
        self._world.etcd(str(step.what))
        self.drawing.remark(f"etcd {step.what}")

    def _database(self, step: Step) -> None:
        self._world.database(str(step.what))
        self.drawing.remark(f"the journal's database {step.what}")

    def _operator(self, step: Step) -> None:
        for command, value in step.what.items():
            accepted = self._world.operate(command, value)
            if accepted == step.options.refused:
                raise self._failed(step, f"the command is {'accepted' if accepted else 'refused'}")
            self.drawing.remark(f"operator: {command}")

    def _state(self, step: Step) -> None:
        for name, expected in step.what.items():
            figure(name)  # KeyError: it is in no table
            if not self._world.wait(partial(self._is, name, expected)):
                raise self._failed(step, f"{name}: expected {expected}, got {self._world.figure(name)}")

    def _is(self, name: str, expected: Any) -> bool:
        return bool(self._world.figure(name) == expected)

    def _noted(self, step: Step) -> None:
        event, count = str(step.what), step.options.count

        def enough() -> bool:
            times, exact = self._world.noted(event)
            return times == count if count and exact else times >= max(count, 1)

        if not self._world.wait(enough):
            raise self._failed(step, f"{event}: noted {self._world.noted(event)[0]} times")

    def _books(self, step: Step) -> None:
        """Exactly these rows; they are read when anything that is due has come, so that one too many is not missed."""
        wrong: list[str] = []

        def as_said() -> bool:
            rows = self._world.extract(step.action, step.what.link, step.what.date)
            wrong[:] = self._secrets_in(rows) or rows_differ(rows, step.options.rows, self._named)
            numbers = sorted(int(row["number"]) for row in rows if "number" in row)
            if not (step.what.link or step.what.date or wrong) and numbers != [*range(1, len(numbers) + 1)]:
                wrong.append(f"the rows have numbers {numbers}")
            return not wrong

        self._world.quiet()
        if not self._world.wait(as_said):
            raise self._failed(step, "\n".join(wrong) or "it cannot be read")
        self.drawing.remark(f"{step.action}: {len(step.options.rows)} rows")

    _totals = _journal = _books

    def _secrets_in(self, rows: list[dict[str, str]]) -> list[str]:
        """The columns that hold what was said in a field that may be nowhere."""
        said = {value for each in self.exchanged for name, value in each.fields.items() if name in SECRET}
        return [
            f"{name}: card data" for row in rows for name, cell in row.items() if any(each in cell for each in said)
        ]
