"""What the auditor keeps of one message of the injector: what was asked, where, and what came back. No card data."""

import msgspec

from tools.evidence import ECHOED, Facts

Key = tuple[str, ...]


class Case(msgspec.Struct):
    """One request, advice or reversal of the injector, its repeats and its answers. asked: by session."""

    asked: dict[str, "Asked"]
    header: bytes
    amount: int | None
    currency: str
    account: str  # a token, see Facts
    content: bytes  # tokens
    echo: tuple[str, ...]
    advice: bool
    answers: list[str] = []
    approval: str = ""  # code of the first approval

    @property
    def repeats(self) -> int:
        return sum(asked.messages for asked in self.asked.values()) - 1

    @property
    def waiting(self) -> list[str]:
        """Sessions on which nothing was heard after the last message. One answer may be for all messages before it."""
        return [session for session, asked in self.asked.items() if asked.waiting]


class Asked(msgspec.Struct):
    """Messages of a case on one session, and what came back there."""

    messages: int = 0
    answers: int = 0
    waiting: bool = False


def changed(facts: Facts, case: Case) -> list[str]:
    """Names of what the answer brings back otherwise than it was sent."""
    names = [f"DE{number}" for number in ECHOED] if facts.key[0] == "card" else ["UETR", "message id"]
    changed = [
        name for name, answered, sent in zip(names, facts.echo, case.echo, strict=True) if answered not in ("", sent)
    ]
    if facts.key[0] == "card" and not facts.stan:
        changed.append("DE11 (absent)")
    if facts.key[0] == "transfer" and facts.amount not in (None, case.amount):
        changed.append("amount")
    return changed


def named(key: Key) -> str:
    return f"RRN {key[1]} of terminal {key[2]}" if key[0] == "card" else f"end-to-end id {key[1]}"
