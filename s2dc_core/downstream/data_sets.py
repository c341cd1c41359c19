"""What a downstream task is learnt from and scored on, from a data set by its manifest."""

from collections.abc import Sequence
from typing import NamedTuple

from s2dc_core.data import Case, Manifest
from s2dc_core.downstream.classification import Classification
from s2dc_core.downstream.examples import Examples, examples_of
from s2dc_core.downstream.image_to_image import ImageToImage
from s2dc_core.downstream.segmentation import Segmentation
from s2dc_core.downstream.tasks import Task
from s2dc_core.options import check_choice


class Downstream(NamedTuple):
    """What is learnt, from which cases, and which cases score it; no case is in both.

    Attributes:
        scored: never seen before the end, neither by a step nor by the choice of one.
    """

    task: Task
    training: Examples
    scored: Examples


def downstream_of(
    manifest: Manifest,
    cases: Sequence[Case],
    task: str | None = None,
    inputs: Sequence[str] | None = None,
    target: str | None = None,
    rule: str = "manifest",
    keep: bool = True,
) -> Downstream:
    """A task of a data set: learnt on its training section, scored on its test section, or where that has no truth on
    its validation section.

    Args:
        task: "segmentation", "classification", "reconstruction" or "translation"; default: the only one it has.
        inputs, target, rule, keep: see examples_of; a translation needs a target, such as "t2w".

    Raises:
        ValueError: for a task or image that the data set does not have, a target that goes with no image to be
            predicted, or sections without cases.
    """
    task = _task_name(manifest, task)
    images = task in ("reconstruction", "translation")
    target = target or (manifest.targets[0] if images and len(manifest.targets) == 1 else None)
    if images and target is None:
        raise ValueError(f"{task} needs a target: one of {', '.join(manifest.image_names)}")
    if target and not images:
        raise ValueError(f"{task} predicts no image: leave out the target {target!r}")
    options = (inputs, target, rule, keep)
    training = examples_of(manifest, cases, "training", *options)
    truthful = {case.section for case in cases if images or case.label or case.target is not None}
    scored = examples_of(manifest, cases, "test" if "test" in truthful else "validation", *options)
    return Downstream(_build(manifest, task, rule), training, scored)


def _task_name(manifest: Manifest, task: str | None) -> str:
    known = [name for name in manifest.tasks if name != "pretraining"]
    if not known:
        raise ValueError(f"{manifest.name} has no downstream task: it is for {', '.join(manifest.tasks)}")
    if task is None and len(known) > 1:
        raise ValueError(f"{manifest.name} has several tasks, name one: {', '.join(known)}")
    task = task or known[0]
    check_choice("task", task, tuple(known))
    return task


def _build(manifest: Manifest, task: str, rule: str) -> Task:
    if task == "segmentation":
        return Segmentation(manifest.label_names, manifest.regions)
    if task == "classification":
        return Classification(manifest.label_names)
    windowed = manifest.preprocessing["intensity"]["rule"] == "window"
    # A window goes to 0..1, which is then the range; a z-score has none of its own.
    data_range = 1.0 if windowed else None
    on_one_scale = task == "reconstruction" and rule == "manifest"
    return ImageToImage(on_one_scale, data_range, manifest.metric.get("foreground"))
