"""The small chart beside the explorer: what the anchor's similarities look like as numbers."""

import io
from collections.abc import Mapping, Sequence
from numbers import Real

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s2dc_core.plots.heatmaps import ENCODER_COLOURS
from s2dc_core.plots.slices import Array, figure_grid, label_words

MOST_ORGANS = 14


def plot_anchor(
    distributions: Mapping[str, Array],
    ratios: Mapping[str, Real],
    by_organ: Mapping[str, Mapping[str, Real]],
    organ: str | None = None,
    size: Sequence[Real] = (5.6, 3.0),
) -> Figure:
    """Left the histogram of the anchor's cosines by encoder, right their mean in each organ, the highest on top.

    Args:
        distributions: encoder to its cosines, of any shape.
        ratios: encoder to the Sharpe ratio of its cosines.
        by_organ: encoder to organ to the mean cosine; without organs there is no right panel. Organs are sorted by the
            last encoder; of many, the MOST_ORGANS first ones are drawn.
        organ: the anchor's own, written in bold.
        size: of a panel, in inches.
    """
    last = list(by_organ.values())[-1]
    organs = sorted(last, key=last.get, reverse=True)[:MOST_ORGANS]
    with figure_grid(1, 2 if organs else 1, size=tuple(size)) as (figure, axes):
        left, edges = axes[0, 0], np.linspace(-1, 1, 81)
        for number, (encoder, values) in enumerate(distributions.items()):
            shares = np.histogram(np.asarray(values).ravel(), edges)[0] / np.asarray(values).size
            colour = ENCODER_COLOURS[number % len(ENCODER_COLOURS)]
            left.stairs(shares, edges, color=colour, linewidth=1.6, label=f"{encoder}: Sharpe {ratios[encoder]:.2f}")
        left.set(xlabel="cosine with the anchor", ylabel="share of the tokens", yscale="log")
        lowest = min(float(np.asarray(values).min()) for values in distributions.values())
        left.set_xlim(min(0.0, lowest) - 0.02, 1.02)
        left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9, frameon=False, borderaxespad=0.2)
        if organs:
            _organ_dots(axes[0, 1], by_organ, organs, organ)
    return figure


def _organ_dots(axes: Axes, by_organ: Mapping[str, Mapping[str, Real]], organs: Sequence[str], own: str | None) -> None:
    for number, means in enumerate(by_organ.values()):
        colour = ENCODER_COLOURS[number % len(ENCODER_COLOURS)]
        axes.plot([means[organ] for organ in organs], range(len(organs)), "o", color=colour, markersize=5)
    for place, organ in enumerate(organs):
        ends = [means[organ] for means in by_organ.values()]
        axes.plot([min(ends), max(ends)], [place, place], color="#CCCCCC", linewidth=1.2, zorder=0)
    axes.set(xlabel="mean cosine with the anchor", ylim=(len(organs) - 0.5, -0.5))
    axes.set_yticks(range(len(organs)), list(map(label_words, organs)), fontsize=9)
    for text, organ in zip(axes.get_yticklabels(), organs, strict=True):
        text.set_fontweight("bold" if organ == own else "normal")


def plot_pictures(pictures: Mapping[str, bytes], caption: str) -> Figure:
    """PNG pictures side by side in their own pixels, each under its title.

    Args:
        pictures: title to the content of a PNG file.
        caption: for all.
    """
    shots = {title: plt.imread(io.BytesIO(content), format="png") for title, content in pictures.items()}
    height, width = max(shot.shape[0] for shot in shots.values()), max(shot.shape[1] for shot in shots.values())
    with figure_grid(1, len(shots), size=(width / 150, height / 150 + 0.6)) as (figure, axes):
        for panel, (title, shot) in zip(axes[0], shots.items(), strict=True):
            panel.imshow(shot)
            panel.set(title=title)
            panel.axis("off")
        figure.suptitle(caption, fontsize=11)
    return figure
