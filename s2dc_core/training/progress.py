"""What a run shows of itself: a bar, or a line now and then where nobody watches one."""

import math
import sys
import time

from tqdm.auto import tqdm

from s2dc_core.training.run import Run


class Progress:
    """A bar with the losses of the last step, or else a line every so many steps and after the last.

    Args:
        run: at the step that it starts or goes on from.
        bar: whether to show one.
        every: steps between two lines where there is no bar; None for no lines.
        a_region: what is counted a second, and how many of them a region is.
    """

    def __init__(self, run: Run, bar: bool, every: int | None, a_region: tuple[str, int]):
        if every is not None and every < 0:
            raise ValueError(f"log_every must be at least 0, got {every}")
        self.run, self.unit, self.each = run, *a_region
        self.every = None if bar or not run.processes.is_main else every
        hidden = not (bar and run.processes.is_main)
        self.bar = tqdm(total=run.config.steps, initial=len(run.history), disable=hidden, unit="step", leave=False)
        self._last = (len(run.history), time.perf_counter())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def note(self, seconds: float) -> None:
        """Show the step that was taken, in so many seconds."""
        terms, done, steps = self.run.history[-1]._asdict(), len(self.run.history), self.run.config.steps
        losses = {name: f"{value:.2f}" for name, value in terms.items()}
        self.bar.set_postfix({**losses, f"{self.unit}/s": f"{self._speed(seconds):.3g}"}, refresh=False)
        self.bar.update()
        if self.every and (done % self.every == 0 or done == steps):
            self._write(terms, done, steps)

    def _write(self, terms: dict[str, float], done: int, steps: int) -> None:
        (before, then), now = self._last, time.perf_counter()
        self._last = (done, now)
        seconds = (now - then) / (done - before)
        parts = [
            f"step {done}/{steps}",
            *(f"{name} {value:.4g}" for name, value in terms.items()),
            f"learning rate {self.run.schedule.get_last_lr()[0]:.3g}",
            f"{self._speed(seconds):.3g} {self.unit}/s",
            f"{tqdm.format_interval(math.ceil(seconds * (steps - done)))} left",
        ]
        print(", ".join(parts), file=sys.stderr, flush=True)

    def _speed(self, seconds: float) -> float:
        return self.run.regions_a_step * self.each / seconds
