"""The issuer: a ledger, reached over one or more networks, each a link of the switch. It knows nothing of the switch.

It authorises a request once, in full or in part, and books an advice once, whatever its copies; a reversal that comes before
its original blocks it. What no correct switch would send it is a violation.
"""

from typing import Any

from host import Host
from outside import APPROVED, DIALECT, frame, kept
from world import Violation, World

COPIES_MAX, COPY_S = 8, 0.2  # so many copies of an advice may have gathered on a silent line, and follow one another so soon


class Entry:
    """What the issuer knows of one RRN."""

    def __init__(self) -> None:
        self.answer = ""  # DE39 it gave to the request
        self.heard_s = 0.0  # when it was asked
        self.requests = 0  # how often it was asked
        self.asked: list[tuple[str, ...]] = []  # with which fields (outside.kept)
        self.named = ""  # MTI and STAN of what was approved or booked: DE90 of what follows
        self.held = 0  # of the customer's money
        self.booked = ""  # STAN of the advice that took the place of a request
        self.stand_in = False  # and it was the switch that approved
        self.completed = ""  # STAN of the completion
        self.reversed = ""  # STAN of the reversal
        self.firsts: set[str] = set()  # STANs of advices of which a copy came that was not marked as a repeat
        self.copies: dict[str, tuple[int, float]] = {}  # STAN of an advice: how many copies came, since when


class Issuer(Host):
    """What it knows of each RRN, and what it does with messages."""

    KINDS = ("loss", "late", "twice", "decline", "partial", "busy", "refuse", "unheard")

    def __init__(self, world: World, network: Any, networks: dict[str, tuple[str, int]]) -> None:
        self.ledger: dict[str, Entry] = {}
        # chances: no answer; a late one; two; 51; 10; 91 to an advice; 12 to an advice; an advice is lost before it
        self.loss = self.late = self.twice = self.decline = self.partial = self.busy = self.refuse = self.unheard = 0.0
        self.delay_s = 0.01
        self.stood_in: dict[str, list[int]] = {}  # by card: amounts that stand-in has approved
        self.refused: set[tuple[str, int]] = set()  # link and STAN of advices that it has answered with 12
        self._open: dict[tuple[str, str], str] = {}  # link and STAN: RRN of the request that is being answered
        super().__init__(world, network, "ISSUER", networks, DIALECT.decode)

    # --- its ledger

    def heard(self, link: str, wire: Any, body: Any) -> None:
        mti, world = body.mti, self._world
        if mti == "0800":
            world.trace("ISSUER", f"hears 0800 DE70={body.fields[70]}")
            self._answer(wire, body, "0810", "00")
            return
        rrn = body.fields[37]
        entry = self.ledger.setdefault(rrn, Entry())
        world.trace("ISSUER", f"hears {mti} rrn={rrn} stan={body.fields[11]}")
        if mti == "0200":
            self._request(link, wire, body, entry)
        elif mti in ("0220", "0221", "0400", "0401", "0420", "0421"):
            self._advice(wire, body, entry)
        else:
            raise Violation(f"ISSUER: a message of type {mti}")

    def _request(self, link: str, wire: Any, body: Any, entry: Entry) -> None:
        world, rrn, stan, amount = self._world, body.fields[37], body.fields[11], int(body.fields[4])
        if self._open.setdefault((link, stan), rrn) != rrn:
            raise Violation(f"ISSUER: STAN {stan} names rrn={rrn} and rrn={self._open[link, stan]} at once")
        entry.requests += 1
        entry.heard_s = world.now
        entry.asked.append(kept(body.fields))
        if entry.requests > 1:
            raise Violation(f"ISSUER: rrn={rrn} was forwarded {entry.requests} times")
        if entry.booked:
            raise Violation(f"ISSUER: rrn={rrn} is forwarded, and was decided in its place before")
        if entry.reversed:
            entry.answer, part = "94", amount
        elif world.chance(self.decline):
            entry.answer, part = "51", amount
        elif world.chance(self.partial):
            entry.answer, part = "10", amount // 200 * 100
        else:
            entry.answer, part = "00", amount
        entry.named = f"0200{stan}"
        entry.held = part if entry.answer in APPROVED else 0
        self._reply(link, wire, body, "0210", entry.answer, part)

    def _advice(self, wire: Any, body: Any, entry: Entry) -> None:
        """A copy of one."""
        world, mti, rrn, stan = self._world, body.mti, body.fields[37], body.fields[11]
        where = f"ISSUER: {mti} rrn={rrn} stan={stan}"
        if 35 in body.fields or 52 in body.fields:
            raise Violation(f"{where} has track or PIN")
        if mti[3] == "0" and stan in entry.firsts:
            raise Violation(f"{where} came before, and is not marked as a repeat")
        if mti[3] == "0":
            entry.firsts.add(stan)
        copies, since = entry.copies.get(stan, (0, world.now))
        entry.copies[stan] = (copies + 1, since)
        if copies + 1 > COPIES_MAX + (world.now - since) / COPY_S:
            raise Violation(f"{where}: {copies + 1} copies in {world.now - since:.1f} s")
        if world.chance(self.unheard):
            world.trace("ISSUER", f"has not heard it: rrn={rrn}")
            return
        done = stan in (entry.booked, entry.completed, entry.reversed)
        answer = f"{mti[:2]}{int(mti[2]) + 1}0"
        if not done and world.chance(self.busy):
            self._reply("", wire, body, answer, "91", None)
        elif not done and world.chance(self.refuse):
            self.refused.add((self.wires[wire], int(stan)))
            self._reply("", wire, body, answer, "12", None)
        else:
            if not done:
                self._book(where, body, entry)
            self._reply("", wire, body, answer, "00", None)

    def _book(self, where: str, body: Any, entry: Entry) -> None:
        """An advice that is new here."""
        stan, amount, known = body.fields[11], int(body.fields[4]), entry.named
        named = body.fields[90][:10] if 90 in body.fields else ""
        if named and known and named != known:
            raise Violation(f"{where} names {named}, which came as {known}")
        if body.mti[1] == "4":
            if entry.reversed:
                raise Violation(f"{where}: it was reversed under STAN {entry.reversed}")
            entry.reversed, entry.held = stan, 0
        elif named:
            if not known or entry.completed or entry.reversed:
                raise Violation(f"{where}: it completes what is {'not known, or ' * (not known)}completed or undone")
            entry.completed, entry.held = stan, amount
        else:
            if entry.booked or entry.requests or entry.reversed:
                raise Violation(f"{where}: it was booked, asked for or undone before")
            entry.booked, entry.held, entry.named = stan, amount, f"0220{stan}"
            entry.stand_in = 38 in body.fields
            if entry.stand_in:
                self.stood_in.setdefault(body.fields[2], []).append(amount)

    # --- its answers

    def _reply(self, link: str, wire: Any, body: Any, mti: str, code: str, amount: int | None) -> None:
        """Later: or never, much later, twice."""
        world = self._world
        delay = world.latency(self.delay_s) + (1.5 if world.chance(self.late) else 0.0)
        if mti == "0210":
            world.at(delay, lambda: self._open.pop((link, body.fields[11]), None))
        if world.chance(self.loss):
            world.trace("ISSUER", f"does not answer rrn={body.fields[37]}")
            return
        for _ in range(2 if world.chance(self.twice) else 1):
            world.at(delay, lambda: self._answer(wire, body, mti, code, amount))
            delay += world.latency(0.01)

    def _answer(self, wire: Any, body: Any, mti: str, code: str, amount: int | None = None) -> None:
        if wire not in self.wires:
            return
        raw = {number: body.raw[number] for number in body.raw if number not in (2, 35, 38, 52, 90)}
        raw[39] = DIALECT.encode_field(39, code)
        if amount is not None:
            raw[4] = DIALECT.encode_field(4, f"{amount:012d}")
        self._world.trace("ISSUER", f"sends {mti} rrn={body.fields.get(37, '-')} DE39={code}")
        data = frame(DIALECT.assemble(mti, dict(sorted(raw.items()))))
        if wire.send(data) != len(data):
            self._world.trace("ISSUER", "cannot send")
