"""Recipes: read, refused, written out and read again."""

import json

import numpy as np
import pytest
import yaml

from s2dc_core.model import EncoderConfig
from s2dc_core.training import RECIPES, PretrainConfig
from s2dc_core.views import ViewConfig


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_the_project_names_all_its_fields_and_builds(name):
    from importlib import resources

    text = resources.files("s2dc_core.training").joinpath("recipes", f"{name}.yaml").read_text(encoding="utf-8")
    given = yaml.safe_load(text)
    config = PretrainConfig.from_recipe(name)
    # Complete: a default that changes later must not change what a recipe means.
    assert set(given) == set(vars(config))
    assert set(given["encoder"]) == set(vars(config.encoder)) and set(given["views"]) == set(vars(config.views))
    assert config.seed == 0
    config.build()


def test_overrides_replace_fields():
    config = PretrainConfig.from_recipe("teaching", steps=7, seed=3)
    assert (config.steps, config.seed) == (7, 3)
    assert config.encoder == PretrainConfig.from_recipe("teaching").encoder


def test_numbers_of_numpy_are_numbers():
    config = PretrainConfig.from_recipe(
        "teaching", steps=np.int64(7), levels=np.array([1, 2]), learning_rate=np.float32(0.5), seed=np.uint8(3)
    )
    assert config == PretrainConfig.from_recipe("teaching", steps=7, levels=[1, 2], learning_rate=0.5, seed=3)
    direct = PretrainConfig()
    for name, value in {"steps": np.int64(7), "levels": (np.int64(2),), "learning_rate": np.float32(0.5)}.items():
        object.__setattr__(direct, name, value)
    expected = PretrainConfig(steps=7, levels=(2,), learning_rate=0.5)
    assert PretrainConfig.from_dict(json.loads(json.dumps(direct.as_dict()))) == expected
    for wrong in (np.True_, np.float64(2), 2.0, True):
        with pytest.raises(ValueError, match="recipe cannot take steps="):
            PretrainConfig.from_recipe("teaching", steps=wrong)


def test_a_recipe_survives_json_and_yaml(tmp_path):
    config = PretrainConfig(
        encoder=EncoderConfig.teaching(use_v2=False), views=ViewConfig(counts=(2, 1, 1)), levels=(1, 2), clip=1.0
    )
    assert PretrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(config.as_dict()), encoding="utf-8")
    assert PretrainConfig.from_recipe(file) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 3}, "recipe has no field 'stepz': there are steps, .*encoder"),
        ({"encoder": {"window": 4, "depth": 2}}, "encoder has no field 'depth'"),
        ({"views": 3}, "views must name fields and their values, got 3"),
        ({"views": {"counts": [0, 1, 1]}}, "counts must be three numbers"),
        ({"loss": "best"}, "unknown preset 'best'"),
        ({"loss_options": {"sigma": 1}}, "unknown option 'sigma'"),
        ({"loss_options": {"matmul_dtype": "half"}}, "unknown matmul_dtype 'half': choose one of float32, bfloat16"),
        (
            {
                "loss_options": dict.fromkeys(
                    ("contrast_weight", "patch_to_patch_weight", "patch_to_structure_weight"), 0
                )
            },
            "all three weights of the loss are 0",
        ),
        ({"precision": "float8"}, "unknown precision 'float8'"),
        ({"clip": 0}, "clip must be positive"),
        ({"matched_tokens": 0}, "matched_tokens must be at least 1"),
        ({"steps": "many"}, "recipe cannot take steps='many': it must be int"),
        ({"loss_options": {"temperature": "cold"}}, "wrong kind"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig.from_dict(values)


def test_unknown_recipes_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="unknown recipe 'best': give one of .*teaching"):
        PretrainConfig.from_recipe("best")
    with pytest.raises(FileNotFoundError, match="no recipe .*mine.yaml"):
        PretrainConfig.from_recipe(tmp_path / "mine.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="list.yaml holds no recipe"):
        PretrainConfig.from_recipe(tmp_path / "list.yaml")
    (tmp_path / "torn.yaml").write_text("steps: [1,\n", encoding="utf-8")
    with pytest.raises(ValueError, match="torn.yaml is not valid YAML"):
        PretrainConfig.from_recipe(tmp_path / "torn.yaml")
