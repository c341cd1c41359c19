"""Options that cannot be: every one is refused by its name, all at once, and what is accepted can be built."""

import json
import math
import re
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from s2dc_core.downstream import FinetuneConfig
from s2dc_core.encoder import EncoderConfig
from s2dc_core.losses import LossOptions, S2DCLoss
from s2dc_core.methods import METHODS, S2DCOptions, SimMIMOptions
from s2dc_core.methods.parts.genesis import Genesis
from s2dc_core.options import make, nearest, problems_of
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.views import ViewConfig

TINY = {
    "encoder": {
        "embed_dim": 12, "heads": [1, 2, 4, 8], "depths": [1, 1, 1, 1], "window": 2, "sub_volume": [32, 32, 32],
        "use_v2": False,
    },
    "hidden": 8, "out": 4, "views": {"counts": [1, 1, 1]}, "loss_options": {},
}  # fmt: skip

NEVER = {
    "NaN": math.nan, "inf": math.inf, "-inf": -math.inf, "-1": -1, "-0.5": -0.5, "1e300": 1e300, "10**30": 10**30,
    "a word": "abc", "an object": object(), "bytes": b"1", "empty": [], "mapping": {"a": 1}, "NaNs": [math.nan] * 3,
    "words": ["a"] * 4, "nested": [[1], [1], [1]], "booleans": [True] * 3, "negative": [-1] * 3, "zeros": [0] * 4,
    "huge": [10**12] * 3, "seven": [1] * 7, "zero patch": [32, 0, 32],
}  # fmt: skip
"""What no field takes, but a name for weights."""

MAY = {
    "true": {
        "joined", "compile", "one_size", "use_v2", "in_plane", "match_background", "contrast_unit_length",
        "detach_ratio", "pad", "frozen_patch",
    },
    "zero patch": {"SwinUNETROptions.weights", "VICRegLOptions.weights", "GVSLOptions.weights"},
    "seven": {
        "PCRLv2Options.local_sides", "GLMAEOptions.local_sides", "ROTOptions.hidden", "place_matches",
        "feature_matches",
    },
    "None": {
        "clip", "S2DCOptions.norm", "matched_tokens", "gradient_checkpointing", "options", "region",
        "FinetuneConfig.encoder", "FinetuneConfig.levels", "FinetuneConfig.vit", "VoCoOptions.crop",
        "VoCoOptions.momentum", "PositionLabelOptions.pairs", "feature_matches",
    },
    "0": {
        "weight_decay", "warmup", "seed", "S2DCOptions.queue", "momentum", "rotation_deg", "translation_mm",
        "intensity_scale",
        "positive_rotation_deg", "positive_translation_mm", "intensity_shift", "noise", "contrast_weight", "intensity",
        "patch_to_patch_weight", "patch_to_structure_weight", "encoder_rate", "background_share", "flip", "overlap",
        "selection", "turn", "shift", "shift_chance", "reg_weight", "margin", "blur", "gamma", "swapped", "reach",
        "share", "shuffle", "curve", "paint", "falling", "inside", "alpha", "ROTOptions.body", "centre_momentum",
        "RubikOptions.critic",
        *(
            f"{kind}Options.level"
            for kind in (
                "Jigsaw", "PositionLabel", "SwinUNETR", "SwinMM", "ModelsGenesis", "Rubik", "VICRegL", "PCRLv1", "GVSL",
            )
        ),
    },
}  # fmt: skip
"""What some fields take, and which."""

VALUES = {**NEVER, "true": True, "None": None, "0": 0}


OWN = {name: value for name, value in TINY.items() if name != "encoder"}
KINDS = {
    PretrainConfig: {"encoder": EncoderConfig(**TINY["encoder"])},
    S2DCOptions: {**OWN, "views": ViewConfig(**TINY["views"])},
    SimMIMOptions: {},
    FinetuneConfig: {},
    EncoderConfig: TINY["encoder"],
    ViewConfig: {},
    LossOptions: {},
    Genesis: {},
    **{kind: {} for kind in METHODS.values() if kind not in (S2DCOptions, SimMIMOptions)},
}


def is_taken(kind, name, word):
    if (kind, name, word) == (FinetuneConfig, "weights", "a word"):
        return True
    return word in MAY and bool({name, f"{kind.__name__}.{name}"} & MAY[word])


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, each.name) for kind in KINDS for each in fields(kind)],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_each_field_takes_what_it_can_be_and_names_what_it_cannot(kind, name):
    for word, value in VALUES.items():
        values = {**KINDS[kind], name: value}
        problems = problems_of(kind, values)
        if is_taken(kind, name, word):
            assert problems == []
            config = make(kind, values)
            assert make(kind, json.loads(json.dumps(asdict(config)))) == config
        else:
            assert problems and all(name in problem for problem in problems), (word, problems)
    values = {**KINDS[kind], name: math.nan}
    with pytest.raises(ValueError, match=re.escape(problems_of(kind, values)[0])):
        make(kind, values)


SIZES = ("levels", "joined", "hidden", "out", "norm", "momentum", "token_head", "queue")
PERHAPS = (1, 2, 0.5, [1, 1, 1], [2, 2, 2, 2], [3, 2], [48, 48, 48])


@pytest.mark.parametrize("path", [*[("encoder", each.name) for each in fields(EncoderConfig)], *[(n,) for n in SIZES]])
def test_what_is_taken_builds(path):
    """A value that may be right is refused by name, or gives a network."""
    built = 0
    for value in PERHAPS:
        inside = {path[-1]: value}
        values = {**TINY, "encoder": {**TINY["encoder"], **inside}} if len(path) == 2 else {**TINY, **inside}
        try:
            config = PretrainConfig.from_dict(values)
        except ValueError as error:
            assert path[-1] in str(error)
        else:
            config.build()
            built += 1
    assert built or path[-1] in ("joined", "norm", "token_head", "use_v2", "heads")


FIVE = {
    "steps": -1,
    "encoder": {"heads": [5, 2, 4, 8], "window": 0},
    "views": {"noise": math.nan, "count": [1, 1, 1]},
    "loss": "best",
    "loss_options": {"temperature": 0, "sigma": 2},
    "stepz": 10,
}
NAMED = (
    "recipe has no field 'stepz': did you mean steps?",
    "steps must be at least 1, got -1",
    "encoder.window must be at least 1, got 0",
    "encoder: stage 0 has 48 channels, which 5 heads cannot share",
    "views has no field 'count': did you mean counts?",
    "views.noise must be finite and not negative, got nan",
    "unknown loss 'best': choose one of default, paper, official",
    "loss_options has no field 'sigma'",
    "loss_options.temperature must be positive and finite, got 0",
)


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError, match="9 things cannot be") as raised:
        PretrainConfig.from_dict(FIVE)
    lines = str(raised.value).splitlines()
    assert len(lines) == 1 + len(NAMED)
    assert all(any(text in line for line in lines[1:]) for text in NAMED)


def test_python_is_refused_as_yaml_is():
    with pytest.raises(ValueError, match="2 things cannot be:\n  embed_dim must be .*\n  window must be at least 1"):
        EncoderConfig(embed_dim=0, window=0)
    with pytest.raises(ValueError, match="noise must be finite and not negative, got nan"):
        ViewConfig(noise=math.nan)
    with pytest.raises(ValueError, match="2 things cannot be:\n  contrast_weight.*\n  temperature must be positive"):
        S2DCLoss.from_preset("default", temperature=0, contrast_weight=-1)
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        replace(PretrainConfig(), batch=0)


def test_fields_that_disagree_are_named():
    def refused(message, **values):
        with pytest.raises(ValueError, match=message):
            PretrainConfig.from_dict({**TINY, **values})

    small = {**TINY["encoder"], "sub_volume": [16, 16, 16]}
    refused("sub_volume .16, 16, 16. must be multiples of 32, a token at 4 of levels", encoder=small, levels=[4])
    refused("sub_volume .16, 16, 16. must be larger than 16 voxels", encoder={**small, "use_v2": True})
    refused("levels to be joined go from fine to coarse", joined=True, levels=[2, 1])
    refused("learning_rate x weight_decay must be below 1", learning_rate=10, weight_decay=0.5)
    refused("each once, got .1, 1.", levels=[1, 1])
    refused("has no effect on the official form", loss="official", loss_options={"temperature": 0.5})


def test_numbers_of_numpy_and_paths_become_plain(tmp_path):
    numbers = {"steps": np.int64(5), "learning_rate": np.float32(0.5), "levels": [np.int64(1)], "seed": np.uint8(3)}
    config = PretrainConfig.from_dict(numbers)
    assert json.loads(json.dumps(config.as_dict()))["steps"] == 5 and config.options.levels == (1,)
    assert FinetuneConfig.from_dict({"weights": tmp_path}).weights == str(tmp_path)


def test_seeds_reach_to_64_bits():
    PretrainConfig.from_dict({**TINY, "seed": 2**64 - 1}).build()
    with pytest.raises(ValueError, match="seed must be at most 18,446,744,073,709,551,615"):
        PretrainConfig(seed=2**64)


def test_a_name_that_is_like_none_lists_them():
    assert nearest("stpes", ["steps", "batch"]) == ": did you mean steps?"
    assert nearest(7, ["steps", "batch"]) == ": there are steps, batch"
