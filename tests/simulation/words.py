"""The proposals of an entry in short words."""

from collections.abc import Callable
from typing import Any

from messages.message import Verdict
from switch.core import proposals as p
from switch.core.state import State


class Words:
    """`names`: of sessions. Requests and advices get their numbers from the state as it was before the entry."""

    def __init__(self, state: State, names: dict[str, str]) -> None:
        self._state, self._names = state, names
        self.begin()

    def begin(self) -> None:
        """An entry is about to be applied."""
        self._transaction, self._advice = self._state.meta.transaction, self._state.meta.advice
        self._advices = {number: _kind(advice.payload) for number, advice in self._state.advices.items()}

    def of(self, proposals: list[Any], accepted: list[bool]) -> list[str]:
        """A line or more for each; heartbeats have none."""
        found = []
        for proposal, good in zip(proposals, accepted, strict=True):
            if not isinstance(proposal, p.Tick):
                text = _TEXTS[type(proposal)](self, proposal, good)
                found += text.split("\n") if good else [f"{text}: REFUSED"]
        return found

    def name(self, session: str) -> str:
        return self._names.get(session, session)

    def request(self, proposal: p.Request, good: bool) -> str:
        self._transaction += good
        return f"Request{f' {self._transaction}' if good else ''} -> {self.name(proposal.target_session)}"

    def decision(self, proposal: p.Timeout | p.Undo | p.Decide, good: bool) -> str:
        text = f"{type(proposal).__name__} {proposal.transaction}: {proposal.outcome.code}"
        if good and proposal.advice.payload:
            self._advice += 1
            text += f", {_kind(proposal.advice.payload).lower()} {self._advice}"
        return text

    def store(self, proposal: p.Store, good: bool) -> str:
        text = f"Store from {self.name(proposal.session)}, original {proposal.standing.name.lower()}"
        if good and proposal.payload:
            self._advice += 1
            text += f", {_kind(proposal.payload).lower()} {self._advice}"
        return text

    def advice(self, proposal: p.AdviceSend, good: bool) -> str:
        again = f", try {proposal.tries + 1}" if proposal.tries else ""
        return f"{self._kind(proposal)} -> {self.name(proposal.session)}{again}"

    def acknowledged(self, proposal: p.AdviceAnswer, good: bool) -> str:
        code = "" if proposal.verdict is Verdict.DONE else f" by {proposal.code}: {proposal.verdict.name.lower()}"
        return f"{self._kind(proposal)} acknowledged{code}"

    def _kind(self, proposal: p.AdviceSend | p.AdviceAnswer) -> str:
        return f"{self._advices.get(proposal.advice, 'Advice')} {proposal.advice}"

    def open(self, proposal: p.Open, good: bool) -> str:
        whose = f", {proposal.owner}'s" if proposal.owner else ""
        return f"Open {self.name(proposal.session)}{whose}"

    def end(self, proposal: p.End, good: bool) -> str:
        acked = f", output {proposal.acked}" if proposal.acked >= 0 else ""
        return f"End {self.name(proposal.session)}: {proposal.reason}{acked}"

    def acked(self, proposal: p.Acked, good: bool) -> str:
        return "\n".join(f"Acked {self.name(session)} {offset}" for session, offset in proposal.sessions)

    def attach(self, proposal: p.Attach, good: bool) -> str:
        code = f": {proposal.outcome.code}" if proposal.outcome else ", waits"
        return f"Attach {self.name(proposal.session)} to {proposal.transaction}{code}"

    def move(self, proposal: p.Move, good: bool) -> str:
        return f"Move {', '.join(map(self.name, proposal.sessions))} to {proposal.to}"


def _kind(payload: bytes) -> str:
    """By the message class in the MTI; a pacs.002 of the switch's own is a negative confirmation."""
    return "Reversal" if payload[1:2] == b"4" or payload[:1] == b"<" else "Advice"


def sessions(count: int) -> str:
    return f"{count} session{'s' * (count != 1)}"


_TEXTS: dict[type, Callable[[Words, Any, bool], str]] = {
    p.Request: Words.request,
    p.Attach: Words.attach,
    p.Store: Words.store,
    p.Reply: lambda words, q, good: f"Reply {q.outcome.code} to {words.name(q.session)}",
    p.Refuse: lambda words, q, good: f"Refuse {q.outcome.code} to {words.name(q.session)}",
    p.Answer: lambda words, q, good: f"Answer {q.transaction}: {q.outcome.code}",
    p.AdviceAnswer: Words.acknowledged,
    p.NetworkRequest: lambda words, q, good: f"{q.function.name.capitalize()} from {words.name(q.session)}",
    p.NetworkAnswer: lambda words, q, good: f"{words.name(q.session)} answers the sign-on",
    p.Absorb: lambda words, q, good: f"Absorb: {q.reason}",
    p.Piece: lambda words, q, good: f"Piece of {words.name(q.session)}",
    p.Open: Words.open,
    p.Connected: lambda words, q, good: f"Connected {words.name(q.session)}",
    p.End: Words.end,
    p.Acked: Words.acked,
    p.Timeout: Words.decision,
    p.Decide: Words.decision,
    p.Resend: lambda words, q, good: f"Request {q.transaction} again, to {words.name(q.target_session)}",
    p.Redeliver: lambda words, q, good: f"Approval {q.transaction} to {words.name(q.session)}",
    p.Park: lambda words, q, good: f"Advice {q.advice} is parked: {q.reason}",
    p.Settle: lambda words, q, good: f"Advice {q.advice} is {'retried' if q.retry else 'settled'}",
    p.Undo: Words.decision,
    p.NetworkSend: lambda words, q, good: f"{q.function.name.capitalize()} to {words.name(q.session)}",
    p.AdviceSend: Words.advice,
    p.Forget: lambda words, q, good: f"Forget segment {q.segment}",
    p.Join: lambda words, q, good: f"Join {q.node}{q.number}",
    p.Live: lambda words, q, good: "Live",
    p.Activate: lambda words, q, good: f"Entries are of version {q.version}",
    p.Leaving: lambda words, q, good: "Leaving",
    p.Leave: lambda words, q, good: "Leave",
    p.Heir: lambda words, q, good: f"Heir of {q.dead}: {sessions(len(q.held))}",
    p.Move: Words.move,
    p.Configure: lambda words, q, good: "Configure",
    p.Snapshot: lambda words, q, good: "Snapshot",
}
