"""Which stages a loss can train: by the levels it reads."""

from dataclasses import replace

import pytest

from s2dc_core.pretraining.reach import STAGES, gradient_reach
from tests.pretraining.test_pretrain import CONFIG, blobs


@pytest.mark.parametrize(("levels", "reached"), [((0,), 1), ((1,), 2), ((2,), 3), ((0, 1), 2)])
def test_a_structure_loss_reaches_the_stages_up_to_its_level(levels, reached):
    found = gradient_reach(replace(CONFIG, levels=levels, matched_tokens=30), blobs())
    for term in ("patch_to_patch", "patch_to_structure"):
        assert [norm > 0 for norm in found.norms[term].values()] == [k < reached for k in range(5)]
        assert found.share(term) == pytest.approx(sum(list(found.weights.values())[:reached]))
    assert all(norm > 0 for norm in found.norms["contrast"].values())
    assert found.share("contrast") == pytest.approx(1) and list(found.weights) == list(STAGES)


def test_v2_convolutions_belong_to_their_stage():
    plain = CONFIG.encoder
    config = replace(CONFIG, encoder=replace(plain, use_v2=True, sub_volume=(32,) * 3), batch=1)
    scan = blobs()
    found = gradient_reach(replace(config, levels=(1,)), scan)
    assert [norm > 0 for norm in found.norms["patch_to_patch"].values()] == [True, True, False, False, False]
    with_v2, without = (
        sum(p.numel() for p in c.build().student.encoder.swinViT.layers1.parameters()) for c in (config, CONFIG)
    )
    assert with_v2 == without  # what v2 adds lies in layers1c
    assert found.weights["layers1"] > 0
