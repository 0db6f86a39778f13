"""A node that dies at a named point when a scenario says so: `python -m tools.scenarios.armed --config FILE --node a`.

It is the node as it is (switch.daemon), with another function called at each point: the file SCENARIO_ARM, while it exists,
names the point ("apply.before", or "apply.before:20": at the twentieth time from then on). Whichever node gets there first
takes the file away and dies, so that exactly one does.
"""

import os
import signal
from pathlib import Path

from switch import points

VARIABLE = "SCENARIO_ARM"


def armed(path: Path) -> None:
    """From now on the points of this process look for the file. Before anything imports them by name."""
    name, former, times = str(path), points.reach, 0

    def reach(point: str) -> None:
        nonlocal times
        former(point)  # SWITCH_POINT
        if not os.path.exists(name):
            return
        try:
            wanted, _, count = path.read_text().partition(":")
            if wanted != point:
                return
            times += 1
            if times < int(count or 1):
                return
            path.unlink()
        except FileNotFoundError:
            return  # the peer was first
        os.kill(os.getpid(), signal.SIGKILL)

    points.reach = reach


if __name__ == "__main__":
    armed(Path(os.environ[VARIABLE]))
    from switch.daemon import main

    main()
