"""The frame of a body from the heart to the iliac crest: wall, spine, ribs, diaphragm, chest; `organs` fills it.

Reference coordinates are millimetres in a standing adult of average size, x to the right, y to the front, z up, with
z = 0 in the twelfth thoracic vertebra. Sizes and places follow what textbooks of sectional anatomy print
(Moeller and Reif, Pocket Atlas of Sectional Anatomy, 2013; Netter, Atlas of Human Anatomy); a subject changes them.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import yaml

from s2dc_core.data.shapes import Canvas, Number, Region, ellipsoid, smooth_field, smooth_max, smooth_min

ORGANS = {
    1: "spleen", 2: "right_kidney", 3: "left_kidney", 4: "gallbladder", 5: "oesophagus", 6: "liver", 7: "stomach",
    8: "aorta", 9: "inferior_vena_cava", 10: "portal_and_splenic_veins", 11: "pancreas", 12: "right_adrenal",
    13: "left_adrenal",
}  # fmt: skip
TISSUES = {0: "background"} | ORGANS | {
    14: "right_lung", 15: "left_lung", 16: "vertebrae", 17: "discs", 18: "spinal_canal", 19: "ribs", 20: "sternum",
    21: "pelvis", 22: "muscle", 23: "subcutaneous_fat", 24: "visceral_fat", 25: "skin", 26: "heart", 27: "airways",
    28: "small_bowel", 29: "duodenum", 30: "colon", 31: "other_vessels", 32: "mediastinum",
}  # fmt: skip

CAVITY = ["visceral_fat"]  # what fills the trunk until organs are painted over it

# Lower edges of the vertebrae, mm: L5 to T4 as listed (lumbar levels are about 36 mm apart, thoracic ones 23 to 30 mm),
# then repeated, so that a larger field of view, or a rib that climbs to its vertebra, finds a level there too.
_LISTED = [-206, -169, -132, -95, -59, -24, 9, 39, 67, 93, 118, 142, 165, 188]
LEVELS = np.array([*range(-206 - 37 * 5, -206, 37), *_LISTED, *range(210, 520, 22)], float)
T12 = 10  # its index in LEVELS


@lru_cache(maxsize=1)
def _courses() -> dict:
    return yaml.safe_load(resources.files("s2dc_core.data").joinpath("courses.yaml").read_text(encoding="utf-8"))


def course(name: str) -> np.ndarray:
    """Control points [N, 4] (x, y, z, radius; mm) of a tubular structure of `courses.yaml`."""
    return np.array(_courses()[name], float)


def courses(name: str) -> list[np.ndarray]:
    """The same for a structure of several tubes, one [N, 4] each."""
    return [np.array(points, float) for points in _courses()[name]]


@dataclass(frozen=True)
class Subject:
    """One person: sizes as factors or millimetres, and the generator of all that follows from the seed."""

    generator: np.random.Generator
    scale: np.ndarray  # [3] size of the trunk along x, y, z relative to the reference
    fat: float  # subcutaneous fat, mm
    wall: float  # muscle of the flank, mm
    dome: np.ndarray  # [2] shift of the right and the left half of the diaphragm, mm
    shift: np.ndarray  # [3] where the body lies in the scanner, mm

    @classmethod
    def draw(cls, seed: int) -> "Subject":
        """Subject of a seed: adults, a few per cent to 15 % apart in size, 4 to 24 mm of subcutaneous fat."""
        generator = np.random.default_rng([seed, 1])
        build = generator.normal(0, 0.035)
        scale = np.clip(1 + build + generator.normal(0, [0.03, 0.03, 0.035]), 0.89, 1.09)
        fat = np.clip(generator.lognormal(np.log(12), 0.35), 7, 24)
        room = (
            np.array([174, 112]) - np.array([144, 97]) * scale[:2]
        )  # so that the default field of view holds all of it
        fat = float(np.clip(fat, 4, room.min() / 1.1))
        wall = float(np.clip(generator.normal(14, 2), 10, 18))
        dome = generator.normal(-4, 7) + generator.normal(0, 3, 2)
        return cls(generator, scale, fat, wall, dome, generator.normal(0, [2, 1, 6]))

    def vary(self, points: np.ndarray, shift: Number = 3.0, size: Number = 0.08, bend: Number = 1.5):
        """Control points [N, 4] of a tube moved together, bent, and made wider or thinner, as between people."""
        points = np.array(points, float)
        points[:, :3] += self.generator.normal(0, shift, 3) + self.generator.normal(0, bend, (len(points), 3))
        points[:, 3] *= np.clip(1 + self.generator.normal(0, size), 0.8, 1.25)
        return points


def warped_coordinates(subject: Subject, axes: list[np.ndarray]) -> list[np.ndarray]:
    """Reference coordinates, three [X, Y, Z] float32, of a grid with world coordinates `axes` (three 1D, mm).

    World -> reference: lying shift and size, then a smooth displacement (about 6 mm over 8 cm, 1.2 mm over 2 cm), then
    the slight side bend of the spine. The displacement folds nothing: its slope stays well below 1.
    """
    grids = np.meshgrid(*[a.astype(np.float32) for a in axes], indexing="ij", sparse=True)
    bend = np.float32(subject.generator.normal(0, 3))
    warped = []
    for axis, grid in enumerate(grids):
        field = smooth_field(subject.generator, axes, 85) * np.float32((5.0, 4.0, 6.5)[axis])
        field += smooth_field(subject.generator, axes, 26) * np.float32(1.1)
        field += (grid - np.float32(subject.shift[axis])) / np.float32(subject.scale[axis])
        if axis == 0:
            field += bend * np.sin(grids[2] / np.float32(90))
        warped.append(field)
    return warped


def lordosis(z):
    """How far the spine lies before its mean, mm: forward in the lumbar, backward in the thoracic part."""
    return 8 * np.exp(-(((z + 100) / 70) ** 2)) - 9 * np.clip(z / 150, 0, 1.2) ** 2


class Body(Canvas):
    """A canvas with the frame's fields, all [X, Y, Z] float32 in mm, by which organs are moulded.

    wall: outside (+) or inside (-) of the muscle wall; cavity: outside (+) or inside (-) of the wall's inner face;
    dome: height above the diaphragm.
    """

    wall: np.ndarray
    cavity: np.ndarray
    dome: np.ndarray

    def abdomen(self, region: Region, gap: Number = 0.0) -> np.ndarray:
        """Distance to the space under the diaphragm and within the wall, `gap` mm away from the wall."""
        return smooth_max(self.cavity[region] + gap, self.dome[region] + gap - 1, 8.0)


def frame_fields(body: Body, subject: Subject) -> np.ndarray:
    """Fills wall, cavity and dome of a body; returns the shape of the back muscles."""
    x, y, z = body.x, body.y, body.z
    half = 142 - 5 * np.exp(-(((z + 70) / 45) ** 2)) - 10 * np.clip((z - 90) / 90, 0, 1)
    groove = 9 * np.exp(-((x / 18) ** 2))
    back = np.where(y < 0, y - groove, y)
    across, deep = (x / half) ** 2, (back / 97) ** 2
    squircle = np.sqrt(np.maximum(across + deep - 0.32 * across * deep, 1e-6))
    body.wall = np.sqrt(x * x + y * y) * (1 - 1 / np.maximum(squircle, 0.05))
    side = np.clip(np.abs(x) / 90, 0, 1)
    front = np.clip((y - 20) / 50, 0, 1)
    thick = subject.wall * (1 - 0.38 * front * (1 - side)) - 1.5 * np.clip(z / 60, 0, 1)
    erector = ellipsoid(np.abs(x), y - lordosis(z), np.float32(0), (35, -82, 0), (31, 22, 1))
    body.cavity = smooth_max(body.wall + thick, -erector, 10)
    body.dome = z - diaphragm(x, y, body.cavity, subject)
    return erector


def diaphragm(x, y, cavity, subject: Subject) -> np.ndarray:
    """Height of the diaphragm, mm: two domes, the right one higher, falling steeply into the recess at the wall."""
    right = 0.5 + 0.5 * np.tanh(x / 30)
    top = 74 + subject.dome[1] + right * (14 + subject.dome[0] - subject.dome[1])
    saddle = 7 * np.exp(-((x / 25) ** 2))
    slope = 20 * ((np.abs(x) - 60) / 75) ** 2 + 22 * ((y - 14) / 80) ** 2
    front = np.clip((y - 10) / 60, 0, 1)
    recess = (78 - 45 * front) * np.exp(np.minimum(cavity + 2, 4) / (8 - 3 * front))
    return top - saddle - slope - recess


def draw_wall(body: Body, subject: Subject, erector: np.ndarray):
    """Skin, fat, the muscles of the wall, psoas and quadratus, and fat in the whole cavity."""
    whole = (slice(None),) * 3
    x, y, z = body.at(whole)
    ring = body.wall
    low = np.clip(-z / 150, -0.4, 1)
    fat = subject.fat * (1 + 0.15 * low - 0.10 * np.clip(y / 90, -1, 1)) * (1 - 0.12 * np.cos(x / 40))
    body.paint(whole, ring < fat + 2.4, "skin", "skin")
    body.paint(whole, ring < fat, "subcutaneous_fat", "subcutaneous_fat")
    body.paint(whole, ring < 0, "muscle", "muscle")
    body.paint(whole, body.cavity < 0, "visceral_fat", "visceral_fat")
    linea_alba = (np.abs(x) < 3.0) & (y > 60) & (z < 30) & (ring > -8)
    between = (np.abs(erector) < 0.8) & (y < -60) & (np.abs(x) > 30)
    body.paint(whole, (linea_alba | between) & (ring < 0), "subcutaneous_fat", "subcutaneous_fat", over=["muscle"])
    layers = (np.abs(ring + 5.5) < 0.7) & (np.abs(x) > 68) & (y > -60) & (z < 10)
    body.paint(whole, layers, None, "intermuscular_fat", over=["muscle"])
    for side in (1, -1):
        for name, stretch in (("psoas", (0.85, 1.1, 1)), ("quadratus", (1.6, 0.8, 1))):
            points = subject.vary(course(name) * (side, 1, 1, 1), 1.0)
            for region, distance in body.tube(points, 12, stretch):
                body.paint(region, distance < 0, "muscle", "muscle", over=["visceral_fat"])


def draw_spine(body: Body):
    """Vertebral bodies with end plates, discs, pedicles, laminae, processes, and the canal with cord and cauda."""
    region = body.region((-46, -112, -400), (46, -8, 400))
    x, y, z = body.at(region)
    y = y - lordosis(z)
    x = np.abs(x)
    level = np.interp(z, LEVELS, np.arange(len(LEVELS))).astype(np.float32)
    phase = level - np.floor(level)  # 0 at the lower edge of a vertebra
    lumbar = np.clip(-z / 60, 0, 1)
    size = 1 + 0.12 * lumbar - 0.12 * np.clip(z / 150, 0, 1)
    flare = 2.2 * np.cos(2 * np.pi * (phase - 0.4)) ** 2 - 1.5
    notch = 3 * np.exp(-((x / 9) ** 2)) * (y < -36)
    column = ellipsoid(x, y - notch, np.float32(0), (0, -35, 0), (22.5, 16.5, 1)) - 13.2 * (size - 1) - flare
    disc = phase > 0.86 - 0.10 * lumbar
    canal = ellipsoid(x, y, np.float32(0), (0, -60.5, 0), (10.5, 8.5, 1))
    arch = (canal < 5) & (y < -50) & (phase > 0.12) & (phase < 0.80 + 0.1 * (y < -64))
    pedicle = (np.abs(x - 13 * size) < 4) & (y > -62) & (y < -45) & (phase > 0.38) & (phase < 0.82)
    spinous = (x < 3.2 + 1.5 * (y < -84)) & (y < -66) & (y > -96) & (np.abs(phase - 0.42 - (y + 66) / 130) < 0.3)
    transverse = (x > 12) & (x < 37) & (np.abs(y + 60 + 0.2 * (x - 12)) < 3.6) & (np.abs(phase - 0.58) < 0.15)
    facet = ellipsoid(x, y, np.where(phase > 0.5, phase - 1, phase) * 33, (17, -66, 0), (7, 6.5, 12)) < 0
    processes = arch | pedicle | spinous | transverse | facet
    body.paint(region, processes, "vertebrae", "bone_cortical")
    inner = spinous & (x < 1.5) & (y < -70) | transverse & (np.abs(phase - 0.58) < 0.08) & (x > 20)
    body.paint(region, inner, "vertebrae", "bone_marrow")
    body.paint(region, (column < 0) & ~disc, "vertebrae", "bone_cortical")
    plate = (phase < 0.055) | (phase > 0.80 - 0.10 * lumbar)
    body.paint(region, (column < -1.8) & ~disc & ~plate, "vertebrae", "bone_marrow")
    body.paint(region, (column < -0.5) & disc, "discs", "disc")
    body.paint(region, canal < 0, "spinal_canal", "spinal_fluid")
    body.paint(region, (canal < 0) & (canal > -1.8), "spinal_canal", "visceral_fat")
    cord = ellipsoid(x, y, np.float32(0), (0, -60, 0), (6, 4.6, 1))
    body.paint(region, (cord < 0) & (z > -45), "spinal_canal", "spinal_cord")
    body.paint(region, (cord < 0) & (z <= -45) & (np.sin(x * 2.2 + 1) > 0.2), "spinal_canal", "spinal_cord")


def draw_ribs(body: Body):
    """Ribs, costal cartilage, sternum and the upper rim of the iliac bones, as shells on the wall's inner face."""
    shell = np.nonzero((body.cavity > 0.5) & (body.cavity < 11) & (body.wall < -1))
    x, y, z = (axis[shell] for axis in (body.x, body.y, body.z))
    depth = body.cavity[shell]
    turn = np.arctan2(np.abs(x) / 130, -(y + 6) / 90) / np.pi  # 0 at the spine, 1 at the sternum
    sweep = 0.42 * np.clip(np.abs(x) - 18, 0, 55) + 190 * np.clip(turn - 0.10, 0, 0.60)
    sweep -= 210 * np.clip(turn - 0.70, 0, 1)  # cartilage climbs to the sternum
    level = np.interp(z + sweep, LEVELS + 18, np.arange(len(LEVELS)))
    rib = np.round(level)
    off = (level - rib) * 28  # mm from the rib's middle
    reach = np.select([rib < T12, rib == T12, rib == T12 + 1], [0.0, 0.34, 0.56], 1.0)
    thick = np.sqrt((off / 6.5) ** 2 + ((depth - 4.2) / 3.6) ** 2)
    here = (turn < reach) & (thick < 1) & (z > -100) & (np.abs(x) > 16)
    bony = turn < 0.72
    sternum = (np.abs(x) < 15) & (y > 40) & (z > 52) & (np.abs(depth - 5) < 4.5)
    crest = -138 - 22 * np.clip(np.abs(y + 8) / 45, 0, 1.5) ** 2
    pelvis = (z < crest) & (np.abs(x) > 48) & (depth < 9) & (y < 45)
    for mask, tissue, material in (
        (here & bony, "ribs", "bone_cortical"),
        (here & bony & (thick < 0.5), "ribs", "bone_marrow"),
        (here & ~bony, "ribs", "cartilage"),
        (sternum, "sternum", "bone_cortical"),
        (sternum & (np.abs(depth - 5) < 2.8), "sternum", "bone_marrow"),
        (pelvis, "pelvis", "bone_cortical"),
        (pelvis & (depth > 2.4) & (depth < 6.8) & (z < crest - 3), "pelvis", "bone_marrow"),
    ):
        body.tissue[shell] = np.where(mask, body.tissues[tissue], body.tissue[shell])
        body.material[shell] = np.where(mask, body.materials[material], body.material[shell])


def draw_chest(body: Body, subject: Subject):
    """Lungs with vessels and bronchi, mediastinal fat, heart with its chambers, and the diaphragm's crura."""
    region = body.region((-200, -200, -90), (200, 200, 400))
    x, y, z = body.at(region)
    heart = subject.generator.normal((-27, 34, 109), 2.5), np.array((60, 42, 46)) * subject.generator.normal(1, 0.05)
    turn = np.array([[0.80, -0.42, 0.42], [0.48, 0.87, -0.05], [-0.34, 0.24, 0.90]]).T
    pericardium = ellipsoid(x, y, z, *heart, turn)
    middle = ellipsoid(x, y, np.float32(0), (-2, -8, 0), (25, 34, 1))
    front = np.maximum(np.abs(x) - 7, 52 - y)
    mediastinum = smooth_min(smooth_min(pericardium - 3, middle, 14), front, 8)
    chest = (body.cavity[region] < -0.5) & (body.dome[region] > 2)
    body.paint(region, chest, "mediastinum", "visceral_fat", over=["visceral_fat"])
    sheet = (np.abs(body.dome[region]) < 2.2) & (body.cavity[region] < 0)
    body.paint(region, sheet, "muscle", "muscle", over=["visceral_fat", "mediastinum"])
    for side, name in ((x > 0, "right_lung"), (x <= 0, "left_lung")):
        body.paint(region, chest & (mediastinum > 0) & side, name, "lung", over=["mediastinum"])
    above = (body.dome[region] > 2.5) & (body.cavity[region] < -2)
    body.paint(region, above & (pericardium < 0), "heart", "myocardium", over=["mediastinum"])
    chambers = (((-44, 30, 110), (33, 20, 24)), ((-14, 56, 108), (38, 13, 24)), ((20, 36, 118), (17, 23, 28)),
                ((-8, 2, 138), (30, 16, 22)))  # left and right ventricle, right and left atrium  # fmt: skip
    for (centre, radii), wall in zip(chambers, (-9, -3.5, -2, -2), strict=True):
        chamber = ellipsoid(x, y, z, np.array(centre) + heart[0] - (-27, 34, 119), radii, turn)
        body.paint(region, above & (chamber < 0) & (pericardium < wall), None, "blood", over=["heart"])
    over = ["mediastinum", "right_lung", "left_lung"]
    for trunk in ("ascending_aorta", "pulmonary_trunk", "superior_vena_cava"):
        for piece, distance in body.tube(course(trunk), 9):
            body.paint(piece, distance < 0, "other_vessels", "blood", over=over)
    draw_lung_trees(body, subject)
    for side in (1, -1):
        crus = subject.vary(course("crus") * (side, 1, 1, 1), 1.0)
        for piece, distance in body.tube(crus, 12, (0.8, 1.7, 1)):
            body.paint(piece, distance < 0, "muscle", "muscle", over=["visceral_fat"])


def draw_lung_trees(body: Body, subject: Subject):
    """Bronchi with arteries beside them, from each hilum to the lower lobes, and thinner vessels to the periphery."""
    draw = subject.generator
    for side, lung in ((1, "right_lung"), (-1, "left_lung")):
        root = np.array([side * 28, -4, 158, 4.5])
        for number in range(7):
            target = np.array([side * draw.uniform(60, 115), draw.uniform(-70, 60), draw.uniform(30, 175), 1.4])
            middle = root * 0.5 + target * 0.5 + [side * 5, 0, 8, -0.7]
            for offset, material, wall in (((0, 0, 0, 0), "gas", 1.8), ((7 * side, 4, 0, -1), "blood", 0)):
                if wall and number > 2:
                    continue
                pieces = body.tube(np.array([root, middle, target]) + offset, 9)
                if wall:
                    for piece, distance in pieces:
                        body.paint(piece, distance < 0, "airways", "muscle", over=[lung])
                for piece, distance in pieces:
                    inside = distance < -wall
                    body.paint(piece, inside, None, material, over=["airways"] if wall else [lung, "airways"])
            for _ in range(8):
                tip = target + draw.normal(0, (20, 30, 28, 0))
                tip[3] = 0.8
                fork = (middle + tip) / 2 + [*draw.normal(0, 6, 3), 0]
                for piece, distance in body.tube([middle * (1, 1, 1, 0.4), fork * (1, 1, 1, 0.7), tip], 12):
                    body.paint(piece, distance < 0.25, None, "small_lung_vessel", over=[lung])
