"""Figures of lesson 01: which patch is which after a 3D warp (paper section 3.2, equations 2 and 3)."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
import torch
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from s2dc_core.geometry import Matches, grid_of, inverse, token_centres, transform_points
from s2dc_core.plots.slices import PLANES, OrientedSlice, figure_grid, show_slice

GOOD, BAD, OTHER, NEUTRAL, ORANGE, SKY = "#009E73", "#D55E00", "#0072B2", "#777777", "#E69F00", "#56B4E9"
BOXES = (ORANGE, SKY, "#00B060", "#FFFFFF", "#E85AAD", "#3D7BFF")
HALO = [withStroke(linewidth=2.5, foreground="black")]


def plot_matched_tokens(
    source: Float[Tensor, "x y z"],
    target: Float[Tensor, "x y z"],
    affine: Shaped[np.ndarray, "4 4"],
    patch: Sequence[int],
    matches: Matches,
    planes: Sequence[str] = ("axial",),
    count: int = 6,
    window: Sequence[Real] | None = None,
    H: Float[Tensor, "4 4"] | None = None,
) -> Figure:
    """V (left) and V' (right) with the grid of patches; patches that match carry one colour and number on both sides.

    One row a plane, cut through the region's middle layer of patches; ``count`` of its matched patches, well apart,
    are shown. A dashed box with a signed number is a partner so many layers away along the plane's normal; with ``H``
    a third panel shows how far along it each centre went.
    """
    grid = grid_of(source.shape, patch)
    centres = token_centres(grid, patch).numpy()
    low, high = (None, None) if window is None else window
    with figure_grid(len(planes), 2 if H is None else 3, size=(4.6, 4.2)) as (figure, axes):
        for row, plane in zip(axes, planes, strict=True):
            normal = PLANES[plane][0]
            layer = grid[normal] // 2
            in_layer = _layer(matches.source, grid, normal) == layer
            inner = in_layer & _inner(matches.source, grid, plane) & _inner(matches.target, grid, plane)
            chosen = _well_apart(centres[matches.source], inner if inner.sum() >= count else in_layer, count)
            middle = centres[_index(np.array(grid) // 2, grid)].round()
            place = (affine @ [*middle, 1.0])[:3]
            panels = zip(row[:2], (source, target), ("V", "V' = V warped by H"), strict=True)
            cuts = []
            for panel, volume, name in panels:
                drawn = show_slice(panel, volume, affine, plane, place, vmin=low, vmax=high, title=f"{name}, {plane}")
                _grid_lines(panel, drawn.slice, affine, source.shape, patch, plane)
                cuts.append(drawn.slice)
            for number, pair in enumerate(chosen):
                colour = BOXES[number % len(BOXES)]
                i, j = int(matches.source[pair]), int(matches.target[pair])
                away = int(_layer(j, grid, normal)) - layer
                text = f"{number + 1}" if not away else f"{number + 1}\n({away:+d})"
                _token_box(row[0], cuts[0], affine, centres[i], patch, plane, colour, f"{number + 1}")
                _token_box(row[1], cuts[1], affine, centres[j], patch, plane, colour, text, dashed=bool(away))
            if H is not None:
                moved = transform_points(H, token_centres(grid, patch)).numpy()[matches.source[chosen]]
                _layers_gone(
                    row[2], (moved[:, normal] - centres[_index(np.array(grid) // 2, grid)][normal]) / patch[normal]
                )
        if H is not None:
            axes[0, 0].get_gridspec().set_width_ratios([1, 1, 0.5])
            left, right, bottom, top = cuts[0].extent
            figure.set_size_inches(11.2, len(planes) * (4.4 * (top - bottom) / (left - right) + 0.8))
    return figure


def _layers_gone(axes: Axes, layers: np.ndarray) -> None:
    """How many layers of patches each numbered centre went along the normal; the grey band is its own layer."""
    axes.axhspan(-0.5, 0.5, color="#DDDDDD", zorder=0)
    for number, away in enumerate(layers.tolist()):
        look = {"color": "black", "linewidth": 1, "zorder": 1}
        axes.plot([number + 1] * 2, [0, away], **look)
        colour = BOXES[number % len(BOXES)]
        axes.plot(number + 1, away, "o", color=colour, markeredgecolor="black", markersize=10, zorder=2)
    farthest = max(1.5, *np.ceil(np.abs(layers) + 0.5) - 0.5) if len(layers) else 1.5
    for edge in np.arange(-farthest, farthest + 0.1):
        axes.axhline(edge, color="#AAAAAA", linewidth=0.8)
    axes.set(xlim=(0.4, max(len(layers), 1) + 0.6), ylim=(-farthest, farthest), xticks=range(1, len(layers) + 1))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="patch", title="Layers gone")


def _index(cell: Sequence[Integral] | np.ndarray, grid: Sequence[int]) -> int:
    return int(np.ravel_multi_index(tuple(int(c) for c in cell), tuple(grid)))


def _layer(token: Tensor | int, grid: Sequence[int], axis: int) -> np.ndarray:
    return np.asarray(np.unravel_index(np.asarray(token), tuple(grid))[axis])


def _inner(token: Tensor, grid: Sequence[int], plane: str) -> np.ndarray:
    """Whether a token lies off the border of its slice, where its number can be read."""
    layers = [(_layer(token, grid, axis), grid[axis]) for axis in PLANES[plane][1:3]]
    return np.all([(layer > 0) & (layer < side - 1) for layer, side in layers], axis=0)


def _well_apart(points: np.ndarray, allowed: np.ndarray, count: int) -> list[int]:
    """Indices of allowed points, each as far as can be from those taken before; starts nearest the middle."""
    left = np.flatnonzero(allowed)
    if not len(left):
        return []
    taken = [left[np.linalg.norm(points[left] - points[left].mean(0), axis=1).argmin()]]
    while len(taken) < min(count, len(left)):
        nearest = np.linalg.norm(points[left][:, None] - points[taken][None], axis=-1).min(1)
        if nearest.max() == 0:
            break
        taken.append(left[nearest.argmax()])
    return [int(index) for index in taken]


def _corners(
    cut: OrientedSlice, affine: np.ndarray, low: Sequence[Real] | np.ndarray, high: Sequence[Real] | np.ndarray
) -> np.ndarray:
    """Picture coordinates [2, 2] of two voxel positions."""
    return np.array([cut.project((affine @ [*corner, 1.0])[:3])[:2] for corner in (low, high)])


def _token_box(
    axes: Axes,
    cut: OrientedSlice,
    affine: np.ndarray,
    centre: np.ndarray,
    patch: Sequence[int],
    plane: str,
    colour: str,
    text: str,
    dashed: bool = False,
) -> None:
    half = np.array(patch) / 2
    first, last = _corners(cut, affine, centre - half, centre + half)
    style = {"edgecolor": colour, "linewidth": 2.6, "linestyle": (0, (2, 1.2)) if dashed else "-", "gid": "token"}
    axes.add_patch(Rectangle(first, *(last - first), facecolor="none", **style))
    label = axes.text(*(first + last) / 2, text, color="white", ha="center", va="center", fontsize=10)
    label.set(fontweight="bold", path_effects=HALO, clip_on=True)


def _grid_lines(
    axes: Axes, cut: OrientedSlice, affine: np.ndarray, shape: Sequence[int], patch: Sequence[int], plane: str
) -> None:
    low, high = np.full(3, -0.5), np.array(shape) - 0.5
    for axis in PLANES[plane][1:3]:
        for edge in np.arange(0, shape[axis] + 1, patch[axis]) - 0.5:
            first, last = low.copy(), high.copy()
            first[axis] = last[axis] = edge
            ends = _corners(cut, affine, first, last)
            axes.plot(*ends.T, color="white", alpha=0.3, linewidth=0.7)


def plot_two_boxes(H: Float[Tensor, "4 4"], grid: Sequence[int], patch: Sequence[int], token: int) -> Figure:
    """Equation 3 seen from both sides for one patch i, in the plane of the first two axes.

    Left V: the box of i and the points H^-1(c_j). Right V': the boxes of the patches j and the point H(c_i). A pair
    that agrees both ways is green, one that agrees one way only is orange-red.
    """
    centres = token_centres(grid, patch)
    half = torch.tensor(patch, dtype=torch.float64) / 2
    there, back = transform_points(H, centres)[token], transform_points(inverse(H), centres)
    in_i = ((back - centres[token]).abs() <= half).all(-1)
    holds = ((there - centres).abs() <= half).all(-1)
    near = ((there - centres).abs() <= 2.1 * half).all(-1) | in_i
    with figure_grid(1, 2, size=(4.9, 4.9)) as (figure, (panels,)):
        left, right = panels
        held = [int(holds.nonzero()[0])] if holds.any() else []
        _boxes(left, centres, half, {token: "i"}, (centres[token], 2.2 * half))
        _boxes(right, centres, half, dict.fromkeys(held, "j"), (there, 2.2 * half))
        left.plot(*centres[token, :2], "o", color=OTHER, markersize=9)
        left.annotate("$c_i$", centres[token, :2], (-14, -16), textcoords="offset points", fontsize=13, color=OTHER)
        right.plot(*there[:2], "o", color=OTHER, markersize=9, zorder=5)
        right.annotate("$H(c_i)$", there[:2], (7, -18), textcoords="offset points", fontsize=13, color=OTHER)
        for letter, j in zip("abcdefghij", near.nonzero()[:, 0].tolist(), strict=False):
            colour = GOOD if in_i[j] and holds[j] else BAD if in_i[j] or holds[j] else NEUTRAL
            for panel, point in ((left, back[j]), (right, centres[j])):
                panel.plot(*point[:2], "x", color=colour, markersize=9, markeredgewidth=2.4)
                style = {"textcoords": "offset points", "fontsize": 13, "color": colour, "clip_on": True}
                panel.annotate(letter, point[:2], (6, 6), annotation_clip=True, **style)
        left.set_title(f"V: {int(in_i.sum())} of the points $H^{{-1}}(c_j)$ lie in the box of i")
        right.set_title(f"V': $H(c_i)$ lies in the box of {int(holds.sum())} patch j")
        words = {GOOD: "both ways: a match", BAD: "one way only", NEUTRAL: "neither way"}
        look = {"marker": "x", "linestyle": "none", "markersize": 9, "markeredgewidth": 2.4}
        handles = [Line2D([], [], color=colour, label=f"$c_j$: {word}", **look) for colour, word in words.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _boxes(axes: Axes, centres: Tensor, half: Tensor, named: Mapping[int, str], view: tuple[Tensor, Tensor]) -> None:
    (cx, cy), (wx, wy) = view[0][:2].tolist(), view[1][:2].tolist()
    for index, centre in enumerate(centres):
        corner, size = (centre - half)[:2].tolist(), (2 * half)[:2].tolist()
        face = SKY + "55" if index in named else "none"
        axes.add_patch(Rectangle(corner, *size, facecolor=face, edgecolor="#BBBBBB", linewidth=1))
        if index in named:
            place = (corner[0] + 0.06 * size[0], corner[1] + 0.06 * size[1])
            axes.text(*place, f"${named[index]}$", fontsize=17, va="bottom", color=OTHER)
    limits = {"xlim": (cx - wx, cx + wx), "ylim": (cy - wy, cy + wy)}
    axes.set(aspect="equal", xlabel="voxel along the first axis", ylabel="voxel along the second axis", **limits)


def plot_offsets(offsets: Mapping[str, Float[Tensor, "_ 3"]], shown: int = 3000, tolerance: Real = 1e-3) -> Figure:
    """Where the warped coordinates at a matched target centre lie, seen from the source centre, in patches.

    One panel a case, first axis against second, at most ``shown`` points; the square is the box of equation 3. The
    title counts all points outside the box along any of the three axes.
    """
    with figure_grid(1, len(offsets), size=(4.3, 4.5)) as (figure, (panels,)):
        for axes, (name, offset) in zip(panels, offsets.items(), strict=True):
            outside = (offset.abs() > 0.5 + tolerance).any(-1)
            step = max(len(offset) // shown, 1)
            for rows, colour in ((~outside, OTHER), (outside, BAD)):
                axes.plot(*offset[::step][rows[::step], :2].T.numpy(), ".", color=colour, markersize=2.5, alpha=0.5)
            axes.add_patch(Rectangle((-0.5, -0.5), 1, 1, facecolor="none", edgecolor="black", linewidth=1.8))
            ticks = (-0.5, 0, 0.5)
            axes.set(xlim=(-0.95, 0.95), ylim=(-0.95, 0.95), aspect="equal", xticks=ticks, yticks=ticks)
            axes.set(xlabel="first axis [patches]", ylabel="second axis [patches]")
            axes.set_title(f"{name}\n{int(outside.sum()):,} of {len(offset):,} outside the box")
    return figure


def plot_wrong_shares(shares: Float[Tensor, " d"], pooled: Real, interval: Sequence[Real]) -> Figure:
    """Share of wrong pairs of each draw as a histogram, the pooled share and its interval as a line and a band."""
    with figure_grid(1, 1, size=(6.6, 3.6)) as (figure, ((axes,),)):
        axes.hist(100 * shares.numpy(), bins=np.arange(0, 101, 5), color=SKY, edgecolor="white")
        axes.axvspan(*(100 * np.array(interval)), color=BAD, alpha=0.25)
        axes.axvline(100 * pooled, color=BAD)
        low, high = (100 * np.array(interval)).tolist()
        text = f"all pairs together: {100 * pooled:.1f} %\n95 % interval {low:.1f} to {high:.1f} %"
        axes.annotate(text, (100 * pooled, axes.get_ylim()[1] * 0.85), (14, 0), textcoords="offset points", color=BAD)
        axes.set(xlabel="wrong pairs of one draw [%]", ylabel=f"draws (of {len(shares)})")
        axes.set(xlim=(0, max(60, 5 * np.ceil(20 * float(shares.max())))))
        axes.set_title(f"{pooled:.0%} of the published pairs are wrong")
    return figure


def plot_arrows(
    picture: Float[Tensor, "x y"],
    starts: Float[Tensor, "p 2"],
    ends: Float[Tensor, "p 2"],
    wrong: Shaped[Tensor, " p"],
    patch: Integral,
    title: str = "From the published partner to the true place",
) -> Figure:
    """V' in plane with its grid of patches: an arrow from each published partner to where the patch really went.

    Coordinates in voxels of the picture. A wrong pair fails at least one of the two boxes of equation 2.
    """
    spacing = np.eye(4)
    with figure_grid(1, 1, size=(6.4, 6.4)) as (figure, ((axes,),)):
        drawn = show_slice(axes, picture[:, :, None], spacing, "axial", scale_bar=False)  # in voxels
        _grid_lines(axes, drawn.slice, spacing, (*picture.shape, 1), (patch, patch, 1), "axial")
        for rows, colour, width, name in ((~wrong, "white", 0.003, "right"), (wrong, BAD, 0.008, "wrong")):
            at, move = starts[rows].numpy(), (ends - starts)[rows].numpy()
            style = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": width, "color": colour}
            axes.quiver(*at.T, *move.T, label=f"{name}: {int(rows.sum())}", edgecolor="black", linewidth=0.5, **style)
            axes.plot(*at.T, ".", color=colour, markersize=4)
        axes.set_title(title)
        legend = axes.legend(loc="upper right", bbox_to_anchor=(1, 0.985), frameon=True, title="published pairs")
        legend.get_frame().set(alpha=0.9, facecolor="#CCCCCC")  # white arrows, too, can be seen on it
    return figure


def plot_rotations(
    volumes: Mapping[str, Float[Tensor, "x y z"]],
    affine: Shaped[np.ndarray, "4 4"],
    sticks: Mapping[str, Float[Tensor, "2 3"]],
    plane: str = "sagittal",
    window: Sequence[Real] | None = None,
) -> Figure:
    """The same slice of several volumes, each with a stick between two voxel positions and its length in mm."""
    low, high = (None, None) if window is None else window
    with figure_grid(1, len(volumes), size=(3.0, 4.6)) as (figure, (panels,)):
        for axes, (name, volume) in zip(panels, volumes.items(), strict=True):
            cut = show_slice(axes, volume, affine, plane, vmin=low, vmax=high).slice
            ends = [(affine @ [*point, 1.0])[:3] for point in sticks[name].tolist()]
            axes.plot(*np.array([cut.project(end)[:2] for end in ends]).T, "o-", color=ORANGE, linewidth=3)
            length = np.linalg.norm(ends[1] - ends[0])
            axes.set_title(f"{name}\nstick: {length:.0f} mm")
    return figure


def plot_equivariance(levels: Sequence[int], errors: Mapping[str, Sequence[Real]], strides: Sequence[int]) -> Figure:
    """Equivariance error per level, a line a motion: 0 is perfect, 1 no better than random partners."""
    with figure_grid(1, 1, size=(7.6, 4.2)) as (figure, ((axes,),)):
        axes.axhline(1, color=NEUTRAL, linestyle=":", linewidth=1.4)
        axes.text(levels[0] - 0.2, 1.02, "no better than random partners", color=NEUTRAL, va="bottom")
        markers = "osD^v"
        for place, (name, error) in enumerate(errors.items()):
            colour = (GOOD, ORANGE, BAD, OTHER)[place % 4]
            axes.plot(levels, error, f"{markers[place % 5]}-", color=colour, label=name, clip_on=False)
        labels = [f"level {level}\n{stride} voxels" for level, stride in zip(levels, strides, strict=True)]
        axes.set(xticks=list(levels), xticklabels=labels, ylim=(-0.02, 1.15), ylabel="equivariance error")
        axes.set(xlim=(levels[0] - 0.25, levels[-1] + 0.25))
        axes.set_title("Equivariance error of matched tokens")
        figure.legend(loc="outside right center", title="motion of V'", alignment="left")
    return figure
