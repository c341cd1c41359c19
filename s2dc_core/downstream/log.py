"""What a fine-tuning shows while it runs, kept: losses, rates and the scores of each look."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.tensorboard import SummaryWriter

from s2dc_core.training.records import as_json

if TYPE_CHECKING:
    from s2dc_core.downstream.finetune import Finetuning

FILE = "log.jsonl"


class Log:
    """Called after each step, before it is saved: a line in log.jsonl, and TensorBoard's numbers.

    A line holds "step", its loss, the learning rates that it was taken with and the norm of the gradient; after a look
    at the selection also "selection", the means of its scores, "failed", if a case could not be scored, and "chosen",
    whether it is the best look so far.

    Args:
        folder: of the run; one that goes on from a checkpoint replaces what was noted after it.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._writer: SummaryWriter | None = None

    def __call__(self, run: "Finetuning") -> None:
        """Note the run as it stands."""
        step = len(run.history)
        if self._writer is None:
            self._forget_from(step)
            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        line = _line(run, step)
        with (self.folder / FILE).open("a", encoding="utf-8") as lines:
            lines.write(as_json(line) + "\n")
        for name, value in _numbers(line).items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def _forget_from(self, step: int) -> None:
        """Keep the whole lines before a step; a kill may have left others, and half of one."""
        file = self.folder / FILE
        kept = [line for line in _lines(file) if json.loads(line)["step"] < step]
        beside = file.with_name(file.name + ".part")
        beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        os.replace(beside, file)


def _lines(file: Path) -> list[str]:
    if not file.exists():
        return []
    whole = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [line for line in whole if line.startswith("{") and line.endswith("}")]


def _line(run: "Finetuning", step: int) -> dict[str, Any]:
    rates = [base * of(step - 1) for base, of in zip(run.schedule.base_lrs, run.schedule.lr_lambdas, strict=True)]
    line = {
        "step": step,
        "loss": run.history[-1].total,
        "learning_rate": rates[0],
        **({"encoder_learning_rate": rates[1]} if len(rates) > 1 else {}),
        "gradient_norm": run.gradient_norm,
    }
    if run.last_look and run.last_look.step == step:
        scores = run.last_look.scores
        failed = {"failed": scores.failed} if scores.failed else {}
        line |= {"selection": scores.mean, **failed, "chosen": int(run.best.step) == step}
    return line


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    numbers = {name: value for name, value in line.items() if isinstance(value, float)}
    return numbers | {f"selection/{name}": value for name, value in line.get("selection", {}).items()}
