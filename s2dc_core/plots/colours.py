"""The colours of figures, and how a structure's name is written in one."""

import re
from numbers import Integral

PALETTE = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2",
    "#88CCEE", "#CC6677", "#DDCC77", "#44AA99", "#AA4499", "#BBBBBB", "#999933",
)  # fmt: skip
"""Of lines and marks: Okabe and Ito's colours, then some of Tol's muted ones. Labels have LABEL_COLOURS."""

LABEL_COLOURS = (
    "#724892",  # spleen
    "#E28C02", "#F8CD78",  # right and left kidney: one hue
    "#6ABF89",  # gallbladder
    "#D46D55",  # oesophagus
    "#914036",  # liver
    "#FBBDD1",  # stomach
    "#D91710", "#1460EE", "#37BEFD",  # aorta, inferior vena cava, portal and splenic veins
    "#FFF300",  # pancreas
    "#0EA2BD", "#BAFFC2",  # right and left adrenal gland
)  # fmt: skip
"""Of labels 1 to 13, for the organs of BTCV near to an atlas's hues; a label beyond takes them from the start again.

Any two, and each of them and the grey of soft tissue, lie at least 20 apart (CIE 1976), and any two at least 10
(CIEDE2000), for a normal eye and for one without the cones of medium (deuteranope) or of long waves (protanope):
tests/plots/test_colours.py measures it. A random search found them that stayed near to the atlas's hues.
"""

SHORT = {
    "inferior vena cava": "IVC",
    "postcava": "IVC",
    "portal and splenic veins": "portal v.",
    "portal vein and splenic vein": "portal v.",
    "superior mesenteric artery": "SMA",
}


def label_colour(label: Integral) -> str:
    """Colour of a label, the same in every figure."""
    return LABEL_COLOURS[(label - 1) % len(LABEL_COLOURS)]


def label_words(name: str) -> str:
    """A structure's name as a figure writes it: without underscores, and with a dollar sign that begins no formula."""
    return name.replace("_", " ").replace("$", r"\$")


def short_name(name: str, most: int = 14) -> str:
    """A structure's name as it is written into the structure: R kidney, IVC, L adrenal."""
    words = " ".join(name.replace("_", " ").split())
    if words.lower() in SHORT:
        return SHORT[words.lower()]
    for side in ("right", "left"):
        without = re.sub(rf"(?i)\b{side}\b", "", words)
        if without != words:
            words = f"{side[0].upper()} {' '.join(without.split())}"
    words = re.sub(r"(?i)\s+gland$", "", words)
    return label_words(words if len(words) <= most else f"{words[: most - 1].rstrip()}…")
