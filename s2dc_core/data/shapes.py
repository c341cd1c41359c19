"""Implicit shapes on a warped grid: what anatomy is drawn with.

A shape is a function that is negative inside, zero on the surface and positive outside, in millimetres (a signed
distance, exact for tubes and to first order for ellipsoids). Shapes are moulded to one another by smooth minima
and maxima, as organs are by their neighbours, and drawn in reference coordinates, so that one smooth deformation
of the coordinates changes every organ at once and keeps neighbours in touch.
"""

from collections.abc import Sequence

import numpy as np

Region = tuple[slice, slice, slice]
Number = int | float


def smooth_max(first, second, width: Number = 6.0):
    """Intersection of two shapes, its edges rounded over `width` millimetres (polynomial blend of I. Quilez)."""
    blend = np.maximum(width - np.abs(first - second), 0.0)
    return np.maximum(first, second) + blend * blend * (0.25 / width)


def smooth_min(first, second, width: Number = 6.0):
    """Union of two shapes, the crease between them filled over `width` millimetres."""
    return -smooth_max(-first, -second, width)


def rotation(degrees_x: Number, degrees_y: Number, degrees_z: Number) -> np.ndarray:
    """Matrix [3, 3] that turns about x, then y, then z, right-handed, in degrees."""
    angles = np.radians([degrees_x, degrees_y, degrees_z])
    cos, sin = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
    about_y = np.array([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
    about_z = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def ellipsoid(x, y, z, centre, radii, turn: np.ndarray | None = None):
    """Distance to an ellipsoid, to first order, from coordinate arrays of one shape; `turn` [3, 3] takes it upright."""
    local = [axis - np.float32(c) for axis, c in zip((x, y, z), centre, strict=True)]
    if turn is not None:
        local = [sum(np.float32(turn[i, j]) * local[i] for i in range(3)) for j in range(3)]
    scaled = [axis / np.float32(r) for axis, r in zip(local, radii, strict=True)]
    norm = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2) + np.float32(1e-4)
    steep = [axis / np.float32(r) for axis, r in zip(scaled, radii, strict=True)]
    gradient = np.sqrt(steep[0] ** 2 + steep[1] ** 2 + steep[2] ** 2) + np.float32(1e-4 / max(radii))
    return norm * (norm - 1) / gradient


def smooth_field(generator: np.random.Generator, axes: list[np.ndarray], step: Number, reach: Number = 320.0):
    """Random field [X, Y, Z], float32, about zero mean and unit variance, smooth over `step` millimetres.

    A cubic B-spline whose control points, `step` apart from -`reach` to `reach` mm along each axis, are normal numbers.
    It is a function of the world coordinates in `axes` (three 1D arrays, mm), so the same generator state gives the
    same field on every grid; beyond `reach` it keeps its last value. Sums of four terms, not matrix products, so that
    the number of threads does not change a bit.
    """
    controls = int(np.ceil(2 * reach / step)) + 4
    field = generator.standard_normal([controls] * 3).astype(np.float32)
    for axis, position in enumerate(axes):
        place = (np.clip(position, -reach, reach) + reach) / step
        first = np.minimum(place.astype(int), controls - 4)
        t = place - first
        weights = [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6]
        along = [1, 1, 1]
        along[axis] = -1
        field = sum(
            np.take(field, first + k, axis) * weight.astype(np.float32).reshape(along)
            for k, weight in enumerate(weights)
        )
    return field * np.float32(3.0)  # 1 / sqrt(mean of the squared weights), over three axes


def through(points: np.ndarray, step: Number) -> np.ndarray:
    """Points about `step` mm apart on a Catmull-Rom curve through `points` [N, 4] (x, y, z, radius)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    curve = [points[:1]]
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces = max(1, int(np.ceil(np.linalg.norm((end - start)[:3]) / step)))
        t = np.arange(1, pieces + 1)[:, None] / pieces
        curve.append(
            start
            + 0.5 * t * (end - before)
            + 0.5 * t**2 * (2 * before - 5 * start + 4 * end - after)
            + 0.5 * t**3 * (3 * start - before - 3 * end + after)
        )
    return np.concatenate(curve)


class Canvas:
    """The maps of one body while it is painted: two label maps on a grid whose voxels know where they are.

    Attributes: coordinates x, y, z [X, Y, Z] float32 in reference millimetres; tissue and material [X, Y, Z] uint8.
    Later paint covers earlier paint, so small organs come after large ones.
    """

    def __init__(self, coordinates: list[np.ndarray], tissues: dict[str, int], materials: dict[str, int]):
        self.x, self.y, self.z = coordinates
        self.tissues, self.materials = tissues, materials
        self.tissue = np.zeros(self.x.shape, np.uint8)
        self.material = np.zeros(self.x.shape, np.uint8)
        others = ((1, 2), (0, 2), (0, 1))
        self._low = [axis.min(axis=other) for axis, other in zip(coordinates, others, strict=True)]
        self._high = [axis.max(axis=other) for axis, other in zip(coordinates, others, strict=True)]

    def region(self, low, high) -> Region:
        """Smallest box of voxels that holds every voxel between two corners given in reference millimetres."""
        slices = []
        for axis in range(3):
            hit = np.flatnonzero((self._high[axis] >= low[axis]) & (self._low[axis] <= high[axis]))
            slices.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0))
        return tuple(slices)

    def at(self, region: Region) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reference coordinates of a region's voxels: three arrays, millimetres."""
        return self.x[region], self.y[region], self.z[region]

    def paint(self, region: Region, inside: np.ndarray, tissue: str | None, material: str, over: Sequence[str] = ()):
        """Paint voxels of a region where `inside` is true; `over` limits it to these tissues, None keeps the tissue."""
        if over:
            allowed = np.zeros(256, bool)
            allowed[[self.tissues[name] for name in over]] = True
            inside = inside & allowed[self.tissue[region]]
        if tissue is not None:
            self.tissue[region][inside] = self.tissues[tissue]
        self.material[region][inside] = self.materials[material]

    def tube(self, points, step: Number = 6.0, stretch=(1.0, 1.0, 1.0), beads=(0.0, 30.0)):
        """Pieces (region, distance) of a tube through `points` [N, 4] (x, y, z, radius, millimetres).

        `stretch` widens the cross-section along an axis, `beads` (depth, wavelength in mm) makes haustra or lobules.
        """
        curve = through(np.asarray(points, float), step)
        along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve[:, :3], axis=0), axis=1))])
        curve[:, 3] = np.maximum(curve[:, 3], 0.6) * (1 + beads[0] * np.sin(2 * np.pi * along / beads[1]))
        stretch = np.asarray(stretch, float)
        pieces = []
        for start, end in zip(curve[:-1], curve[1:], strict=True):
            reach = stretch * max(start[3], end[3])
            region = self.region(np.minimum(start, end)[:3] - reach, np.maximum(start, end)[:3] + reach)
            if all(s.stop > s.start for s in region):
                pieces.append((region, self._capsule(region, start, end, stretch)))
        return pieces

    def _capsule(self, region: Region, start: np.ndarray, end: np.ndarray, stretch: np.ndarray) -> np.ndarray:
        a, b = (start[:3] / stretch).astype(np.float32), (end[:3] / stretch).astype(np.float32)
        offset = [axis * np.float32(1 / s) - c for axis, s, c in zip(self.at(region), stretch, a, strict=True)]
        d = b - a
        t = np.clip((offset[0] * d[0] + offset[1] * d[1] + offset[2] * d[2]) / max(float(d @ d), 1e-6), 0, 1)
        squared = sum((o - t * c) ** 2 for o, c in zip(offset, d, strict=True))
        return np.sqrt(squared) - (np.float32(start[3]) + t * np.float32(end[3] - start[3]))
