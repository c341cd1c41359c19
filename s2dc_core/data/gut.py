"""The hollow organs: oesophagus, stomach, gallbladder, duodenum, colon, small bowel, and the mesentery between them.

Places are reference millimetres (see `anatomy`). A hollow organ is a tube with a wall, a content, and gas that rises to
the front, as in a patient who lies on the back.
"""

import numpy as np

from s2dc_core.data.anatomy import CAVITY, Body, Subject, course, courses
from s2dc_core.data.shapes import Number, smooth_max


def hollow(body: Body, pieces, tissue: str, wall: Number, materials, over, level=None):
    """Paints a hollow organ from tube pieces: its wall, then its content, with gas above the height `level` (y, mm)."""
    for region, distance in pieces:
        body.paint(region, distance < 0, tissue, materials[0], over=[*over, tissue])
    for region, distance in pieces:
        body.paint(region, distance < -wall, None, materials[1], over=[tissue])
        if level is not None:
            body.paint(region, (distance < -wall) & (body.y[region] > level), None, "gas", over=[tissue])


def draw_oesophagus(body: Body, subject: Subject):
    """From behind the left atrium through the hiatus to the cardia, flat, with a little gas above."""
    pieces = body.tube(subject.vary(course("oesophagus"), 1.5, 0.06, 1), 7, (1.2, 0.95, 1))
    over = ["visceral_fat", "mediastinum", "muscle", "heart", "liver", "right_lung", "left_lung"]
    hollow(body, pieces, "oesophagus", 5.5, ("oesophagus_wall", "gas"), over)


def draw_stomach(body: Body, subject: Subject, bumps):
    """Fundus under the left dome, body to the front, antrum across the midline; gas rises to the front."""
    full = np.clip(subject.generator.normal(1, 0.10), 0.8, 1.15)
    points = subject.vary(course("stomach"), 4, 0.04, 2.5)
    points[:, 3] *= full
    pieces = []
    for region, distance in body.tube(points, 8, (1.1, 0.95, 1)):
        distance = distance + np.clip(1.6 * bumps[region], -3, 3)  # rugae
        pieces.append((region, smooth_max(distance, body.abdomen(region, 1.0), 6)))
    level = points[3, 1] + subject.generator.uniform(0, 16)
    materials = ("stomach_wall", "stomach_content")
    hollow(body, pieces, "stomach", 4.0, materials, ["visceral_fat", "spleen", "liver"], level)


def draw_gallbladder(body: Body, subject: Subject):
    """A pear in its bed under the liver, the fundus in front and below."""
    pieces = body.tube(subject.vary(course("gallbladder"), 3, 0.12, 2), 6)
    hollow(body, pieces, "gallbladder", 1.8, ("gallbladder_wall", "bile"), ["visceral_fat", "liver", "stomach"])


def draw_duodenum(body: Body, subject: Subject):
    """The C about the pancreatic head: bulb, descending part, and the horizontal part between aorta and its branch."""
    pieces = body.tube(subject.vary(course("duodenum"), 1.5, 0.06, 1.5), 7)
    hollow(body, pieces, "duodenum", 3.2, ("bowel_wall", "bowel_content"), ["visceral_fat", "liver", "other_vessels"])


def draw_colon(body: Body, subject: Subject, bumps):
    """Ascending, transverse and descending colon with haustra; stool below, gas above."""
    level = subject.generator.normal(0, 4)
    for points in courses("colon"):
        points = subject.vary(points, 3, 0.12, 3)
        pieces = []
        for region, distance in body.tube(points, 9, beads=(0.13, 27)):
            pieces.append((region, smooth_max(distance, body.cavity[region] + 2, 4)))
        hollow(body, pieces, "colon", 3.0, ("bowel_wall", "stool"), CAVITY)
        for region, distance in pieces:
            gas = body.y[region] > np.median(points[:, 1]) + level - 1 + 5 * bumps[region]
            body.paint(region, (distance < -3) & gas, None, "gas", over=["colon"])


def draw_small_bowel(body: Body, subject: Subject):
    """Coils of jejunum and ileum below the stomach: a path that snakes through a jittered lattice."""
    generator = subject.generator
    path = []
    for column, x in enumerate(np.arange(-80, 80, 26)):
        for row, y in enumerate((50, 22, -6) if column % 2 else (-6, 22, 50)):
            zs = np.arange(-62 if x < -20 else -92, -205, -28)
            path += [(x, y, z) for z in (zs[::-1] if (row + column) % 2 else zs)]
    path = np.array(path, float) + generator.normal(0, 10, (len(path), 3))
    caliber = np.clip(generator.normal(12, 1.6, (len(path), 1)), 8, 16)
    pieces = body.tube(np.concatenate([path, caliber], 1), 9)
    pieces = [(region, smooth_max(distance, body.cavity[region] + 4, 4)) for region, distance in pieces]
    hollow(body, pieces, "small_bowel", 3.0, ("bowel_wall", "bowel_content"), CAVITY)
    for centre in path[generator.integers(0, len(path), 9)]:  # a few bubbles
        region = body.region(centre - 13, centre + 13)
        x, y, z = body.at(region)
        near = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < 13**2
        wet = body.material[region] == body.materials["bowel_content"]
        body.paint(region, near & wet & (y > centre[1] + 2), None, "gas", over=["small_bowel"])


def draw_mesentery(body: Body, subject: Subject):
    """Branches of the mesenteric vessels that fan out through the fat to the coils of bowel."""
    generator = subject.generator
    for _ in range(26):
        start = np.array([6, 24, generator.uniform(-130, -60), 2.4])
        fall = generator.uniform(0, 55)
        end = np.array([generator.uniform(-75, 80), generator.uniform(10, 55), start[2] - fall, 1.1])
        middle = (start + end) / 2 + [*generator.normal(0, 7, 3), 0]
        for region, distance in body.tube([start, middle, end], 12):
            body.paint(region, distance < 0, "other_vessels", "portal_blood", over=CAVITY)
