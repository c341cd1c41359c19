"""Exercises of notebook 01: equation 3's test, the way back, a rotation in millimetres, and a wrong translation."""

import numpy as np
import torch

from s2dc_core import geometry as geo
from s2dc_core.exercises import Exercise, as_tensor, explained

GRID, PATCH = (5, 4, 6), (8, 12, 6)
SHAPE = tuple(g * p for g, p in zip(GRID, PATCH, strict=True))


def motion(scale=1.0, rotation=(10, -15, 20), shift=(5, -3, 4)):
    """An affine about the centre of a region of SHAPE voxels of 1 mm."""
    return geo.affine_about_centre(SHAPE, (1, 1, 1), rotation, scale, shift)


def affine(linear, shift):
    """The matrix [4, 4] of x -> linear x + shift."""
    H = torch.eye(4, dtype=torch.float64)
    H[:3, :3], H[:3, 3] = linear, shift
    return H


def boxes(H, source, target, size, way_back=geo.inverse):
    """Whether H(c_i) lies in the box of j on each axis, and c_j's way back in the box of i, [N, M, 3] both."""
    there, back = geo.transform_points(H, source), geo.transform_points(way_back(H), target)
    half = torch.as_tensor(size) / 2 + geo.TOLERANCE
    return (there[:, None] - target).abs() <= half, (back - source[:, None]).abs() <= half


def in_balls(H, source, target, radius):
    """Whether both distances are at most a radius, or within half axes [3]."""
    there, back = geo.transform_points(H, source), geo.transform_points(geo.inverse(H), target)
    radius = torch.as_tensor(radius, dtype=torch.float64)
    far = torch.stack([(there[:, None] - target) / radius, (back - source[:, None]) / radius]).norm(dim=-1)
    return (far <= 1).all(0)


equation = Exercise(
    "Equations 2 and 3",
    "easy",
    task="""
    Write the test that decides which patches match, for all pairs at once: $H(c_i)$ in the box of $j$ *and*
    $H^{-1}(c_j)$ in the box of $i$. A patch may have three different sides, and the boxes are closed. Do not use
    `read_aloud` or `geo.ground_truth_matches`.
    """,
    hints=[
        "`geo.transform_points(H, points)` moves centres; `geo.inverse(H)` is the way back.",
        "`there[:, None] - target` holds the differences of all pairs, [N, M, 3]. All three axes have to agree.",
    ],
    imports="import torch\n\nfrom s2dc_core import geometry as geo",
    use="""
    table = my_matches(H, centres, centres, cube)
    same = torch.equal(table.nonzero(), torch.stack(geo.ground_truth_matches(H, grid, cube)[1:], 1))
    print(f"{int(table.sum())} matches under the H of section 1, the same as the core's: {same}")
    """,
    behind="n01-17",
)


@equation.stub
def my_matches(H, source, target, patch):
    """Whether i and j match, booleans [N, M]; H is [4, 4], the centres [N, 3] and [M, 3], the sides of a patch [3]."""
    raise NotImplementedError


@equation.solution
def my_matches(H, source, target, patch):
    """Whether i and j match, booleans [N, M]; H is [4, 4], the centres [N, 3] and [M, 3], the sides of a patch [3]."""
    there = geo.transform_points(H, source)
    back = geo.transform_points(geo.inverse(H), target)
    half = torch.tensor(patch) / 2
    forward = ((there[:, None] - target).abs() <= half).all(-1)
    backward = ((back - source[:, None]).abs() <= half).all(-1)
    return forward & backward


@equation.accepted("numpy, one token after the other")
def my_matches(H, source, target, patch):
    there, back = H.numpy(), np.linalg.inv(H.numpy())
    found = np.zeros((len(source), len(target)), dtype=bool)
    for i, c in enumerate(source.numpy()):
        forward = there[:3, :3] @ c + there[:3, 3] - target.numpy()
        backward = target.numpy() @ back[:3, :3].T + back[:3, 3] - c
        found[i] = [
            (2 * np.abs([f, b]) <= np.array(patch) + 1e-6).all() for f, b in zip(forward, backward, strict=True)
        ]
    return found


@equation.accepted("in patches, with homogeneous coordinates")
def my_matches(H, source, target, patch):
    sides = torch.tensor(patch)
    moved = torch.einsum("ij,nj->ni", H, torch.cat([source, torch.ones(len(source), 1)], 1))[:, :3]
    home = torch.linalg.solve(H[:3, :3], (target - H[:3, 3]).T).T
    near = ((moved[:, None] - target[None]) / sides).abs().amax(2) <= 0.5 + 1e-7
    return near & (((home[None] - source[:, None]) / sides).abs().amax(2) <= 0.5 + 1e-7)


@equation.mistake("one direction only", "the way back is not asked")
def my_matches(H, source, target, patch):
    return boxes(H, source, target, patch)[0].all(-1)


@equation.mistake("either direction", "one of the two directions is enough")
def my_matches(H, source, target, patch):
    forward, backward = boxes(H, source, target, patch)
    return forward.all(-1) | backward.all(-1)


@equation.mistake("forgotten inverse", "the way back goes through H")
def my_matches(H, source, target, patch):
    forward, backward = boxes(H, source, target, patch, way_back=lambda H: H)
    return forward.all(-1) & backward.all(-1)


@equation.mistake("one axis is enough", "one axis is enough")
def my_matches(H, source, target, patch):
    forward, backward = boxes(H, source, target, patch)
    return forward.any(-1) & backward.any(-1)


@equation.mistake("a whole patch to either side", "twice as wide as a patch")
def my_matches(H, source, target, patch):
    forward, backward = boxes(H, source, target, 2 * torch.tensor(patch))
    return forward.all(-1) & backward.all(-1)


@equation.mistake("open boxes", "the boxes are closed")
def my_matches(H, source, target, patch):
    forward, backward = boxes(H, source, target, torch.tensor(patch) - 1e-6)
    return forward.all(-1) & backward.all(-1)


@equation.mistake("a ball", "a ball")
def my_matches(H, source, target, patch):
    return in_balls(H, source, target, max(patch) / 2)


@equation.mistake("an ellipsoid", "a ball")
def my_matches(H, source, target, patch):
    return in_balls(H, source, target, torch.tensor(patch) / 2)


@equation.mistake("the largest side for all axes", "a side of its own")
def my_matches(H, source, target, patch):
    forward, backward = boxes(H, source, target, [max(patch)] * 3)
    return forward.all(-1) & backward.all(-1)


@equation.mistake("one table lies across", "lie across each other")
def my_matches(H, source, target, patch):
    there, back = geo.transform_points(H, source), geo.transform_points(geo.inverse(H), target)
    half = torch.tensor(patch) / 2
    return ((there[:, None] - target).abs() <= half).all(-1) & ((back[:, None] - source).abs() <= half).all(-1)


@equation.check
def check_equation(answer):
    centres = geo.token_centres(GRID, PATCH)
    target = centres[:100]  # fewer than in V, so that rows and columns cannot be mistaken for each other
    motions = [motion(1.4), motion(0.8)]
    wanted = (len(centres), len(target)), "a table of all i and j"
    across = "the two tables lie across each other: in both, i goes down and j to the right; one wants a transpose"
    with explained("must match the size", across):
        found = torch.cat([as_tensor(answer(H, centres, target, PATCH), *wanted).bool() for H in motions])
    right = torch.zeros(len(motions), len(centres), len(centres), dtype=torch.bool)
    right[geo.ground_truth_matches(torch.stack(motions), GRID, PATCH)] = True

    def tables(size=PATCH, **options):
        both = [boxes(H, centres, target, size, **options) for H in motions]
        return (torch.cat(side) for side in zip(*both, strict=True))

    def same(table):
        return torch.equal(found, table)

    forward, backward = tables()
    there, back = forward.all(-1), backward.all(-1)
    _, again = tables(way_back=lambda H: H)
    far_there, far_back = tables(2 * torch.tensor(PATCH))
    assert not same(there), "only H(c_i) is looked at, the way back is not asked: H^-1(c_j) in the box of i"
    assert not same(back), "only the way back is asked: H(c_i) must lie in the box of j as well"
    assert not same(there | back), "one of the two directions is enough for yours: equation 2 says and, not or"
    through = "the way back goes through H once more: take c_j through geo.inverse(H)"
    assert not same(there & again.all(-1)), through
    one_axis = "one axis is enough for yours: a point is in a box if all three axes agree, .all(-1)"
    assert not same(forward.any(-1) & backward.any(-1)), one_axis
    too_wide = "the box is twice as wide as a patch: it ends half a side away from its centre"
    assert not same(far_there.all(-1) & far_back.all(-1)), too_wide
    for sides in (max(PATCH), min(PATCH), PATCH[0]):
        own = "one side for all three axes: a patch has a side of its own along each"
        one_side = [boxes(H, centres, target, [sides] * 3) for H in motions]
        assert not same(torch.cat([forward.all(-1) & backward.all(-1) for forward, backward in one_side])), own
    for radius in (max(PATCH) / 2, min(PATCH) / 2, torch.tensor(PATCH) / 2, (torch.tensor(PATCH) / 2).norm()):
        ball = "a ball, not a box: each axis by itself within half a side, not the distance of all three"
        assert not same(torch.cat([in_balls(H, centres, target, radius) for H in motions])), ball
    right = right[:, :, : len(target)].flatten(0, 1)
    more, less = int((found & ~right).sum()), int((right & ~found).sum())
    assert more + less == 0, f"{more} pairs too many, and {less} of {int(right.sum())} are missing"
    half = affine(torch.eye(3), torch.tensor([PATCH[0] / 2, 0, 0]))
    count = int(torch.as_tensor(answer(half, centres, centres, PATCH)).sum())
    full = len(geo.ground_truth_matches(half, GRID, PATCH).source)
    closed = f"a shift by half a patch gives {full} matches, yours {count}: the boxes are closed, their borders count"
    assert count == full, closed


repair = Exercise(
    "Repair the translation",
    "medium",
    task="""
    A warp reads its output voxel $y$ at $x = A y + t$. The published list moves points by $y = A^{-1} x - t$, which is
    wrong. Write the right matrix of that motion, for any $A$ that has an
    inverse.
    """,
    hints=[
        "Solve $x = A y + t$ for $y$, one step at a time.",
        "$A^{-1}$ also multiplies $t$. `torch.eye(4, dtype=A.dtype)` is a matrix to fill.",
    ],
    imports="import torch",
    use="""
    reads = geo.inverse(truth)  # x = A y + t of every draw above
    mended = torch.stack([my_point_matrix(M[:3, :3], M[:3, 3]) for M in reads])
    print(f"wrong pairs: {int(bad_of.sum()):,} as published, {int(compare(truth, mended)[1].sum()):,} with yours")
    """,
    behind="n01-35",
)


@repair.stub
def my_point_matrix(A, t):
    """The matrix [4, 4] that takes x to y where x = A y + t, for A [3, 3] and t [3] in voxels."""
    raise NotImplementedError


@repair.solution
def my_point_matrix(A, t):
    """The matrix [4, 4] that takes x to y where x = A y + t, for A [3, 3] and t [3] in voxels."""
    H = torch.eye(4, dtype=A.dtype)
    H[:3, :3] = torch.linalg.inv(A)
    H[:3, 3] = -H[:3, :3] @ t
    return H


@repair.accepted("numpy, the whole matrix inverted")
def my_point_matrix(A, t):
    return np.linalg.inv(np.block([[A.numpy(), t.numpy()[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]))


@repair.accepted("solved in float32")
def my_point_matrix(A, t):
    return torch.linalg.solve(affine(A, t).float(), torch.eye(4))


@repair.mistake("as published", "the translation is not turned")
def my_point_matrix(A, t):
    return affine(torch.linalg.inv(A), -t)


@repair.mistake("forgotten inverse", "takes y to x")
def my_point_matrix(A, t):
    return affine(A, t)


@repair.mistake("wrong sign", "wrong sign")
def my_point_matrix(A, t):
    return affine(torch.linalg.inv(A), torch.linalg.inv(A) @ t)


@repair.mistake("shift turned by A", "multiplied by A")
def my_point_matrix(A, t):
    return affine(torch.linalg.inv(A), -A @ t)


@repair.mistake("transpose for inverse", "leaves the scale")
def my_point_matrix(A, t):
    return affine(A.T, -A.T @ t)


@repair.mistake("transpose over the scale squared", "one scale is for all axes")
def my_point_matrix(A, t):
    back = A.T / A[0].square().sum()
    return affine(back, -back @ t)


@repair.mistake("translation in the last row", "the last column")
def my_point_matrix(A, t):
    back = torch.linalg.inv(A)
    return affine(back, -back @ t).T


@repair.mistake("torch's default float32", "float32 met float64")
def my_point_matrix(A, t):
    H = torch.eye(4)
    H[:3, :3] = torch.linalg.inv(A)
    H[:3, 3] = -H[:3, :3] @ t
    return H


@repair.check
def check_repair(answer):
    t = torch.tensor([20.0, -12, 7], dtype=torch.float64)
    uneven = motion(1.0)[:3, :3] @ torch.diag(torch.tensor([1.3, 0.8, 1.1], dtype=torch.float64))
    for A in (motion(1.2)[:3, :3], motion(0.9, (0, 20, 5))[:3, :3], uneven):
        found = as_tensor(answer(A.clone(), t.clone()), (4, 4), "a matrix")
        back = torch.linalg.inv(A)

        def same(linear, shift, found=found):
            return torch.allclose(found, affine(linear, shift), atol=1e-3)

        assert not torch.allclose(found, affine(back, -back @ t).T, atol=1e-3), (
            "transposed: t stands in the last column"
        )
        assert not same(back, -t), "as published: the translation is not turned and scaled with the rest"
        assert not same(A, t), "this matrix takes y to x: points of the image go the other way, through the inverse"
        assert not same(back, back @ t), "the translation has the wrong sign: y = A^-1 (x - t)"
        assert not same(back, -A @ t), "the translation is multiplied by A, not by its inverse"
        assert not same(A.T, -A.T @ t), "the transpose undoes the rotation but leaves the scale: take the inverse"
        over = A.T / A[0].square().sum()
        rigid = "transpose over the scale squared: right where one scale is for all axes; here they differ: the inverse"
        assert A is not uneven or not same(over, -over @ t), rigid
        y = geo.token_centres(GRID, PATCH)
        off = (geo.transform_points(found, geo.transform_points(affine(A, t), y)) - y).norm(dim=1).max()
        assert off < 1e-2, f"x = A y + t is not undone: the points are up to {float(off):.3g} voxels off"


turning = Exercise(
    "Turn in millimetres",
    "medium",
    task="""
    `R` is a rotation in millimetres. Write the matrix that turns a region by it about the region's centre, from voxel
    coordinates to voxel coordinates, with $S$ = diag(spacing) as above. Do not use `geo.affine_about_centre`.
    """,
    hints=[
        "From voxels to millimetres, turn, and back: $S^{-1} R S$.",
        "Voxel 0 has its centre at 0, the last one at n - 1. The translation is what brings the centre back to itself.",
    ],
    imports="import torch",
    behind="n01-38",
    use="""
    R = (S @ in_millimetres[:3, :3] @ S.inverse()).float()  # the rotation of section 6
    ends = geo.transform_points(torch.as_tensor(my_turn(sizes, voxel.tolist(), R)), reach)
    print(f"the stick of 100 mm is now {float(((ends[1] - ends[0]) * torch.tensor(voxel)).norm()):.1f} mm long")
    """,
)


def turned(linear, centre):
    """The matrix that acts about a centre."""
    return affine(linear, centre - linear @ centre)


def parts(shape, spacing, R):
    """S and the centre of the region in voxels, in the dtype of R."""
    return torch.diag(torch.tensor(spacing)).to(R), (torch.tensor(shape).to(R) - 1) / 2


@turning.stub
def my_turn(shape, spacing, R):
    """The matrix H [4, 4]; shape in voxels [3], spacing in mm per voxel [3], R [3, 3] in float32, torch's default."""
    raise NotImplementedError


@turning.solution
def my_turn(shape, spacing, R):
    """The matrix H [4, 4]; shape in voxels [3], spacing in mm per voxel [3], R [3, 3] in float32, torch's default."""
    S = torch.diag(torch.tensor(spacing))
    centre = (torch.tensor(shape) - 1) / 2
    H = torch.eye(4)
    H[:3, :3] = S.inverse() @ R @ S
    H[:3, 3] = centre - H[:3, :3] @ centre
    return H


@turning.accepted("a product of four matrices, in the dtype of R")
def my_turn(shape, spacing, R):
    to_centre, to_mm, turn = torch.eye(4).to(R).repeat(3, 1, 1)
    to_centre[:3, 3] = -(torch.tensor(shape, dtype=R.dtype) - 1) / 2
    to_mm[range(3), range(3)] = torch.tensor(spacing, dtype=R.dtype)
    turn[:3, :3] = R
    there = to_mm @ to_centre
    return torch.linalg.inv(there) @ turn @ there


@turning.accepted("numpy, entry by entry")
def my_turn(shape, spacing, R):
    H = np.eye(4)
    for i in range(3):
        for j in range(3):
            H[i, j] = R[i, j] * spacing[j] / spacing[i]
    centre = (np.array(shape) - 1) / 2
    H[:3, 3] = centre - H[:3, :3].dot(centre)
    return H


@turning.mistake("turned in voxel indices", "in voxel indices")
def my_turn(shape, spacing, R):
    return turned(R, parts(shape, spacing, R)[1])


@turning.mistake("spacing upside down", "upside down")
def my_turn(shape, spacing, R):
    S, centre = parts(shape, spacing, R)
    return turned(S @ R @ S.inverse(), centre)


@turning.mistake("half a voxel off", "half a voxel")
def my_turn(shape, spacing, R):
    S, centre = parts(shape, spacing, R)
    return turned(S.inverse() @ R @ S, centre + 0.5)


@turning.mistake("about voxel 0", "about voxel 0")
def my_turn(shape, spacing, R):
    S, centre = parts(shape, spacing, R)
    return turned(S.inverse() @ R @ S, 0 * centre)


@turning.mistake("turned back", "the other way round")
def my_turn(shape, spacing, R):
    S, centre = parts(shape, spacing, R)
    return turned(S.inverse() @ R.T @ S, centre)


@turning.mistake("sign of the translation", "the translation has the wrong sign")
def my_turn(shape, spacing, R):
    S, centre = parts(shape, spacing, R)
    return affine(S.inverse() @ R @ S, S.inverse() @ R @ S @ centre - centre)


@turning.mistake("translation in millimetres", "the translation is in millimetres")
def my_turn(shape, spacing, R):
    S, centre = parts(shape, spacing, R)
    return affine(S.inverse() @ R @ S, S @ centre - R @ S @ centre)


@turning.mistake("float64 beside float32", "float32 met float64")
def my_turn(shape, spacing, R):
    S, centre = parts(shape, spacing, R.double())
    return turned(S.inverse() @ R @ S, centre)


@turning.check
def check_turning(answer):
    R, grid = motion()[:3, :3], geo.token_centres(GRID, PATCH)
    for spacing in ((0.8, 1.5, 5.0), (2.0, 1.0, 3.0)):
        found = as_tensor(answer(SHAPE, spacing, R.float()), (4, 4), "a matrix")
        S, centre = parts(SHAPE, spacing, R)

        def same(linear, place, found=found):
            return torch.allclose(found, turned(linear, place), atol=1e-3)

        linear = S.inverse() @ R @ S
        indices = "R acts in voxel indices and shears the patient: go to millimetres first, with S"
        assert not torch.allclose(found[:3, :3], R, atol=1e-3), indices
        upside_down = "the spacing is upside down: S takes voxels to millimetres, so it stands on the right"
        assert not torch.allclose(found[:3, :3], S @ R @ S.inverse(), atol=1e-3), upside_down
        back = "it turns the other way round: R itself stands between S^-1 and S, not its transpose"
        assert not torch.allclose(found[:3, :3], S.inverse() @ R.T @ S, atol=1e-3), back
        assert not same(linear, 0 * centre), "it turns about voxel 0: the centre of the region has to stay where it is"
        half = "the centre is half a voxel off: it lies at (n - 1) / 2, because voxel 0 has its centre at 0"
        assert not same(linear, centre + 0.5), half
        back_to = centre - linear @ centre
        signed = "the translation has the wrong sign: what is missing after the turn, c - L c, brings the centre back"
        assert not torch.allclose(found, affine(linear, -back_to), atol=1e-3), signed
        in_mm = "the translation is in millimetres: H takes voxels to voxels, so it is c - L c of the centre in voxels"
        assert not torch.allclose(found, affine(linear, S @ back_to), atol=1e-3), in_mm
        off = geo.transform_points(found, grid) - geo.transform_points(turned(linear, centre), grid)
        furthest = float(off.abs().max())
        assert furthest < 1e-2, f"not a rotation by R about the centre: points are up to {furthest:.3g} voxels off"


wrong = Exercise(
    "Find the wrong translation",
    "hard",
    task="""
    Somebody gives you a list of pairs. It was made with the matrix $H$ of the image, except that its translation is off
    by some vector. Find that vector, list minus image, in voxels of $\\mathcal{V}'$. One pair says little: each centre
    was rounded to a whole patch.
    """,
    hints=[
        "Where did the centres of the source patches really go, and where does the list say they went?",
        "Rounding errs to all sides alike, the wrong translation always to the same.",
    ],
    imports="import torch\n\nfrom s2dc_core import geometry as geo",
    use="""
    slip = find_slip(good, c[pairs.source], c[pairs.target])  # the bad draw at the end of section 5
    exact = (slipped - good)[:3, 3].tolist()
    print("found from the list", [round(float(x), 1) for x in slip], "exact", [round(x, 1) for x in exact])
    """,
)


@wrong.stub
def find_slip(H, source, target):
    """The error of the list's translation, [3] in voxels; H [4, 4], centres of the listed pairs [P, 3] and [P, 3]."""
    raise NotImplementedError


@wrong.solution
def find_slip(H, source, target):
    """The error of the list's translation, [3] in voxels; H [4, 4], centres of the listed pairs [P, 3] and [P, 3]."""
    return (target - geo.transform_points(H, source)).mean(0)


@wrong.accepted("the median, a loop in numpy")
def find_slip(H, source, target):
    misses = [c - (H[:3, :3] @ b + H[:3, 3]) for b, c in zip(source, target, strict=True)]
    return np.median(np.stack(misses), axis=0)


@wrong.mistake("wrong sign", "the sign")
def find_slip(H, source, target):
    return (geo.transform_points(H, source) - target).mean(0)


@wrong.mistake("H left out", "the motion itself")
def find_slip(H, source, target):
    return (target - source).mean(0)


@wrong.mistake("measured in V", "in voxels of V, not of V'")
def find_slip(H, source, target):
    return (geo.transform_points(geo.inverse(H), target) - source).mean(0)


@wrong.mistake("measured in V, sign turned", "and the sign is the other way round")
def find_slip(H, source, target):
    return (source - geo.transform_points(geo.inverse(H), target)).mean(0)


@wrong.mistake("rounding does not cancel", "absolute values")
def find_slip(H, source, target):
    return (target - geo.transform_points(H, source)).abs().mean(0)


@wrong.mistake("one pair", "one pair alone")
def find_slip(H, source, target):
    return target[0] - geo.transform_points(H, source[:1])[0]


@wrong.check
def check_wrong(answer):
    grid = (24, 24, 24)
    centres = geo.token_centres(grid, PATCH)
    shape = [g * p for g, p in zip(grid, PATCH, strict=True)]
    H = geo.affine_about_centre(shape, (1, 1, 1), (20, 35, -15), 1.25, (9, -6, 4))
    for slip in torch.tensor([[3.0, -2.5, 1.5], [-2.0, 0.0, 2.5]], dtype=torch.float64):
        pairs = geo.ground_truth_matches(affine(H[:3, :3], H[:3, 3] + slip), grid, PATCH)
        source, target = centres[pairs.source], centres[pairs.target]
        found = as_tensor(answer(H, source, target), (3,), "a vector")
        misses = target - geo.transform_points(H, source)

        def near(other, found=found):
            return (found - other).abs().max() < 0.5

        if near(slip):
            continue
        assert not near(-slip), "the sign is the other way round: list minus image"
        assert not near((target - source).mean(0)), "this is mostly the motion itself: compare the list with H(c_i)"
        inside = "measured in voxels of V, not of V': compare c_j with H(c_i), not c_i with H^-1(c_j)"
        in_v = (geo.transform_points(geo.inverse(H), target) - source).mean(0)
        assert not near(in_v), inside
        assert not near(-in_v), f"{inside}; and the sign is the other way round: list minus image"
        assert not near(misses.abs().mean(0)), "absolute values do not let the rounding cancel: keep the signs"
        single = "one pair alone also holds its rounding, up to half a patch: use all pairs"
        assert not torch.isclose(misses, found, atol=1e-3).all(1).any(), single
        off = float((found - slip).abs().max())
        raise AssertionError(f"up to {off:.2g} voxels off; nearer than half a voxel is right")


EXPLORE = [
    (
        """
        Some patches stay in the region and have no match all the same; they learn nothing from $\\mathcal{L}_{p2p}$.
        Measure their share for scales from 0.7 to 1.4 without rotation. For which is it zero, and why do the two boxes
        allow that? Then add a rotation of 30 degrees about one axis: does the answer change?
        """,
        """
        Zero from a scale of 1 on. $H(c_i)$ lies in some box $j$, at most half a side from $c_j$; the way back divides
        that distance by the scale, so $H^{-1}(c_j)$ stays within the box of $i$. Below 1 several $i$ share a box, and
        $c_j$ comes back into that of one of them: a quick run on 9 x 6 x 9 patches has 60 % without a match at 0.7 and
        33 % at 0.8. A turned box has corners: by 30 degrees the way back may be $\\cos 30° + \\sin 30° = 1.37$ times
        as long along an axis, so only from a scale of 1.37 on it is zero for sure. At scale 1 the run has 14 %.
        """,
    ),
    (
        """
        The proof caught a list that is 4 voxels off. How small a shift does it still catch, and with how many affines?
        """,
        """
        There is no smallest one. Rounding to whole patches spreads the distances evenly over the box, so a shift by
        $d$ voxels pushes about $d$ / (side of a patch) of the pairs over a border, and one of them is enough. In a
        quick run (6 x 6 x 6 patches of 16 voxels) a shift of 4 voxels was caught by the first or second affine, one of
        0.05 voxels by the thirteenth at the latest, in six tries.
        """,
    ),
    (
        """
        Give the weights that come with the course as `checkpoint`: the file
        `s2dc_core/library/weights/s2dc.safetensors`, with `tile = 32`, the sub-volume that they were trained with.
        Which level has learned most?
        """,
        """
        Levels 2 and 3. In a quick run on 4 x 3 x 4 sub-volumes their equivariance errors under the $H$ of section 1
        are 0.29 and 0.31, and 0.84 and 0.93 with random weights. Level 0 hardly moves (0.11 for 0.12). Level 4 reads a
        stage that no structure loss trains; a harmless shift by 16 voxels still costs it 0.83, and level 3 only 0.28.
        """,
    ),
]
