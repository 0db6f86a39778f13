"""Named points at which a test may end the process, or stop it, in the middle of what it does.

SWITCH_POINT=name:count[:signal] in the environment arms one: when it is reached for the count-th time, the process sends
itself the signal (default KILL). Unarmed, reaching a point costs a call of an empty function.
"""

import os
import signal
from collections.abc import Callable

POINTS = (
    "append.before", "append.after",  # one etcd transaction of the log
    "apply.before", "apply.after",  # an entry folded into the state; its effects follow
    "consume.before", "consume.after",  # applied input taken out of the kernel's queue
    "write.before", "write.after",  # output given to the kernel
    "offer.before", "offer.after",  # a frame parsed and proposed
    "accept.before", "accept.after",  # a connection taken from the backlog, not yet shared with the peer
    "share.before", "share.after",  # a socket passed to the peer
    "connect.before", "connect.after",
    "snapshot.before", "snapshot.after",
    "heir.before", "heir.after",  # the heir entry appended
    "adopt.before", "adopt.after",  # one session taken over
    "move.before", "move.after",  # the proposal of a handover; its application
    "key.before", "key.after",  # a data key made
    "destroy.before", "destroy.after",  # its bytes zeroed, then its id
    "journal.before", "journal.after",  # a batch committed by the database; Journaled not yet proposed
    "join.after", "live.before", "leave.before",
)  # fmt: skip


def _unarmed(name: str) -> None:
    pass


def arm(setting: str) -> Callable[[str], None]:
    """The function that is called at each point. Raises ValueError for a point that does not exist."""
    if not setting:
        return _unarmed
    wanted, _, rest = setting.partition(":")
    count, _, how = rest.partition(":")
    if wanted not in POINTS:
        raise ValueError(f"SWITCH_POINT: there is no point {wanted!r}")
    left, number = int(count or 1), signal.Signals[f"SIG{how or 'KILL'}"]

    def armed(name: str) -> None:
        nonlocal left
        if name == wanted:
            left -= 1
            if not left:
                os.kill(os.getpid(), number)

    return armed


reach = arm(os.environ.get("SWITCH_POINT", ""))
