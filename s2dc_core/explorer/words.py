"""What the explorer of two patients says of a match, as HTML."""

import html
from collections.abc import Mapping

import numpy as np

from s2dc_core.data import Scan
from s2dc_core.explorer.controls import modality_of
from s2dc_core.explorer.maps import words_of
from s2dc_core.explorer.match import Pair, PairMatch

DOT = " &nbsp;·&nbsp; "


def match_words(match: PairMatch, asked: str, found: str) -> str:
    """A match in one line.

    Args:
        match: of which it tells cosine, margin and whether it is mutual.
        asked, found: both places, see `place_words`.
    """
    second = f", {match.margin:.3f} above the second best" if np.isfinite(match.margin) else ""
    mutual = "mutual: it leads back" if match.mutual else "not mutual"
    return DOT.join([f"{asked} &rarr; <b>{found}</b>", f"cosine {match.cosine:.2f}{second}", mutual])


def place_words(side: str, organ: str | None, mm: np.ndarray) -> str:
    """A place: its side, its organ if that is known, and where it is."""
    return html.escape(f"{side}{f', {organ}' if organ else ''}: {words_of(mm)}")


def particulars(scans: Mapping[str, Scan], align: bool, pair: Pair) -> list[str]:
    """In what two scans differ, and what became of the alignment, a sentence each.

    Args:
        scans: "left" and "right".
        align: whether it is wanted.
        pair: with its alignment, if one is wanted and was found.
    """
    left, right = scans["left"], scans["right"]
    told = []
    if (found := pair.alignment) is not None:
        agree = f"{found.inliers.sum()} of {pair.mutual} mutual matches"
        told.append(f"aligned by {agree}, which it misses by {found.error:.0f} mm")
    elif align:
        told.append("no alignment was found, too few matches agree: this is the match by features alone")
    if left.modality != right.modality:
        told.append(f"two modalities, {modality_of(left)} and {modality_of(right)}")
    if not np.allclose(left.spacing, right.spacing, atol=0.01):
        sides = [" x ".join(f"{side:.3g}" for side in scan.spacing) for scan in (left, right)]
        told.append(f"two spacings, {sides[0]} and {sides[1]} mm: equal tokens are of unequal size")
    return [html.escape(line) for line in told]
