"""What an engine knows of each link's bytes: codec, framer, STANs. Built from the rules; not part of the state."""

from collections.abc import Iterable

from messages.framing import Framer
from messages.iso8583.codec import Iso8583Codec
from messages.iso20022.codec import Iso20022Codec
from messages.message import Cause, Codec, MessageError, NetworkFunction, Outbound
from switch.core.proposals import NOTHING, OwnAdvice
from switch.core.records import Transaction
from switch.core.rules import Link, Rules, RulesError, flag
from switch.core.state import State


class Wire:
    """One link's way to and from bytes."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.codec: Codec
        if link.iso8583 is not None:
            self.codec = Iso8583Codec(link.iso8583)
        elif link.iso20022 is not None:
            self.codec = Iso20022Codec(link.iso20022)
        else:
            raise RulesError(f"link {link.name!r}: give either an [iso8583] or an [iso20022] table")
        value = bytes.fromhex(link.header_value) if link.header_value else None
        self.framer = Framer.of(link.framing, header=link.header, maximum=link.frame_max_bytes, header_default=value)
        self._stan = 0  # last given
        taken = 2 * (link.inflight_max + link.lane_max) + link.parked_max
        if self.codec.stan_digits and taken >= 10**self.codec.stan_digits // 2:
            raise RulesError(f"link {link.name!r}: inflight_max, lane_max and parked_max leave too few STANs")

    def resume(self, before: "Wire") -> None:
        """STANs go on where this wire's predecessor stopped, since what it gave may not be applied yet."""
        if self.codec.stan_digits == before.codec.stan_digits:
            self._stan = before._stan

    def frame(self, payload: bytes) -> bytes:
        """A request of ours, framed."""
        return self.framer.frame(payload)

    def answer(self, header: bytes, payload: bytes) -> bytes:
        """An answer, framed, under the header of its request."""
        return self.framer.frame(payload, self.framer.answer_header(header))

    def reject(self, header: bytes) -> bytes:
        """The header of a frame that is no message, marked so, and nothing else of it."""
        marked = bytearray(self.framer.answer_header(header))
        place, mask = flag(self.link)
        marked[place] |= mask
        return self.framer.frame(b"", bytes(marked))

    def stan(self, state: State, node: str) -> int:
        """A STAN that is not pending, after the last applied: even ones for node a, odd ones for b. 0: a rail without.

        Restart and takeover are safe: what a dead incarnation had given but not applied is fenced and never will be.
        """
        digits = self.codec.stan_digits
        if not digits:
            return 0
        name, size = self.link.name, 10**digits
        parity = 0 if node == "a" else 1
        last = self._stan or state.stans.get(f"{name}/{node}", 0)
        for _ in range(size // 2):
            last = (last + 1) % size
            last += (last + parity) % 2
            if last == 0 or last >= size:
                last = 2 - parity
            if (name, last) not in state.stans_busy:
                self._stan = last
                return last
        raise AssertionError("as many STANs are pending as there are")  # the bounds of the link forbid it

    def reversal(self, state: State, node: str, transaction: Transaction, utc: float, cause: Cause) -> OwnAdvice:
        """What undoes at this link, its target, a request; NOTHING where its profile or this rail has no reversal for it."""
        stan = self.stan(state, node)
        try:
            made = self.codec.reversal(transaction.original, transaction.reference, stan, utc, cause)
            return NOTHING if made is None else self.advice(made, stan)
        except MessageError:
            return OwnAdvice(failed=True)

    def advice(self, made: Outbound, stan: int) -> OwnAdvice:
        """Raises MessageError when it is more than the link's framing can hold, also as a repeat."""
        self.frame(made.payload)
        return OwnAdvice(made.payload, made.match_key, stan, made.reference)


def wires(rules: Rules, before: dict[str, Wire]) -> dict[str, Wire]:
    """The wire of each link, by name: the one from before where nothing changed, else its STANs go on after those given.

    Raises RulesError, naming the link, for what the codecs refuse.
    """
    built: dict[str, Wire] = {}
    for link in rules.links:
        former = before.get(link.name)
        if former is not None and former.link == link:
            built[link.name] = former
            continue
        try:
            built[link.name] = wire = Wire(link)
            if former is not None:
                wire.resume(former)
        except (ValueError, OSError) as error:
            raise RulesError(f"link {link.name!r}: {error}") from error
    return built


def serviceable(given: Iterable[Wire]) -> None:
    """Refuse what an operator may write, and no session of the link could be kept with. Raises RulesError.

    As with `rules.possible`, what is in the log is not asked: it was taken, and is applied as it is.
    """
    for wire in given:
        link, functions = wire.link, []
        if link.outbound:
            functions.append(NetworkFunction.SIGN_ON)
        if (link.outbound and link.echo_interval_ms) or link.breaker_timeouts:
            functions.append(NetworkFunction.ECHO)
        for function in functions:
            name = function.name.lower()
            try:
                asked = wire.codec.network_request(function, 1, 1.0)
                if asked is not None:
                    wire.frame(asked.payload)
            except MessageError as error:
                raise RulesError(f"link {link.name!r}: its own {name} is not possible by its options: {error}") from None
        # twice as many advices from outside may wait for an operator as there may be when requests are refused
        taken = 2 * (link.inflight_max + link.lane_max + link.parked_max)
        if wire.codec.stan_digits and taken >= 10**wire.codec.stan_digits // 2:
            raise RulesError(f"link {link.name!r}: inflight_max, lane_max and parked_max leave too few STANs")
