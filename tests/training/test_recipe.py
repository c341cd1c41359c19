"""Recipes: read, refused, written out and read again."""

import json

import numpy as np
import pytest
import yaml

from s2dc_core.encoder import EncoderConfig
from s2dc_core.library import shipped_record
from s2dc_core.pretraining import RECIPES, PretrainConfig
from s2dc_core.views import ViewConfig


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_the_project_names_all_its_fields_and_builds(name):
    from importlib import resources

    text = (
        resources.files("s2dc_core.pretraining")
        .joinpath("recipes", *f"{name}.yaml".split("/"))
        .read_text(encoding="utf-8")
    )
    given = yaml.safe_load(text)
    config = PretrainConfig.from_recipe(name)
    # Complete: a default that changes later must not change what a recipe means.
    assert set(given) == set(vars(config))
    assert set(given["encoder"]) == set(vars(config.encoder)) and set(given["options"]) == set(vars(config.options))
    if "views" in given["options"]:
        assert set(given["options"]["views"]) == set(vars(config.options.views))
    assert config.seed == 0
    config.build()


def test_recipes_in_folders_are_named_with_them():
    assert {"teaching", "official"} < set(RECIPES) and {"teaching/simmim", "paper/simmim"} < set(RECIPES)
    assert RECIPES.index("teaching") < RECIPES.index("paper/simmim")
    assert PretrainConfig.from_recipe("teaching/simmim").encoder == PretrainConfig.from_recipe("teaching").encoder
    with pytest.raises(ValueError, match="unknown recipe 'simmim': give one of gpu, .*, teaching/simmim.*, or a YAML"):
        PretrainConfig.from_recipe("simmim")


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
    for holder, name, value in (
        (direct, "steps", np.int64(7)),
        (direct.options, "levels", (np.int64(2),)),
        (direct, "learning_rate", np.float32(0.5)),
    ):
        object.__setattr__(holder, name, value)
    expected = PretrainConfig(steps=7, levels=(2,), learning_rate=0.5)
    assert PretrainConfig.from_dict(json.loads(json.dumps(direct.as_dict()))) == expected
    for wrong in (np.True_, np.float64(2), 2.0, True):
        with pytest.raises(ValueError, match="steps must be a whole number"):
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
        ({"stepz": 3}, "recipe has no field 'stepz': did you mean steps"),
        ({"encoder": {"window": 4, "depth": 2}}, "encoder has no field 'depth'"),
        ({"views": 3}, "views must name fields and their values, got 3"),
        ({"views": {"counts": [0, 1, 1]}}, "views.counts must be 3 whole numbers from 1 to 1,024, got .0, 1, 1."),
        ({"loss": "best"}, "unknown loss 'best': choose one of default, paper, official"),
        ({"loss_options": {"sigma": 1}}, "loss_options has no field 'sigma': there are .*temperature"),
        (
            {"loss_options": {"matmul_dtype": "half"}},
            "unknown loss_options.matmul_dtype 'half': choose one of float32, bfloat16",
        ),
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
        ({"steps": "many"}, "steps must be a whole number, got 'many'"),
        ({"loss_options": {"temperature": "cold"}}, "loss_options.temperature must be a number, got 'cold'"),
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


def test_a_field_given_twice_is_refused_with_its_lines(tmp_path):
    file = tmp_path / "twice.yaml"
    file.write_text("steps: 2000\nviews:\n  noise: 0.1\n  noise: 0.2\nbatch: 4\nsteps: 3\nwarmup: -5\n")
    with pytest.raises(ValueError, match="3 things cannot be") as raised:
        PretrainConfig.from_recipe(file)
    for line in (
        "noise is given twice, in lines 3 and 4",
        "steps is given twice, in lines 1 and 6",
        "warmup must be at",
    ):
        assert line in str(raised.value)
    file.write_text("base: &base {noise: 0.1}\nviews:\n  <<: *base\n  noise: 0.2\n")
    with pytest.raises(ValueError, match="^recipe has no field 'base'"):  # what a merge brings in may be replaced
        PretrainConfig.from_recipe(file)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["steps=10", "steps=20"], "steps is given twice: steps=10 and steps=20"),
        (["views.noise=0", "views.noise=0"], "views.noise is given twice"),
        (["views={counts: [1, 1, 1]}", "views.counts=[2, 1, 1]"], "views.counts is given twice"),
        (["views.noise=0", "views={counts: [1, 1, 1]}"], "views is given twice: views.noise=0 and views="),
        (["views={noise: 0, noise: 1}"], "noise is given twice, in line 1"),
        (["clip="], "'clip=' gives no value: write clip=null"),
        (["steps=010"], "steps must be a whole number, got '010'"),
        (["steps=1:30"], "steps must be a whole number, got '1:30'"),
        (["learning_rate=nan"], "learning_rate must be a number, got 'nan'"),
        (["learning_rate=.nan"], "learning_rate must be positive and finite, got nan"),
        (["learning_rate=1e400"], "learning_rate must be positive and finite, got inf"),
        (["learning_rate='1e-3'"], "learning_rate must be a number, got '1e-3'"),
        (["steps=!!python/object/apply:os.getcwd []"], "its value is no YAML"),
        (["encoder.window.side=3"], "encoder.window is one value and has no fields"),
        (["steps=2", "batch", "stepz=3", "seed=-1"], "3 things cannot be"),
    ],
)
def test_assignments_that_cannot_be_are_named(assignments, message):
    with pytest.raises(ValueError, match="(?s).*") as raised:
        PretrainConfig.from_recipe("teaching", assignments)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E5", 1e5), ("2.5e3", 2500.0), (".5", 0.5), ("1.", 1.0), ("1_000.5", 1000.5), ("3", 3)],
)
def test_numbers_are_those_that_people_write(text, value):
    found = PretrainConfig.from_recipe("teaching", [f"loss_options.contrast_temperature={text}"]).options.loss_options
    assert found["contrast_temperature"] == value and type(found["contrast_temperature"]) is type(value)


def test_assignments_leave_what_they_were_given_alone():
    views = {"noise": 0.5}
    config = PretrainConfig.from_recipe("teaching", ["views.rotation_deg=7"], views=views)
    assert (config.options.views.noise, config.options.views.rotation_deg) == (0.5, 7) and views == {"noise": 0.5}
    whole = PretrainConfig.from_recipe("teaching", ["views.noise=0"], views=ViewConfig(counts=(3, 1, 1)))
    assert (whole.options.views.counts, whole.options.views.noise) == ((3, 1, 1), 0)


def test_recipes_of_before_are_still_read():
    """Those of the shipped weights, as their checkpoints hold them."""
    recipe = shipped_record("s2dc")["recipe"]
    read = PretrainConfig.from_dict(recipe).as_dict()
    assert read["method"] == "s2dc" and "method" not in recipe
    read |= read["options"]
    for name, value in recipe.items():
        assert {**read[name], **value} == read[name] if isinstance(value, dict) else value == read[name]
