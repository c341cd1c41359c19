"""Geometry: equations 2 and 3, the warp, and that both belong together."""

import itertools
import math

import pytest
import torch

from s2dc_core.geometry import (
    TOLERANCE,
    affine_about_centre,
    grid_of,
    ground_truth_matches,
    inverse,
    lay_back,
    pull,
    random_affine,
    split_region,
    token_centres,
    transform_points,
    warp,
)

IDENTITY = torch.eye(4, dtype=torch.float64)


def brute_force(H, grid, patch):
    """Equations 2 and 3 read aloud: every pair of tokens, both boxes."""
    centres = token_centres(grid, patch)
    half = torch.tensor(patch, dtype=torch.float64) / 2 + TOLERANCE
    forward = transform_points(H, centres)
    backward = transform_points(torch.linalg.inv(H), centres)
    forth = ((forward[:, None] - centres[None]).abs() <= half).all(-1)
    back = ((backward[None] - centres[:, None]).abs() <= half).all(-1)
    return (forth & back).nonzero()


def random_cases(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [((5, 6, 7), (4, 4, 4)), ((6, 6, 3), (8, 8, 8)), ((4, 5, 6), (2, 4, 8)), ((7, 4, 5), (1, 3, 5))]
    for index in range(count):
        grid, patch = shapes[index % len(shapes)]
        shape = [g * p for g, p in zip(grid, patch, strict=True)]
        spacing = (0.5 + 2.5 * torch.rand(3, generator=generator)).tolist()
        H = random_affine(shape, spacing, 180.0 if index % 5 == 0 else 40.0, (0.7, 1.4), 12.0, generator)
        yield H, grid, patch, shape


def translation(*shift):
    H = IDENTITY.clone()
    H[:3, 3] = torch.tensor(shift, dtype=torch.float64)
    return H


def test_token_centres_follow_the_convention():
    centres = token_centres((2, 3, 2), (4, 2, 1))
    expected = [[a * 4 + 1.5, b * 2 + 0.5, c * 1.0] for a, b, c in itertools.product(range(2), range(3), range(2))]
    torch.testing.assert_close(centres, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_matches_equal_brute_force_on_random_affines(seed):
    """Implements Eqs. (2) and (3) by definition, over every pair."""
    for H, grid, patch, _ in random_cases(40, seed):
        matches = ground_truth_matches(H, grid, patch)
        torch.testing.assert_close(torch.stack(matches[1:], 1), brute_force(H, grid, patch))


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, 0, 0), (2, 2, 2), (4, -8, 0), (1, 0.5, 3), (2 + 1e-10, 0, 0)])
@pytest.mark.parametrize("patch", [(4, 4, 4), (2, 4, 8)])
def test_matches_equal_brute_force_on_borders_of_boxes(shift, patch):
    H = translation(*shift)
    matches = ground_truth_matches(H, (4, 3, 3), patch)
    torch.testing.assert_close(torch.stack(matches[1:], 1), brute_force(H, (4, 3, 3), patch))


@pytest.mark.parametrize(("axis", "sign"), list(itertools.product(range(3), (-1, 1))))
def test_quarter_turns_and_flips_equal_brute_force(axis, sign):
    turn = [0.0, 0.0, 0.0]
    turn[axis] = 90.0 * sign
    H = affine_about_centre((16, 16, 16), (1, 1, 1), rotation_deg=turn)
    matches = ground_truth_matches(H, (4, 4, 4), (4, 4, 4))
    torch.testing.assert_close(torch.stack(matches[1:], 1), brute_force(H, (4, 4, 4), (4, 4, 4)))
    assert len(matches.source) == 64


def test_shears_reflections_and_single_precision_equal_brute_force():
    """Any affine that can be inverted, not only the rigid ones that the views draw."""
    generator = torch.Generator().manual_seed(11)
    pairs = 0
    for index in range(60):
        H = IDENTITY.clone()
        H[:3, :3] += 0.5 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
        if index % 3 == 0:
            H[index % 9 // 3] *= -1
        H[:3, 3] = torch.tensor([8.0, 8, 8]) - H[:3, :3] @ torch.tensor([8.0, 8, 8], dtype=torch.float64)
        H = H.float() if index % 2 else H
        matches = ground_truth_matches(H, (4, 4, 5), (4, 4, 3))
        torch.testing.assert_close(torch.stack(matches[1:], 1), brute_force(H.double(), (4, 4, 5), (4, 4, 3)))
        pairs += len(matches.source)
    assert pairs > 300


def test_identity_matches_every_token_with_itself():
    matches = ground_truth_matches(IDENTITY, (3, 4, 5), (2, 2, 2))
    assert torch.equal(matches.source, torch.arange(60)) and torch.equal(matches.target, torch.arange(60))


def test_half_patch_shift_gives_two_matches_a_token():
    """The intervals of Eq. (3) are closed: the point on the border belongs to both boxes."""
    matches = ground_truth_matches(translation(2, 0, 0), (6, 2, 2), (4, 4, 4))
    per_source = torch.bincount(matches.source, minlength=24)
    assert per_source[:20].eq(2).all() and per_source[20:].eq(1).all()


@pytest.mark.parametrize(("shift", "matches"), [(2 + 1e-10, 2), (2 + 1e-8, 1)])
def test_the_stated_tolerance_decides_at_the_border(shift, matches):
    """Written out: 1e-10 voxel beyond half a patch still counts, 1e-8 does not."""
    found = ground_truth_matches(translation(shift, 0, 0), (6, 2, 2), (4, 4, 4))
    assert (torch.bincount(found.source, minlength=24)[:20] == matches).all()


def test_shift_beyond_the_region_gives_no_match():
    matches = ground_truth_matches(translation(100, 0, 0), (4, 4, 4), (4, 4, 4))
    assert len(matches.source) == 0 and torch.equal(matches.per_region(1), torch.zeros(1, dtype=torch.long))


def test_inverse_swaps_source_and_target():
    for H, grid, patch, _ in random_cases(8, seed=7):
        forth = ground_truth_matches(H, grid, patch)
        back = ground_truth_matches(torch.linalg.inv(H), grid, patch)
        pairs = set(zip(forth.source.tolist(), forth.target.tolist(), strict=True))
        assert pairs == set(zip(back.target.tolist(), back.source.tolist(), strict=True))


def test_batch_equals_one_by_one_and_masks_remove_matches():
    H = torch.stack([affine_about_centre((16,) * 3, (1, 1, 2), (0, 0, a), 1.0, (a, 0, 2)) for a in (0.0, 5.0, 20.0)])
    generator = torch.Generator().manual_seed(1)
    source, target = torch.rand(2, 3, 64, generator=generator) > 0.3
    matches = ground_truth_matches(H, (4, 4, 4), (4, 4, 4), source, target)
    for index in range(3):
        alone = ground_truth_matches(H[index], (4, 4, 4), (4, 4, 4), source[index], target[index])
        here = matches.batch == index
        assert torch.equal(matches.source[here], alone.source) and torch.equal(matches.target[here], alone.target)
    unmasked = ground_truth_matches(H, (4, 4, 4), (4, 4, 4))
    assert 0 < len(matches.source) < len(unmasked.source)
    assert source[matches.batch, matches.source].all() and target[matches.batch, matches.target].all()
    assert torch.equal(matches.per_region(3), torch.bincount(matches.batch, minlength=3))


def test_matches_agree_with_the_warp_on_a_coordinate_volume(record_property):
    """The proof: a volume that holds its own coordinates is warped, and each match must find its source there.

    Over 240 random affines; centres where the channel of ones is not whole (the warp reached outside the volume)
    are left out and counted.
    """
    checked = wrong = left_out = 0
    cases = [((12, 10, 8), (4, 4, 4)), ((10, 10, 5), (4, 4, 8)), ((8, 8, 8), (5, 5, 5)), ((7, 9, 11), (5, 3, 4))]
    generator = torch.Generator().manual_seed(2)
    for index in range(240):
        grid, patch = cases[index % len(cases)]
        shape = [g * p for g, p in zip(grid, patch, strict=True)]
        spacing = (0.6 + 2 * torch.rand(3, generator=generator)).tolist()
        H = random_affine(shape, spacing, 30.0, (0.9, 1.2), 12.0, generator)
        axes = torch.meshgrid(*[torch.arange(s, dtype=torch.float64) for s in shape], indexing="ij")
        carried = warp(torch.stack([*axes, torch.ones(shape, dtype=torch.float64)])[None], H)[0]
        matches = ground_truth_matches(H, grid, patch)
        centres = token_centres(grid, patch)
        at = centres[matches.target]
        found = sample_between_voxels(carried, at)
        whole = found[:, 3] >= 1 - 1e-6
        off = (found[:, :3] - centres[matches.source]).abs()
        half = torch.tensor(patch, dtype=torch.float64) / 2 + 1e-3
        wrong += int((off > half)[whole].any(-1).sum())
        checked += int(whole.sum())
        left_out += int((~whole).sum())
    record_property("matches_checked", checked)
    record_property("centres_left_out", left_out)
    print(f"\n{checked} matches checked, {wrong} wrong, {left_out} centres left out (warp reached outside the volume)")
    assert checked >= 50_000
    assert wrong == 0


def sample_between_voxels(volume, points):
    """Trilinear value of [C, X, Y, Z] at points [P, 3], written out; the neighbours must lie inside."""
    low = points.floor().long()
    total = torch.zeros(len(points), len(volume), dtype=volume.dtype)
    for corner in itertools.product((0, 1), repeat=3):
        at = low + torch.tensor(corner)
        weight = (1 - (points - at).abs()).clamp(min=0).prod(-1)
        at = torch.minimum(at, torch.tensor(volume.shape[1:]) - 1)
        total += weight[:, None] * volume[:, at[:, 0], at[:, 1], at[:, 2]].T
    return total


def test_a_wrong_translation_is_caught_by_the_coordinate_volume():
    """The published slip: rotation and scale inverted, the translation left as it was. The proof must notice."""
    H = affine_about_centre((40, 40, 24), (1, 1, 1), (0, 0, 25), 1.1, (8, 6, 0))
    centre = torch.tensor([19.5, 19.5, 11.5], dtype=torch.float64)
    slipped = H.clone()
    slipped[:3, 3] = torch.tensor([8.0, 6, 0], dtype=torch.float64) @ torch.linalg.inv(H[:3, :3]).T
    slipped[:3, 3] += centre - H[:3, :3] @ centre
    axes = torch.meshgrid(*[torch.arange(s, dtype=torch.float64) for s in (40, 40, 24)], indexing="ij")
    carried = warp(torch.stack([*axes, torch.ones(40, 40, 24, dtype=torch.float64)])[None], H)[0]
    matches = ground_truth_matches(slipped, (10, 10, 6), (4, 4, 4))
    centres = token_centres((10, 10, 6), (4, 4, 4))
    found = sample_between_voxels(carried, centres[matches.target])
    whole = found[:, 3] >= 1 - 1e-6
    off = (found[whole, :3] - centres[matches.source[whole]]).abs().amax(-1)
    assert (off > 2 + 1e-3).float().mean() > 0.1


def test_warp_by_an_integer_shift_is_a_copy():
    volume = torch.rand(1, 2, 6, 5, 4, dtype=torch.float64)
    moved = warp(volume, translation(2, -1, 0), fill=-3.0)
    torch.testing.assert_close(moved[:, :, 2:, :-1], volume[:, :, :-2, 1:])
    assert moved[:, :, :2].eq(-3).all() and moved[:, :, :, -1].eq(-3).all()


def test_warp_by_a_quarter_turn_is_a_rotation_of_the_array():
    volume = torch.rand(1, 1, 6, 6, 5, dtype=torch.float64)
    H = affine_about_centre((6, 6, 5), (1, 1, 1), rotation_deg=(0, 0, 90))
    torch.testing.assert_close(warp(volume, H), torch.rot90(volume, 1, dims=(2, 3)), atol=1e-9, rtol=0)


def test_warp_carries_a_voxel_to_h_of_it():
    """out(H p) = volume(p) on a linear volume, where trilinear interpolation is exact."""
    shape = (12, 10, 8)
    axes = torch.meshgrid(*[torch.arange(s, dtype=torch.float64) for s in shape], indexing="ij")
    volume = (2 * axes[0] - axes[1] + 0.5 * axes[2])[None, None]
    H = affine_about_centre(shape, (1, 2, 3), (10, -5, 20), 1.1, (1, -2, 0.5))
    points = torch.tensor([[5.0, 5, 4], [6, 4, 3], [4.5, 6, 3.2]], dtype=torch.float64)
    found = sample_between_voxels(warp(volume, H)[0], transform_points(H, points))[:, 0]
    torch.testing.assert_close(found, points @ torch.tensor([2, -1, 0.5], dtype=torch.float64))


def test_warp_batches_its_matrices_and_keeps_labels_whole():
    volume = torch.randint(0, 9, (2, 1, 8, 8, 8)).float()
    H = torch.stack([IDENTITY, affine_about_centre((8, 8, 8), (1, 1, 1), (0, 30, 0))])
    moved = warp(volume, H, mode="nearest")
    torch.testing.assert_close(moved[0], volume[0])
    assert set(moved.unique().tolist()) <= set(volume.unique().tolist()) | {0.0}
    torch.testing.assert_close(moved[1:], warp(volume[1:], H[1], mode="nearest"))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.float64])
def test_warp_takes_label_maps_of_any_type(dtype):
    labels = torch.randint(0, 2, (1, 1, 6, 6, 6)).to(dtype)
    moved = warp(labels, translation(1, 0, 0), mode="nearest", fill=0)
    assert moved.dtype == dtype and torch.equal(moved[:, :, 1:], labels[:, :, :-1])


def test_nearest_rounds_halves_one_way_and_loses_no_plane():
    labels = torch.arange(8).reshape(1, 1, 8, 1, 1)
    moved = warp(labels, translation(0.5, 0, 0), mode="nearest", fill=-1)
    assert moved.flatten().tolist() == list(range(8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_geometry(dtype):
    """The coordinates of a wide volume do not fit into half precision; only its values are rounded."""
    volume = torch.rand(1, 1, 200, 6, 6)
    H = affine_about_centre((200, 6, 6), (1, 1, 1), (0, 0, 5), 1.1, (3, 0, 0))
    expected = warp(volume.to(dtype).float(), H)
    torch.testing.assert_close(warp(volume.to(dtype), H).float(), expected, atol=5e-3, rtol=1e-2)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("mode", ["trilinear", "nearest"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_volume_that_requires_a_gradient_is_warped_alike_and_gets_it(count, mode, threads):
    """The derivative of a linear map is the map itself: <warp(v + d) - warp(v), w> = <d, gradient>, here exactly."""
    generator = torch.Generator().manual_seed(0)
    volume, change, weight = torch.randn(3, count, 2, 6, 5, 4, generator=generator, dtype=torch.float64)
    H = torch.stack(
        [affine_about_centre((6, 5, 4), (1, 2, 1), (10, 20 * k, 5), 1.1, (1, 0, 0.5)) for k in range(count)]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = warp(volume.requires_grad_(), H, mode, fill=0.5)
        (gradient,) = torch.autograd.grad((found * weight).sum(), volume)
        plain, moved = (warp(v, H, mode, fill=0.5) for v in (volume.detach(), volume.detach() + change))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.detach(), plain) and gradient.abs().max() > 0
    torch.testing.assert_close((change * gradient).sum(), ((moved - plain) * weight).sum())
    if mode == "trilinear":
        assert torch.autograd.gradcheck(lambda v: warp(v, H), volume[:, :1, :3, :3, :2].detach().requires_grad_())


@pytest.mark.parametrize("shape", [(12, 7, 5), (16, 16, 8), (7, 6, 5), (1, 4, 4)])
@pytest.mark.parametrize("channels", [1, 2])
def test_one_volume_alone_is_warped_bit_for_bit_as_in_a_batch(shape, channels):
    """Alone it is sampled in slabs, one a thread: what a region becomes must not depend on its batch."""
    volume = torch.randn(3, channels, *shape, generator=torch.Generator().manual_seed(0))
    H = torch.stack([affine_about_centre(shape, (1, 1, 1), (0, 9 * k, 20), 1.05, (1, 0, 0)) for k in range(3)])
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = warp(volume, H, fill=-1.0)
        alone = [warp(volume[k : k + 1], H[k], fill=-1.0) for k in range(3)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.cat(alone), together)


def test_warp_knows_outside_on_a_single_slice():
    volume = torch.ones(1, 1, 4, 4, 1)
    assert warp(volume, translation(0, 0, 3), fill=-1.0).eq(-1).all()
    torch.testing.assert_close(warp(volume, IDENTITY), volume)


def test_motion_is_rigid_in_millimetres():
    """Distances in millimetres change by the scale alone, whatever the spacing."""
    spacing = torch.tensor([0.7, 0.8, 5.0], dtype=torch.float64)
    H = affine_about_centre((40, 40, 12), spacing.tolist(), (20, 30, -15), 1.3, (4, -6, 3))
    points = torch.rand(20, 3, dtype=torch.float64) * 30
    before = torch.pdist(points * spacing)
    after = torch.pdist(transform_points(H, points) * spacing)
    torch.testing.assert_close(after, 1.3 * before)


def test_affine_about_centre_keeps_the_centre_and_adds_the_translation():
    H = affine_about_centre((9, 7, 5), (2, 1, 4), (33, 12, -8), 0.8, (6, -3, 8))
    centre = torch.tensor([[4.0, 3, 2]], dtype=torch.float64)
    shift = torch.tensor([[3.0, -3, 2]], dtype=torch.float64)
    torch.testing.assert_close(transform_points(H, centre), centre + shift)


def test_random_affine_stays_in_its_ranges_and_repeats_with_its_seed():
    generator, axes = torch.Generator().manual_seed(3), []
    for _ in range(200):
        H = random_affine((20, 20, 20), (1.0, 1.0, 1.0), 30.0, (0.9, 1.2), 5.0, generator)
        scale = torch.linalg.det(H[:3, :3]) ** (1 / 3)
        angle = torch.rad2deg(torch.arccos((torch.trace(H[:3, :3] / scale) - 1) / 2))
        centre = torch.full((1, 3), 9.5, dtype=torch.float64)
        assert 0.9 <= scale <= 1.2 and angle <= 30.001
        assert (transform_points(H, centre) - centre).abs().max() <= 5
        skew = (H[:3, :3] - H[:3, :3].T) / scale
        axes.append(torch.stack([skew[2, 1], skew[0, 2], skew[1, 0]]))
    spread = torch.stack(axes).std(0)
    assert (spread > 0.1).all() and spread.max() < 2 * spread.min()  # about any axis, not one
    again = [
        random_affine((8, 8, 8), (1, 1, 2), 30.0, (0.9, 1.2), 5.0, torch.Generator().manual_seed(4)) for _ in range(2)
    ]
    assert torch.equal(*again)


def test_lay_back_undoes_split_region():
    region = torch.rand(2, 3, 8, 12, 6)
    parts = split_region(region, (4, 4, 3))
    assert parts.shape == (2 * 12, 3, 4, 4, 3)
    torch.testing.assert_close(lay_back(parts, (2, 3, 2)), region)
    torch.testing.assert_close(parts[1], region[0, :, :4, :4, 3:])


def test_bad_input_is_named():
    singular = IDENTITY.clone()
    singular[0, 0] = 0
    with pytest.raises(ValueError, match="cannot be inverted"):
        ground_truth_matches(singular, (2, 2, 2), (2, 2, 2))
    with pytest.raises(ValueError, match="finite affine"):
        warp(torch.zeros(1, 1, 4, 4, 4), IDENTITY * float("nan"))
    with pytest.raises(ValueError, match="unknown mode 'cubic'"):
        warp(torch.zeros(1, 1, 4, 4, 4), IDENTITY, mode="cubic")
    with pytest.raises(ValueError, match="int64 cannot be interpolated: use mode='nearest'"):
        warp(torch.zeros(1, 1, 4, 4, 4, dtype=torch.long), IDENTITY)
    with pytest.raises(ValueError, match=r"\(10, 8, 8\).*\(4, 4, 4\)"):
        grid_of((10, 8, 8), (4, 4, 4))
    with pytest.raises(ValueError, match="must be positive"):
        affine_about_centre((8, 8, 8), (1, 0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_in_plane_a_positive_angle_turns_x_towards_y(seed):
    """H written out from the generator's own numbers: which of them is the angle, and which way it turns."""
    H = random_affine((9, 9, 5), (1, 1, 1), 40.0, (0.8, 1.2), 3.0, torch.Generator().manual_seed(seed), in_plane=True)
    generator = torch.Generator().manual_seed(seed)
    torch.randn(3, generator=generator, dtype=torch.float64)  # the axis, drawn and not used
    angle, where, *shift = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    turn, scale = math.radians((2 * angle - 1) * 40), 0.8 + 0.4 * where
    x_axis = transform_points(H, torch.tensor([[4.0, 4, 2], [5, 4, 2]], dtype=torch.float64)).diff(dim=0)[0]
    expected = torch.tensor([scale * math.cos(turn), scale * math.sin(turn), 0.0], dtype=torch.float64)
    torch.testing.assert_close(x_axis, expected)
    centre = transform_points(H, torch.tensor([[4.0, 4, 2]], dtype=torch.float64))[0]
    moved = torch.tensor([(2 * s - 1) * 3 for s in shift[:2]] + [0.0], dtype=torch.float64)
    torch.testing.assert_close(centre - torch.tensor([4.0, 4, 2], dtype=torch.float64), moved)


def test_a_rotation_turns_about_its_vector_by_the_right_hand():
    """z: x to y; x: y to z; y: z to x."""
    for axis in range(3):
        turn = [0.0, 0.0, 0.0]
        turn[axis] = 90.0
        H = affine_about_centre((5, 5, 5), (1, 1, 1), turn)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        assert H[second, first].item() == pytest.approx(1) and H[first, second].item() == pytest.approx(-1)


def test_in_plane_nothing_moves_along_the_last_axis_and_elsewhere_it_does():
    shape, spacing = (32, 32, 16), (1.0, 1.0, 2.0)
    generator = torch.Generator().manual_seed(0)
    for in_plane in (True, False):
        H = random_affine(shape, spacing, 30, (1.0, 1.0), 10, generator, in_plane)
        along = H[2, :3] - torch.tensor([0.0, 0.0, 1.0], dtype=H.dtype)
        assert (along.abs().max() < 1e-12 and abs(float(H[2, 3])) < 1e-12) == in_plane
        assert abs(float(torch.linalg.det(H[:3, :3])) - 1) < 1e-9 and not torch.equal(H[:2, :2], torch.eye(2).double())


def test_pull_is_warp_without_the_inverse():
    volume = torch.randn(2, 1, 8, 6, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    H = affine_about_centre((8, 6, 10), (1.0, 2.0, 1.0), (10.0, 0.0, -5.0), 1.1, (1.0, 0.0, -2.0))
    H = H.expand(2, 4, 4)
    fill = torch.tensor([0.5, -1.0])
    assert torch.equal(pull(volume, inverse(H), fill=fill), warp(volume, H, fill=fill))
    still = torch.zeros(2, 3, 8, 6, 10, dtype=torch.float64)
    torch.testing.assert_close(pull(volume, inverse(H), still, fill), warp(volume, H, fill=fill))


def test_pull_reads_a_volume_at_g_of_q_and_u():
    """A volume of its own coordinates says where it was read."""
    axes = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) for side in (8, 6, 10)], indexing="ij")
    own = torch.stack(axes)[None]
    G = affine_about_centre((8, 6, 10), (1.0,) * 3, (4.0, 3.0, 0.0), 0.5)[None]
    shift = 0.5 * torch.randn(1, 3, 8, 6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = pull(own, G, shift)
    expected = torch.einsum("ij,bjxyz->bixyz", G[0, :3, :3], own + shift) + G[:, :3, 3, None, None, None]
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_pull_has_a_gradient_for_where_it_reads():
    volume = torch.randn(2, 1, 4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    G = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    G[:, :3] += 0.03 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.01
    shift = 0.2 * torch.rand(2, 3, 4, 5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    places = G.requires_grad_(), shift.requires_grad_()
    assert torch.autograd.gradcheck(lambda G, shift: pull(volume, G, shift, 0.5), places, eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(lambda G: pull(volume, G), places[:1], eps=1e-7, atol=1e-5)
