"""Implicit shapes against what is known of them in closed form."""

import numpy as np
import pytest

from s2dc_core.data.shapes import Canvas, ellipsoid, rotation, smooth_field, smooth_max, smooth_min, through

AXES = [np.arange(-30.0, 31), np.arange(-25.0, 26), np.arange(-20.0, 21)]
GRID = np.meshgrid(*[a.astype(np.float32) for a in AXES], indexing="ij")


def canvas():
    return Canvas(list(GRID), {"nothing": 0, "fat": 1, "organ": 2}, {"air": 0, "fat": 1, "organ": 2})


def test_a_sphere_is_exact_and_an_ellipsoid_has_its_volume():
    distance = ellipsoid(*GRID, (3, -2, 1), (10, 10, 10))
    exact = np.sqrt((GRID[0] - 3) ** 2 + (GRID[1] + 2) ** 2 + (GRID[2] - 1) ** 2) - 10
    np.testing.assert_allclose(distance, exact, atol=2e-2)
    inside = (ellipsoid(*GRID, (0, 0, 0), (18, 9, 6), rotation(20, -30, 50)) < 0).sum()
    assert inside == pytest.approx(4 / 3 * np.pi * 18 * 9 * 6, rel=0.02)


def test_rotations_are_right_handed():
    np.testing.assert_allclose(rotation(0, 0, 90) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    turn = rotation(20, -30, 50)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_smooth_unions_and_intersections_stay_near_the_sharp_ones():
    one, other = ellipsoid(*GRID, (-5, 0, 0), (10, 10, 10)), ellipsoid(*GRID, (5, 0, 0), (10, 10, 10))
    assert (smooth_max(one, other, 6.0) - np.maximum(one, other)).min() >= 0
    assert (smooth_max(one, other, 6.0) - np.maximum(one, other)).max() <= 6 / 4 + 1e-4
    np.testing.assert_allclose(smooth_min(one, other), -smooth_max(-one, -other))


def test_a_field_depends_on_the_place_and_not_on_the_grid():
    whole = smooth_field(np.random.default_rng(1), AXES, 12)
    part = smooth_field(np.random.default_rng(1), [AXES[0][5:20], AXES[1][::2], AXES[2][:1]], 12)
    np.testing.assert_allclose(part, whole[5:20, ::2, :1], atol=1e-5)
    wide = smooth_field(np.random.default_rng(2), [np.arange(-300.0, 300, 8)] * 3, 12)
    assert abs(wide.mean()) < 0.05 and 0.85 < wide.std() < 1.15


def test_a_curve_passes_its_points_and_a_tube_has_its_radius():
    points = np.array([(-20.0, 0, 0, 4), (0, 0, 0, 4), (20, 0, 0, 4)])
    curve = through(points, 3.0)
    assert all(np.abs(curve - point).max(axis=1).min() < 1e-9 for point in points)
    body = canvas()
    for region, distance in body.tube(points):
        body.paint(region, distance < 0, "organ", "organ")
    straight = np.hypot(GRID[1], GRID[2]) < 4
    middle = np.abs(GRID[0]) < 18
    np.testing.assert_array_equal((body.tissue == 2) & middle, straight & middle)


def test_paint_covers_only_what_it_may():
    body = canvas()
    whole = (slice(None),) * 3
    body.paint(whole, GRID[0] < 0, "fat", "fat")
    body.paint(whole, GRID[1] < 0, "organ", "organ", over=["fat"])
    np.testing.assert_array_equal(body.tissue == 2, (GRID[0] < 0) & (GRID[1] < 0))
    body.paint(whole, GRID[2] < 0, None, "air", over=["organ"])
    assert (body.tissue == 2).sum() > (body.material == 2).sum() > 0
    outside = body.region((100, 100, 100), (120, 120, 120))
    assert body.x[outside].size == 0 and body.tube(np.array([(90.0, 0, 0, 3), (99, 0, 0, 3)])) == []
