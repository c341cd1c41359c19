"""A run's numbers and pictures for TensorBoard."""

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from s2dc_core.features import TokenMap, fit_pca, pca_map, similarity_heatmap, token_features
from s2dc_core.plots.heatmaps import HeatmapRow, plot_heatmap_rows
from s2dc_core.plots.pca import ColourRow, as_colours, plot_colour_rows
from s2dc_core.pretraining.regions import RegionDraws
from s2dc_core.pretraining.run import Pretraining
from s2dc_core.views import Region, valid_tokens


class Monitor:
    """Called after each step, it notes losses, learning rate, gradient norm and speed, and now and then draws.

    The pictures show the run's first region, always the same: how similar each patch is to the one in the
    middle, and the three principal components of its tokens, if it has three, each fitted anew.

    Args:
        folder: of the event files; a run that goes on from a checkpoint replaces what was noted after it.
        every: steps between two pairs of pictures; 0 for none.
    """

    def __init__(self, folder: str | Path, every: int = 500):
        if every < 0:
            raise ValueError(f"pictures come every so many steps, or 0 for none, got {every}")
        self.folder, self.every = Path(folder), every
        self._writer: SummaryWriter | None = None
        self._shown: tuple[Region, np.ndarray] | None = None
        self._last: float | None = None
        self._given_up = False

    def __call__(self, run: Pretraining) -> None:
        """Note the run as it stands."""
        if self._given_up:
            return
        try:
            self._note(run, len(run.history))
        except OSError as error:  # such as a full disk; the run itself may still find room for its state
            self._given_up = True
            tqdm.write(f"TensorBoard gets nothing more: {self.folder} cannot be written ({error})", file=sys.stderr)

    def _note(self, run: Pretraining, step: int) -> None:
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        if step:
            self._note_numbers(run, step)
        if self.every and (step % self.every == 0 or step == run.config.steps):
            for name, figure in self._pictures(run, step).items():
                self._writer.add_figure(name, figure, step)
        self._writer.flush()
        self._last = time.perf_counter()

    def _note_numbers(self, run: Pretraining, step: int) -> None:
        numbers = {
            **{f"loss/{name}": value for name, value in run.history[-1]._asdict().items()},
            "learning_rate": run.schedule.get_last_lr()[0],
            "gradient_norm": run.gradient_norm,
            "scans_set_apart": len(run.quarantine),
        }
        if self._last is not None:
            taken = run.regions_a_step * math.prod(run.config.options.counts)
            numbers["sub_volumes_per_second"] = taken / (time.perf_counter() - self._last)
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def _pictures(self, run: Pretraining, step: int) -> dict[str, Figure]:
        (region, affine), level = self._region(run), run.config.options.read_at
        tokens = token_features(run.encoder, region.volume, level, affine=affine, background=region.background)
        middle = [side // 2 for side in region.volume.shape[1:]]
        place = affine[:3, :3] @ middle + affine[:3, 3]
        after = f"after {step:,} steps"
        seen = {after: (similarity_heatmap(tokens, middle), tokens.affine)}
        row = HeatmapRow("the patch in the middle", region.volume[0], affine, None, place, None, seen)
        pictures = {"similarity": plot_heatmap_rows([row], "How alike patches are")}
        if math.prod(tokens.features.shape[:3]) >= 3:
            colours = {after: (_colours(tokens, region), tokens.affine)}
            coloured = ColourRow("one region", region.volume[0], affine, None, colours, plane="axial", position=place)
            pictures["principal components"] = plot_colour_rows([coloured], "Three principal components of the tokens")
        return pictures

    def _region(self, run: Pretraining) -> tuple[Region, np.ndarray]:
        if self._shown is None:
            draw = RegionDraws(run.config, run.scans)[0]
            self._shown = draw.region, np.diag([*draw.spacing, 1.0])
        return self._shown


def _colours(tokens: TokenMap, region: Region) -> torch.Tensor:
    components = pca_map(tokens, 3, fit_pca(tokens))
    body = valid_tokens(region.body[None, None].float(), tokens.patch).view(components.shape[:3])
    return as_colours(components, body if body.any() else torch.ones_like(body))[0]
