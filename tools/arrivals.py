"""What came to a host, message by message: all of it as it was sent, and under STANs that tell requests apart."""

import collections
from collections.abc import Callable, Mapping

from tools.cases import Case, Key, named
from tools.evidence import FORWARDED, TOKEN_BYTES, Facts, Seen

STAN_FREE_AFTER_S = 60.0  # a request that the host never answered is not outstanding for ever


class Arrivals:
    """Hears the record of one host. received: how often each request came.

    advised: STANs of the advices and reversals of each key, by message class. What repeats one keeps its STAN.
    """

    def __init__(self, cases: Mapping[Key, Case], find: Callable[[str, str], None]) -> None:
        self.received: collections.Counter[Key] = collections.Counter()
        self.advised: dict[tuple[Key, str], set[str]] = {}
        self._cases = cases
        self._find = find
        self._outstanding: dict[tuple[str, str], tuple[Key, float]] = {}  # by session and STAN

    def hear(self, seen: Seen) -> None:
        facts = seen.facts
        if facts.key[0] == "card":
            self._check_stan(seen)
        if seen.outward:
            return
        if facts.kind in ("request", "repeat"):
            self.received[facts.key] += 1
            self._check_request(facts)
        elif facts.kind == "advice":
            self.advised.setdefault((facts.key, facts.type[1]), set()).add(facts.stan)
            self._check_advice(facts)

    def _check_stan(self, seen: Seen) -> None:
        """A host tells the requests of a session apart by STAN: no two that wait may share one."""
        facts = seen.facts
        place = (seen.session, facts.stan)
        held = self._outstanding.get(place)
        if seen.outward:
            if held and held[0] == facts.key:
                del self._outstanding[place]
            return
        if held and held[0] != facts.key and seen.time - held[1] < STAN_FREE_AFTER_S:
            what = f"{facts.type} {named(facts.key)} on session {seen.session}"
            self._find("unexpected", f"{what} came with the STAN of {named(held[0])}, which was not answered yet")
        self._outstanding[place] = (facts.key, seen.time)

    def _check_request(self, facts: Facts) -> None:
        case = self._cases.get(facts.key)
        if case is not None and facts.content != case.content:
            other = ", ".join(_other_fields(facts, case)) if facts.key[0] == "card" else "content"
            self._find(
                "unexpected", f"{facts.type} {named(facts.key)} came to the host with other {other} than was sent"
            )

    def _check_advice(self, facts: Facts) -> None:
        """Also of one that the switch has made: it is about the request of its key."""
        case = self._cases.get(facts.key)
        if case is None:
            return
        pairs = (facts.account, case.account), (facts.amount, case.amount), (facts.currency, case.currency)
        names = ("account", "amount", "currency")
        other = ", ".join(name for name, (came, sent) in zip(names, pairs, strict=True) if came != sent)
        if other:
            self._find(
                "unexpected", f"{facts.type} {named(facts.key)} came to the host with other {other} than was sent"
            )


def _other_fields(facts: Facts, case: Case) -> list[str]:
    places = range(0, len(FORWARDED) * TOKEN_BYTES, TOKEN_BYTES)
    return [
        f"DE{number}"
        for number, at in zip(FORWARDED, places, strict=True)
        if facts.content[at : at + TOKEN_BYTES] != case.content[at : at + TOKEN_BYTES]
    ]
