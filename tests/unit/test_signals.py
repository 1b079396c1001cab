"""How programs wait for signals."""

import subprocess
import sys
from pathlib import Path
from typing import Final

# Each round one step further on the way into the wait, a signal comes.
_SCRIPT: Final = """
import signal, sys
from shared.processes.signals import Signals

def interrupted(steps):
    signals = Signals(signal.SIGTERM, signal.SIGHUP)
    left = steps

    def step(frame, event, _value):
        nonlocal left
        left -= 1
        frame.f_trace_opcodes = True
        if left == 0:
            signal.raise_signal(signal.SIGTERM)
        return step

    sys.settrace(step)
    while not signals.received:
        signals.wait(0 if left > 0 else None)
    sys.settrace(None)
    return signals.received

for steps in range(1, 200):
    assert interrupted(steps) == {signal.SIGTERM}
"""


def test_a_signal_is_not_missed_at_any_step_of_the_wait() -> None:
    subprocess.run(
        [sys.executable, "-c", _SCRIPT], check=True, timeout=60, cwd=Path(__file__).parents[2]
    )
