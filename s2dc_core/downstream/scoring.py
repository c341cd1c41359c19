"""The scores of a network on whole cases; what cannot be scored is listed, and the others are not lost with it."""

import json
import math
from typing import NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm

from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.examples import Examples, refuse_namesakes
from s2dc_core.downstream.scores import mean_of
from s2dc_core.downstream.tasks import Task
from s2dc_core.intervals import accuracy_interval, mean_interval
from s2dc_core.training.precision import autocast
from s2dc_core.training.processes import Processes


class Scores(NamedTuple):
    """The numbers of some cases.

    Attributes:
        main: the name of the number that counts.
        cases: {case: {name: number}}.
        failed: {case: what is wrong with it} of those that could not be scored; no mean counts them.
    """

    main: str
    cases: dict[str, dict[str, float]]
    failed: dict[str, str] = {}

    @property
    def mean(self) -> dict[str, float]:
        """Of each number over the cases that have it."""
        return mean_of(list(self.cases.values()))

    @property
    def value(self) -> float:
        """Mean of the main number; NaN if no case has it."""
        return self.mean.get(self.main, math.nan)

    def interval(self) -> str:
        """The main number with its 95 % interval over cases: Wilson's for a share, Student's t for a mean."""
        values = [case[self.main] for case in self.cases.values() if not math.isnan(case[self.main])]
        lost = f"; {len(self.failed)} could not be scored" if self.failed else ""
        if self.main == "accuracy" and values:
            mean, low, high = accuracy_interval(round(sum(values)), len(values))
        elif len(values) > 1:
            mean, low, high = mean_interval(values)
        else:
            return f"{self.main} {self.value:.4f}: no interval from {len(values)} cases{lost}"
        return f"{self.main} {mean:.4f} ({low:.4f} to {high:.4f}, 95 % over {len(values)} cases{lost})"


def evaluate(
    network: nn.Module,
    task: Task,
    examples: Examples,
    config: FinetuneConfig,
    processes: Processes | None = None,
    progress: bool = False,
) -> Scores:
    """Score a network on whole cases; several processes share them, and each gets the scores of all.

    A case that cannot be read or scored is listed in `failed`; the scores of the others are kept.

    Raises:
        ValueError: if there is no case, or two have one name.
    """
    if not len(examples):
        raise ValueError("there is no case to score")
    refuse_namesakes(examples)
    processes = processes or Processes(next(network.parameters()).device)
    mine = range(processes.index, len(examples), processes.count)
    found, failed = {}, {}
    network.eval()
    for index in tqdm(mine, disable=not progress, unit="case", leave=False):
        name = examples.names[index]
        try:
            example = examples[index]
            with torch.no_grad(), autocast(config, processes.device):
                prediction = task.predict(network, example, config, processes.device)
            found[name] = json.dumps(task.score(prediction, example))
        except Exception as error:  # whatever it is, it must not take the scores of the other cases with it
            failed[name] = reason_of(error, name)
    together, apart = processes.union(found), processes.union(failed)
    return Scores(task.main, {name: json.loads(together[name]) for name in examples.names if name in together}, apart)


def reason_of(error: Exception, case: str) -> str:
    """What is wrong with a case, in one line that names it."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return reason if case in reason and not kind else f"{case}: {kind}{reason}"
