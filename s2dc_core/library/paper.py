"""The paper's comparisons of methods, as printed: numbers of its authors and of those they quote, none measured here.

Methods have the names of `s2dc_core.methods`; UNETR and SCRATCH are the two rows "from scratch".
"""

UNETR, SCRATCH = "unetr_scratch", "swin_unetr_scratch"

PRINTED = {
    UNETR: "UNETR, from scratch",
    SCRATCH: "Swin-UNETR, from scratch",
    "mae3d": "MAE3D",
    "simclr": "SimCLR",
    "simmim": "SimMIM",
    "moco_v3": "MoCo v3",
    "jigsaw": "Jigsaw",
    "position_label": "PositionLabel",
    "models_genesis": "MG",
    "rot": "ROT",
    "vicregl": "Vicregl",
    "rubik": "Rubik++",
    "pcrlv1": "PCRLv1",
    "pcrlv2": "PCRLv2",
    "swin_unetr": "Swin-UNETR",
    "swinmm": "SwinMM",
    "gl_mae": "GL-MAE",
    "gvsl": "GVSL",
    "voco": "VoCo",
    "s2dc": "S2DC",
}
"""How table 1 calls the methods, in its order."""

RETRAINED = ("swin_unetr", "swinmm", "pcrlv2", "voco")
"""The methods that the authors trained themselves (VoCo not on CT), which figures 5 and 6 show beside S2DC."""

AVERAGE = "AVG"

# Dice (%) on BTCV after fine-tuning, pre-trained on 1k CTs.
_TABLE_1 = """
method Spl RKid LKid Gall Eso Liv Sto Aor IVC Veins Pan RAG LAG AVG
unetr_scratch 93.02 94.13 94.12 66.99 70.87 96.11 77.27 89.22 82.1 70.16 76.65 65.32 59.21 79.82
swin_unetr_scratch 94.06 93.54 93.8 65.61 74.6 97.09 75.94 91.8 82.36 73.63 75.19 68 61.11 80.53
mae3d 93.98 94.37 94.18 69.86 74.64 96.66 80.4 90.3 83.13 72.65 77.11 67.34 60.54 81.33
simclr 92.79 93.04 91.41 49.65 50.99 98.49 77.92 85.56 80.58 64.37 67.16 59.04 48.99 73.85
simmim 95.56 95.82 94.14 52.06 53.52 98.98 80.25 88.11 82.98 66.49 69.16 60.88 50.45 76.03
moco_v3 91.96 92.85 92.42 68.25 72.77 94.91 78.82 88.21 81.59 71.15 75.76 66.48 58.81 79.54
jigsaw 94.62 93.41 93.55 75.63 73.21 95.71 80.8 89.41 84.78 71.02 79.57 65.68 60.22 81.35
position_label 94.35 93.15 93.21 75.39 73.24 95.76 80.69 88.8 84.04 71.18 79.02 65.11 60.07 81.09
models_genesis 91.99 93.52 91.81 65.11 76.41 95.98 86.88 89.29 83.59 71.79 81.62 67.97 63.18 81.45
rot 91.75 93.13 91.62 65.09 76.55 94.21 86.16 89.74 83.08 71.13 81.55 67.9 63.72 81.20
vicregl 90.32 94.15 91.3 65.12 75.41 94.76 86.00 89.13 82.54 71.26 81.01 67.66 63.08 80.89
rubik 96.21 90.41 89.33 75.22 72.64 97.44 79.25 89.65 83.76 74.74 78.35 67.14 61.97 81.38
pcrlv1 95.73 89.66 88.53 75.41 72.33 96.20 78.99 89.11 83.06 74.47 77.88 67.02 61.85 80.78
pcrlv2 95.50 91.43 89.52 76.15 73.54 97.28 79.64 90.16 84.17 75.20 78.71 68.74 62.93 81.74
swin_unetr 95.25 93.16 92.97 63.62 73.96 96.21 79.32 89.98 83.19 76.11 82.25 68.99 65.11 81.54
swinmm 94.33 94.18 94.16 72.97 74.75 96.37 83.23 89.56 82.91 70.65 75.52 69.17 62.90 81.81
gl_mae 94.54 94.39 94.37 73.19 74.93 96.51 83.49 89.74 83.11 70.80 75.71 69.39 63.12 82.01
gvsl 95.27 91.22 92.25 72.69 73.56 96.44 82.40 88.90 84.22 70.84 76.42 67.48 63.25 81.87
voco 95.73 96.53 94.48 76.02 75.60 97.41 78.43 91.21 86.12 78.19 80.88 71.47 67.88 83.85
s2dc 96.24 96.51 94.52 74.27 77.69 96.95 83.33 90.44 86.66 75.22 84.24 68.22 69.73 84.14
"""

# Dice (%), pre-trained on 10k CTs, 6k MRIs or 3k PETs; AVG is of all tasks.
_TABLE_3 = """
method Liver Lung Spleen AutoPET WT TC ET BraTS AVG
swin_unetr_scratch 81.18 59.73 94.20 34.49 92.89 88.28 77.34 86.17 71.15
swin_unetr 81.58 62.46 94.49 43.85 92.70 88.42 78.82 86.64 73.95
swinmm 82.32 61.16 94.60 44.37 92.89 88.54 79.18 86.87 73.86
pcrlv2 82.12 62.39 95.23 42.64 92.81 88.49 78.74 86.68 73.81
voco 82.50 63.34 95.70 45.10 92.90 88.44 78.62 86.65 74.66
s2dc 83.43 64.40 95.73 46.47 92.76 88.71 79.79 87.09 75.47
"""

# Accuracy (%).
_TABLE_4 = """
method CC-CCII ADNI AVG
swin_unetr_scratch 88.04 56.17 72.10
pcrlv2 93.07 56.05 74.56
swin_unetr 94.15 55.95 75.05
swinmm 94.80 56.36 75.58
voco 94.60 56.32 75.46
s2dc 95.34 56.72 76.03
"""

# Accuracy (%) on CC-CCII with a share of the labels.
_TABLE_8 = """
method 10% 50% 100%
swin_unetr 77.15 92.28 94.15
swinmm 87.87 93.50 94.80
voco 86.73 92.43 94.60
s2dc 88.29 93.89 95.34
"""


def paper_table(number: int) -> dict[str, dict[str, float]]:
    """{method: {column: what is printed}} of the paper's table 1 (BTCV), 3, 4 or 8, in its order.

    Raises:
        ValueError: for another number.
    """
    texts = {1: _TABLE_1, 3: _TABLE_3, 4: _TABLE_4, 8: _TABLE_8}
    if number not in texts:
        raise ValueError(f"table must be one of {', '.join(map(str, texts))}, got {number}")
    (_, *columns), *rows = (line.split() for line in texts[number].strip().splitlines())
    return {name: dict(zip(columns, map(float, values), strict=True)) for name, *values in rows}
