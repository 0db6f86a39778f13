"""The outside world: terminals that do as the standards say, and an issuer with a ledger. They know nothing of the switch.

Cards are ISO 8583:1987 in ASCII behind a two-byte length. A request's identity is its RRN (DE37).
"""

from typing import Any

from world import Violation, World

from messages.iso8583.codec import Iso8583Codec
from messages.iso8583.options import Iso8583Options

DIALECT = Iso8583Codec(Iso8583Options()).dialect
PAN = "4539511619543487"  # to be seen nowhere but on the wire
TRACK = f"{PAN}=30122011000012345678"
PINBLOCK = "7A3B19C4D5E6F708"
DELAYED_ACK_S = 0.06  # Linux acknowledges within 40 ms
_STAN, _RRN, _AMOUNT, _TERMINAL, _ORIGINAL = "909091", "909090909092", "000090909093", "TERM9094", "909095"


def _assemble(mti: str, fields: dict[int, str]) -> bytes:
    return DIALECT.assemble(mti, {number: DIALECT.encode_field(number, fields[number]) for number in sorted(fields)})


_CARD = {
    2: PAN, 3: "010000", 4: _AMOUNT, 7: "0301100000", 11: _STAN, 12: "100000", 13: "0301", 22: "051", 25: "00",
    32: "123456", 35: TRACK, 37: _RRN, 41: _TERMINAL, 42: "MERCHANT0000001", 49: "978", 52: PINBLOCK,
}  # fmt: skip
_REVERSAL = {number: value for number, value in _CARD.items() if number not in (35, 52)}
_REVERSAL[90] = f"0200{_ORIGINAL}0301100000{'0' * 22}"
_TEMPLATES = {mti: _assemble(mti, _CARD) for mti in ("0200", "0201")} | {
    mti: _assemble(mti, _REVERSAL) for mti in ("0400", "0401")
}


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(2, "big") + payload


class Request:
    """One withdrawal, as its terminal knows it."""

    def __init__(self, terminal: str, number: int, amount: int) -> None:
        self.terminal = terminal
        self.stan = f"{number:06d}"
        self.reversal = f"{900_000 + number:06d}"  # STAN of its reversal; a refused one is sent anew under the next
        self.rrn = f"{terminal[-4:]}{number:08d}"
        self.amount = amount
        self.sent_s = 0.0  # when, the first time
        self.answers: list[str] = []  # DE39 of every 0210
        self.outcome = ""  # "approved", "declined", "reversed"; "" while it is not known

    def message(self, mti: str, *, poison: bool = False) -> bytes:
        """The frame of the request, its repeat, its reversal, or the repeat of that."""
        payload = _TEMPLATES[mti]
        stan = self.reversal if mti >= "0400" else self.stan
        for placeholder, value in (
            (_STAN, stan), (_ORIGINAL, self.stan), (_RRN, self.rrn), (_AMOUNT, f"{self.amount:012d}"),
            (_TERMINAL, self.terminal),
        ):  # fmt: skip
            payload = payload.replace(placeholder.encode(), value.encode())
        if poison:
            payload = payload.replace(b"MERCHANT", b"POISON__")
        return frame(payload)


class Frames:
    """Cuts a stream. What does not begin with a frame is a violation: streams are exact."""

    def __init__(self, whose: str) -> None:
        self.whose = whose
        self.rest = b""

    def take(self, data: bytes) -> list[Any]:
        """The messages that are complete by now, decoded."""
        self.rest += data
        found = []
        while len(self.rest) >= 2:
            size = int.from_bytes(self.rest[:2], "big")
            if size > 2000:
                raise Violation(f"{self.whose}: its stream cannot be cut into frames")
            if len(self.rest) < 2 + size:
                break
            found.append(DIALECT.decode(self.rest[2 : 2 + size]))
            self.rest = self.rest[2 + size :]
        return found


class Terminal:
    """One request outstanding; silence brings a repeat, further silence a reversal, which is repeated until answered."""

    SILENCE_S, REPEATS = 1.6, 2

    def __init__(self, world: World, network: Any, number: int, addresses: list[tuple[str, int]], requests: int) -> None:
        self.name = f"TERM{number:04d}"
        self.requests: list[Request] = []
        self.gone = False  # for good
        self.leaving_s = self.cut_s = 0.0  # so soon after its next new request it does, and its line is dead; 0: not
        self.poison = False  # its next new request kills who parses it
        self.lost_sessions: list[tuple[str, float, float]] = []  # its address, connected since, ended when
        self._world, self._network, self._addresses = world, network, addresses
        self._left = requests
        self._wire: Any = None
        self._connected = False
        self._connected_at = 0.0
        self._frames = Frames(self.name)
        self._request: Request | None = None
        self._heard_at = 0.0
        self._sends = 0  # of the message at hand
        self._awaits = ""  # MTI of the answer
        self._timer: Any = None

    def begin(self) -> None:
        self._world.at(self._world.latency(0.02), self._connect)

    @property
    def done(self) -> bool:
        return self.gone or (not self._left and self._request is None)

    @property
    def remainder(self) -> bool:
        """Whether its stream goes on and holds a part of a frame."""
        return self._wire is not None and bool(self._frames.rest)

    @property
    def rrn(self) -> str:
        """Of the request at hand."""
        return self._request.rrn if self._request is not None else ""

    def reset(self) -> None:
        """It goes away without a word, and comes back."""
        if self._wire is None:
            return
        if self._world.now - self._heard_at < DELAYED_ACK_S:
            # its kernel would reset a connection on which it has read an answer that it has not acknowledged yet: to the
            # switch that answer was never delivered. No terminal lets go of its line within the instant of an approval.
            self._world.at(DELAYED_ACK_S, self.reset)
            return
        self._world.trace(self.name, "resets its connection")
        self._wire.reset()
        self._away()

    def _leave(self, request: Request) -> None:
        """It goes away with a request open, and never comes back: unless a byte of its answer was faster."""
        if self._request is request and self._wire is not None and not request.answers and not self._frames.rest:
            self._world.trace(self.name, f"goes away for good, without an answer to rrn={request.rrn}")
            self.gone = True
            if self._timer is not None:
                self._timer.cancel()
            self._wire.reset()
            self._away()

    # --- its connection

    def _connect(self) -> None:
        if self.gone:
            return
        self._frames = Frames(self.name)
        self._connected = False
        self._wire = self._network.connect(self._world.dice.choice(self._addresses), self._changed)

    def _up(self) -> None:
        self._connected, self._connected_at = True, self._world.now
        if self._request is not None:
            self._again()
        elif self._timer is None:
            self._timer = self._world.at(self._world.latency(0.02), self._next)

    def _away(self) -> None:
        self._wire, self._connected = None, False
        self._world.at(0.05 + self._world.latency(0.1), self._connect)

    def _changed(self) -> None:
        wire = self._wire
        if wire is None:
            return
        if wire.connected and not self._connected:
            self._up()
        while data := wire.receive(4096):
            for body in self._frames.take(data):
                self._heard(body)
        if self._wire is wire and (wire.broken or wire.finished):
            self._world.trace(self.name, "its connection is over")
            if self._connected:
                self.lost_sessions.append(("{}:{}".format(*wire.local), self._connected_at, self._world.now))
            if self._frames.rest and not wire.broken:
                raise Violation(f"{self.name}: the stream ended in the middle of a frame")
            wire.close()
            self._away()

    # --- what it has to say

    def _next(self) -> None:
        self._timer = None
        if not self._left or not self._connected or self._request is not None:
            return
        self._left -= 1
        self._request = Request(self.name, len(self.requests) + 1, 100 * self._world.dice.randrange(1, 500))
        self.requests.append(self._request)
        self._sends, self._awaits = 0, "0210"
        self._say("0200")

    def _say(self, mti: str) -> None:
        request = self._request
        assert request is not None
        self._sends += 1
        request.sent_s = request.sent_s or self._world.now
        self._awaits = "0210" if mti < "0400" else "0410"
        if self._connected:
            self._world.trace(self.name, f"sends {mti} rrn={request.rrn}")
            poison, self.poison = self.poison and mti == "0200", self.poison and mti != "0200"
            data = request.message(mti, poison=poison)
            if self._wire.send(data) != len(data):
                self._world.trace(self.name, "cannot send")
            if self.leaving_s and mti == "0200":
                if self.cut_s:
                    self._world.at(self.cut_s, lambda wire=self._wire: self._network.cut(wire, self.leaving_s))
                self._world.at(self.leaving_s, lambda: self._leave(request))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._world.at(self.SILENCE_S, self._silence)

    def _silence(self) -> None:
        self._timer = None
        if self._request is not None and self._connected:
            self._again()

    def _again(self) -> None:
        if self._awaits == "0210" and self._sends <= self.REPEATS:
            self._say("0201" if self._sends else "0200")
        else:
            self._say("0400" if self._awaits == "0210" else "0401")

    def _heard(self, body: Any) -> None:
        self._heard_at = self._world.now
        mti, rrn, code = body.mti, body.fields[37], body.fields[39]
        self._world.trace(self.name, f"hears {mti} rrn={rrn} DE39={code}")
        request = next((each for each in self.requests if each.rrn == rrn), None)
        if request is None or body.fields[11] not in (request.stan, request.reversal):
            raise Violation(f"{self.name}: {mti} rrn={rrn} answers nothing that it sent")
        if int(body.fields.get(4, request.amount)) != request.amount:
            raise Violation(f"{self.name}: {mti} rrn={rrn} has another amount than it sent")
        if mti == "0210":
            request.answers.append(code)
        if request is not self._request or mti != self._awaits:
            return  # the answer to a repeat, or to a request that it has begun to reverse
        if mti == "0210":
            request.outcome = "approved" if code == "00" else "declined"
        elif code == "00":
            request.outcome = "reversed"
        else:  # refused: a reversal is due until it is accepted
            request.reversal = f"{int(request.reversal) + 1000:06d}"
            self._awaits, self._sends = "0210", self.REPEATS + 1
            return
        self._request = None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._world.at(self._world.latency(0.06), self._next)


class Entry:
    """What the issuer knows of one RRN."""

    __slots__ = ("amount", "answer", "heard_s", "requests", "reversals", "reversed")

    def __init__(self) -> None:
        self.answer = ""  # DE39 it gave
        self.amount = 0
        self.heard_s = 0.0  # when it was asked
        self.requests = 0  # how often it was asked
        self.reversals = 0
        self.reversed = False

    @property
    def standing(self) -> bool:
        return self.answer == "00" and not self.reversed


class Issuer:
    """Authorises against its ledger. A repeat would get the first answer; a reversal that overtakes its request blocks it."""

    def __init__(self, world: World, network: Any, address: tuple[str, int]) -> None:
        self.ledger: dict[str, Entry] = {}
        self.loss = self.late = self.twice = self.decline = 0.0  # chances
        self.unheard = 0.0  # chance that a reversal is lost before it
        self.delay_s = 0.01
        self._world = world
        self._wires: list[Any] = []
        self._frames: dict[Any, Frames] = {}
        self._open: dict[str, str] = {}  # STAN: RRN of the request that is being answered
        network.listen(address, self._accept)

    @property
    def remainder(self) -> bool:
        """Whether a stream that goes on holds a part of a frame."""
        return any(frames.rest for frames in self._frames.values())

    def _accept(self, wire: Any) -> None:
        frames = self._frames[wire] = Frames("ISSUER")
        self._wires.append(wire)

        def changed() -> None:
            while data := wire.receive(16_384):
                for body in frames.take(data):
                    self._heard(wire, body)
            if wire in self._wires and (wire.broken or wire.finished):
                self._wires.remove(wire)
                del self._frames[wire]
                wire.close()

        wire.on_change = changed
        changed()

    def _heard(self, wire: Any, body: Any) -> None:
        mti, world = body.mti, self._world
        if mti == "0800":
            world.trace("ISSUER", f"hears 0800 DE70={body.fields[70]}")
            self._answer(wire, body, "0810", "00")
            return
        rrn = body.fields[37]
        entry = self.ledger.setdefault(rrn, Entry())
        world.trace("ISSUER", f"hears {mti} rrn={rrn} stan={body.fields[11]}")
        if mti[:2] == "02":
            stan = body.fields[11]
            if self._open.setdefault(stan, rrn) != rrn:
                raise Violation(f"ISSUER: STAN {stan} names rrn={rrn} and rrn={self._open[stan]} at once")
            entry.requests += 1
            entry.heard_s = world.now
            if entry.requests > 1:
                raise Violation(f"ISSUER: rrn={rrn} was forwarded {entry.requests} times")
            entry.amount = int(body.fields[4])
            entry.answer = "94" if entry.reversed else "51" if world.chance(self.decline) else "00"
            self._reply(wire, body, "0210", entry.answer)
        elif mti[:2] == "04" and world.chance(self.unheard):
            world.trace("ISSUER", f"has not heard it: rrn={rrn}")
        elif mti[:2] == "04":
            entry.reversals += 1
            entry.reversed = True
            self._reply(wire, body, f"04{int(mti[2]) + 1}0", "00")
        else:
            raise Violation(f"ISSUER: a message of type {mti}")

    def _reply(self, wire: Any, body: Any, mti: str, code: str) -> None:
        """Later: or never, much later, twice."""
        world = self._world
        delay = world.latency(self.delay_s) + (1.5 if world.chance(self.late) else 0.0)
        if mti == "0210":
            world.at(delay, lambda: self._open.pop(body.fields[11], None))
        if world.chance(self.loss):
            world.trace("ISSUER", f"does not answer rrn={body.fields[37]}")
            return
        for _ in range(2 if world.chance(self.twice) else 1):
            world.at(delay, lambda: self._answer(wire, body, mti, code))
            delay += world.latency(0.01)

    def _answer(self, wire: Any, body: Any, mti: str, code: str) -> None:
        if wire not in self._wires:
            return
        raw = {number: body.raw[number] for number in body.raw if number not in (2, 35, 52, 90)}
        raw[39] = DIALECT.encode_field(39, code)
        self._world.trace("ISSUER", f"sends {mti} rrn={body.fields.get(37, '-')} DE39={code}")
        data = frame(DIALECT.assemble(mti, dict(sorted(raw.items()))))
        if wire.send(data) != len(data):
            self._world.trace("ISSUER", "cannot send")
