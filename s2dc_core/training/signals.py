"""What asks a run to end, which then ends after the step in progress and not in the middle of it."""

import math
import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; what schedulers send before they kill; the end of a terminal; Slurm's `--signal=USR1@120`."""

PASSED_ON = 3.0
"""Seconds within which the Ctrl-C of a terminal, and the one that a launcher passes on to its processes, are one."""

GRACE = 300
"""Seconds that a reader lives on after SIGTERM, which schedulers send to all processes of a run."""


class Ending:
    """Notes a signal that asks the run to end, instead of dying of it; a second Ctrl-C is obeyed at once.

    Signals that are ignored (nohup), or whose handler Python did not set, stay so; outside the main thread, where
    Python cannot set any, all do.

    Args:
        processes: of the run; see PASSED_ON.
        silent: whether another process says that the run will end.

    Attributes:
        asked: the signal that was noted, 0 before.
    """

    def __init__(self, processes: int = 1, silent: bool = False):
        self.asked, self.silent = 0, silent
        self._first, self._wait = math.inf, PASSED_ON if processes > 1 else 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Ending":
        if threading.current_thread() is threading.main_thread():
            for number in ASKING:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.asked and kind is None:  # it came after the last look, with the run complete
            end_by(self.asked)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if time.monotonic() - self._first > self._wait:
                raise KeyboardInterrupt
            self._first = min(self._first, time.monotonic())
        if not self.asked:
            self.asked = number
            self._say()

    def _say(self) -> None:
        more = "; Ctrl-C once more ends it at once, without its state" if self.asked == signal.SIGINT else ""
        sentence = f"\n{signal.Signals(self.asked).name}: the run ends after this step{more}\n"
        with suppress(OSError):  # not print(): the signal may have come in the middle of one
            os.write(2, b"" if self.silent else sentence.encode())


def end_by(number: int) -> None:
    """End as programs do that a signal has ended: KeyboardInterrupt for Ctrl-C, else exit code 128 + its number."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def outlive_the_run(_worker: int) -> None:
    """For a reader process: without its readers a run could not finish its step; it lets them go itself."""
    for number in set(ASKING) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)

    def wait(*_) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(GRACE)

    signal.signal(signal.SIGTERM, wait)
