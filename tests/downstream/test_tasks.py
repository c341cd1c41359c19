"""What each task draws, learns and scores, and what it refuses."""

import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from s2dc_core.downstream import (
    Classification,
    Example,
    Examples,
    FinetuneConfig,
    ImageToImage,
    Segmentation,
    segmentation,
)
from s2dc_core.encoder import EncoderConfig

CONFIG = FinetuneConfig(region=(16, 12, 8), intensity=0.0)
CPU = torch.device("cpu")
NAMES = {1: "liver", 4: "cyst"}


def case(seed=0, shape=(24, 20, 16), name="case"):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(shape, dtype=torch.int32)
    truth[3:13, 4:12, 2:10] = 1
    truth[15:17, 15:17, 12:14] = 4
    return Example(name, torch.rand((1, *shape), generator=generator) + truth[None], truth, -1.0)


def examples(*cases, targets=None):
    entries = [{"name": each.name} for each in cases]
    for entry, target in zip(entries, targets or [], strict=False):
        entry["target"] = target
    return Examples(entries, lambda entry: next(each for each in cases if each.name == entry["name"]))


class Told(nn.Module):
    """A network that knows the answer for every voxel by its value, whatever window it is given."""

    def forward(self, volume):
        value = volume[:, :1]
        is_liver, is_cyst = (value > 1) & (value < 3), value > 4
        return torch.cat([~(is_liver | is_cyst), is_liver, is_cyst], dim=1).float()


def test_a_crop_is_drawn_by_its_seed_and_image_and_truth_stay_together():
    task, example = Segmentation(NAMES), case()
    one, same, other = (task.draw(example, CONFIG, seed) for seed in (3, 3, 4))
    assert torch.equal(one[0], same[0]) and torch.equal(one[1], same[1]) and not torch.equal(one[0], other[0])
    for seed in range(10):
        image, truth = task.draw(example, replace(CONFIG, flip=0.5), seed)
        assert image.shape == truth.shape == (1, 16, 12, 8)
        assert torch.equal(truth, (image >= 1).int() + (image >= 4).int())


def test_small_structures_are_drawn_as_often_as_large_ones():
    task, example = Segmentation(NAMES), case()
    config = replace(CONFIG, region=(2, 2, 2), background_share=0.2)
    middles = torch.stack([task.draw(example, config, seed)[1][0, 1, 1, 1] for seed in range(400)])
    shares = [float((middles == k).float().mean()) for k in range(3)]
    assert shares == pytest.approx([0.2, 0.4, 0.4], abs=0.12)


def test_labels_are_renumbered_and_regions_are_their_unions():
    task = Segmentation({1: "core", 2: "oedema", 4: "enhancing"}, {"TC": [1, 4], "WT": [1, 2, 4], "ET": [4]})
    truth = torch.tensor([0, 1, 2, 4]).int().reshape(4, 1, 1)
    example = Example("a", torch.zeros(1, 4, 1, 1), truth)
    given = torch.tensor([[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]).bool().reshape(3, 4, 1, 1)
    assert task.outputs == 3 and task.score(given, example) == {"Dice": 1.0, "TC": 1.0, "WT": 1.0, "ET": 1.0}
    encoded = torch.tensor([0, 1, 2, 3]).reshape(1, 1, 4, 1, 1)
    right, wrong = (sign * (given[None].float() - 0.5) for sign in (20, -20))
    assert task.loss(right, encoded) < 0.01 < 1 < task.loss(wrong, encoded), "regions do not compete for a voxel"


def test_windows_that_slide_give_every_voxel_its_answer():
    """Also where the case is smaller than the window, if it may be padded."""
    task = Segmentation(NAMES)
    for config in (CONFIG, replace(CONFIG, region=(32, 32, 32), pad=True)):
        prediction = task.predict(Told(), case(), config, CPU)
        assert prediction.dtype == torch.bool and task.score(prediction, case())["Dice"] == 1


def test_an_absent_class_is_left_out_of_the_mean():
    task, example = Segmentation(NAMES), case()
    without = example._replace(truth=example.truth * (example.truth == 1))
    prediction = task.predict(Told(), example, CONFIG, CPU)
    assert task.score(prediction, without) == {"Dice": 1.0, "liver": 1.0, "invented cyst": 1.0}
    nothing = task.score(torch.zeros_like(prediction), without._replace(truth=torch.zeros_like(without.truth)))
    assert math.isnan(nothing["Dice"]) and nothing["invented liver"] == nothing["invented cyst"] == 0


def test_the_loss_falls_where_the_answer_is_right():
    task = Segmentation(NAMES)
    image, truth = task.draw(case(), CONFIG, 0)
    answer = Told()(image[None])
    assert task.loss(20 * answer, truth[None]) < 0.01 < 1 < task.loss(-20 * answer, truth[None])


def test_a_label_without_a_name_and_a_class_without_a_case_are_named():
    task = Segmentation(NAMES)
    strange = case(name="odd")
    strange.truth[0, 0, 0] = 7
    with pytest.raises(ValueError, match="odd holds the label 7, which has no name: 1 liver, 4 cyst"):
        task.refuse_training(examples(case(), strange))
    with pytest.raises(ValueError, match="odd holds the label 7"):
        task.draw(strange, CONFIG, 0)
    alone = case(name="alone")
    alone = alone._replace(truth=alone.truth * (alone.truth == 1))
    with pytest.raises(ValueError, match="none of the 1 training cases holds cyst"):
        task.refuse_training(examples(alone))
    task.refuse_training(examples(alone, case()))


def test_a_case_smaller_than_the_region_is_named_unless_it_may_be_padded():
    config = replace(CONFIG, region=(32, 16, 16))
    target = case()._replace(truth=torch.rand(24, 20, 16))
    too_small = "case has 24 x 20 x 16 voxels, fewer than the region 32 x 16 x 16"
    for task, example in ((Segmentation(NAMES), case()), (ImageToImage(), target)):
        with pytest.raises(ValueError, match=too_small):
            task.draw(example, config, 0)
        with pytest.raises(ValueError, match=too_small):
            task.predict(Told(), example, config, CPU)
        image, truth = task.draw(example, replace(config, pad=True), 0)
        assert image.shape == truth.shape == (1, 32, 16, 16) and (image == example.background).any()


@pytest.mark.parametrize("region", [(32, 32, 32), (48, 64, 64)])
def test_a_region_that_the_network_cannot_halve_is_named(region):
    config = FinetuneConfig(region=region)
    with pytest.raises(ValueError, match="must be multiples of 32, one of them larger"):
        Segmentation(NAMES).network(EncoderConfig.teaching(), config)


class Plus(nn.Module):
    def forward(self, volume):
        return torch.full_like(volume[:, :1], 0.25)


def test_a_residual_is_learnt_and_added():
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(1, 16, 12, 12, generator=generator)
    example = Example("pet", low, low[0] + 0.25)
    for residual, data_range in ((True, 1.0), (False, None)):
        task = ImageToImage(residual, data_range)
        image, truth = task.draw(example, CONFIG, 1)
        expected = torch.full_like(image, 0.25) if residual else image + 0.25
        assert torch.allclose(truth, expected)
        scores = task.score(task.predict(Plus(), example, CONFIG, CPU), example)
        assert (scores["NMSE"] < 1e-10) == residual and (scores["SSIM"] > 0.999) == residual
    assert float(task.loss(torch.zeros(1, 1, 2, 2, 2), torch.full((1, 1, 2, 2, 2), -0.5))) == 0.5


def test_the_range_is_the_targets_and_the_mask_its_foreground():
    generator = torch.Generator().manual_seed(0)
    target = 4 * torch.rand(13, 13, 13, generator=generator)
    example = Example("mr", target[None], target)
    prediction = torch.where(target >= 1, target + 0.1, target + 3)
    found = ImageToImage(foreground=1.0).score(prediction, example)
    assert found["PSNR"] == pytest.approx(20 * math.log10(float(target.max() - target.min()) / 0.1), abs=1e-3)
    assert found["PSNR"] > ImageToImage().score(prediction, example)["PSNR"] + 10


def test_a_classification_looks_at_the_whole_case():
    task = Classification({0: "normal", 2: "ill"})
    image, truth = task.draw(Example("a", torch.rand(1, 24, 20, 16), 2), CONFIG, 0)
    assert image.shape == (1, 16, 12, 8) and truth == 1
    right = torch.tensor([[-20.0, 20.0]])
    assert task.loss(right, truth[None]) < 0.01 < 1 < task.loss(-right, truth[None])
    assert task.score(torch.tensor([0.1, 0.9]), Example("a", image, 2)) == {"accuracy": 1.0, "said": 2.0, "is": 2.0}
    assert task.score(torch.tensor([0.9, 0.1]), Example("a", image, 2))["accuracy"] == 0
    with pytest.raises(ValueError, match="b is of the class 1, which has no name"):
        task.draw(Example("b", torch.rand(1, 4, 4, 4), 1), CONFIG, 0)
    with pytest.raises(ValueError, match="none of the 1 training cases is ill"):
        task.refuse_training(examples(Example("a", image, 0), targets=[0]))


def test_names_that_make_no_task_are_refused():
    with pytest.raises(ValueError, match="names of labels from 1 up"):
        Segmentation({0: "background"})
    with pytest.raises(ValueError, match="two classes or more"):
        Classification({0: "only"})


def test_where_a_crop_may_lie_is_found_once_for_a_case(monkeypatch):
    """The same crops as without, also padded; another case, and a copy in another process, find their own."""
    found, plain = [], segmentation.map_classes_to_indices
    monkeypatch.setattr(segmentation, "map_classes_to_indices", lambda *a, **k: found.append(1) or plain(*a, **k))
    truth = torch.zeros(20, 18, 16, dtype=torch.int32)
    truth[2:9, 3:7, 4:12], truth[12:15, 10:14, 2:5] = 3, 7
    example = Example("case", torch.rand(1, 20, 18, 16), truth)
    config = FinetuneConfig(region=(8, 8, 24), pad=True, flip=0.5)
    task = Segmentation({3: "one", 7: "other"})
    crops = [task.draw(example, config, seed) for seed in range(6)]
    assert len(found) == 1 and {int(v) for _, each in crops for v in each.unique()} == {0, 1, 2}
    for seed, (image, label) in enumerate(crops):
        own = Segmentation({3: "one", 7: "other"}).draw(example, config, seed)
        assert torch.equal(own[0], image) and torch.equal(own[1], label)
    task.draw(example._replace(truth=truth.clone()), config, 0)
    assert len(found) == 8 and pickle.loads(pickle.dumps(task))._centres == {}
