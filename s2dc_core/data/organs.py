"""The solid organs and the vessels of the abdomen, painted into the frame from the large to the small.

All places are reference millimetres (see `anatomy`); each organ is moulded by its neighbours, and moves, turns and
grows a little on its own on top of the deformation that all share. Normal sizes: liver 15 cm high, spleen 11 x 7 x
4 cm, kidneys 11 cm, pancreas 2.5 cm at the head, aorta 2 cm, portal vein 13 mm; the limbs of the adrenals are about
5 mm thick, the upper end of normal, so that tokens see them.
"""

import numpy as np

from s2dc_core.data import gut
from s2dc_core.data.anatomy import CAVITY, Body, Subject, course, courses, lordosis
from s2dc_core.data.shapes import Number, ellipsoid, rotation, smooth_field, smooth_max, smooth_min

KIDNEYS = {"right_kidney": ((67, -36, -60), (15, 11, -32)), "left_kidney": ((-66, -35, -44), (15, -11, 32))}


def draw_organs(body: Body, subject: Subject, axes) -> None:
    """Paints every organ of the abdomen, small over large."""
    bumps = smooth_field(subject.generator, axes, 9)
    kidneys = place_kidneys(subject)
    draw_liver(body, subject, kidneys)
    draw_spleen(body, subject, kidneys)
    gut.draw_stomach(body, subject, bumps)
    draw_kidneys(body, kidneys)
    gut.draw_oesophagus(body, subject)
    draw_great_vessels(body, subject)
    draw_pancreas(body, subject, bumps)
    gut.draw_gallbladder(body, subject)
    gut.draw_duodenum(body, subject)
    draw_portal_system(body, subject)
    draw_adrenals(body, subject)
    gut.draw_colon(body, subject, bumps)
    gut.draw_small_bowel(body, subject)
    gut.draw_mesentery(body, subject)


def place_kidneys(subject: Subject) -> dict:
    """Centre, radii and rotation of each kidney: 10 to 12.5 cm long, the upper pole turned in and back."""
    placed = {}
    for name, (centre, angles) in KIDNEYS.items():
        centre = np.array(centre) + subject.generator.normal(0, (2, 2, 5))
        radii = np.array((28, 25, 55)) * subject.generator.normal(1, 0.05) * subject.generator.normal(1, 0.03, 3)
        placed[name] = centre, radii, rotation(*(np.array(angles) + subject.generator.normal(0, 4, 3)))
    return placed


def draw_liver(body: Body, subject: Subject, kidneys: dict):
    """Right lobe under the dome, left lobe tapering to the front, caudate, fissure, impressions; its veins."""
    generator = subject.generator
    region = body.region((-110, -110, -130), (160, 120, 130))
    x, y, z = body.at(region)
    tip, reach = generator.normal(0, 10), generator.normal(0, 12)
    across = [-95 + reach, -60 + reach, -20, 20, 60, 100, 140]
    lower = np.interp(x, across, [90, 34, 4, -12, -40 + tip / 2, -74 + tip, -84 + tip]).astype(np.float32)
    lower += 0.5 * np.clip(-y - 5, 0, 60) * np.clip((x - 10) / 30, 0, 1)
    lower += 0.007 * (y - 15) ** 2 * np.clip((x + 10) / 40, 0, 1) - 0.10 * (y - 30)
    lower += np.clip((12 - x) / 30, 0, 1) * (0.55 * np.clip(62 - y, -25, 60) - 14)  # the left lobe is a wedge in front
    back = smooth_min(14 - x - 0.45 * np.clip(y, 0, 60), 4 - 0.32 * x - y, 20)
    liver = smooth_max(smooth_max(body.abdomen(region), (lower - z) * 0.8, 14), back, 12)
    spine = ellipsoid(x, y - lordosis(z), np.float32(0), (0, -32, 0), (29, 26, 1))
    liver = smooth_max(liver, -spine, 8)
    centre, radii, turn = kidneys["right_kidney"]
    liver = smooth_max(liver, -ellipsoid(x, y, z, centre, radii + 6, turn), 8)
    behind = ellipsoid(x, y, z, centre + (-14, -26, 3), radii + (2, 20, 8), turn)
    liver = smooth_max(liver, -behind, 8)
    caudate = ellipsoid(x, y, z, (12, 6, 26), (17, 13, 22))
    liver = smooth_min(liver, caudate, 5)
    ligament = np.maximum(np.abs(x + 6 - 0.1 * (y - 40)) - 1.6 - np.clip((6 - z) / 12, 0, 2), np.maximum(50 - y, z - 2))
    body.paint(region, (liver < 0) & (ligament > 0), "liver", "liver", over=CAVITY)
    draw_liver_veins(body, subject)


def draw_liver_veins(body: Body, subject: Subject):
    """Three hepatic veins to the vena cava, the right and left portal branches with theirs, all inside the liver."""
    for points in courses("liver_veins"):
        for region, distance in body.tube(subject.vary(points, 1.5, 0.1, 3), 8):
            body.paint(region, distance < 0, None, "portal_blood", over=["liver"])


def draw_spleen(body: Body, subject: Subject, kidneys: dict):
    """A crescent along the wall under the left dome, hollowed by stomach and kidney."""
    generator = subject.generator
    region = body.region((-160, -110, -90), (-30, 60, 110))
    x, y, z = body.at(region)
    size = np.clip(generator.normal(1.02, 0.06), 0.92, 1.12)
    centre = np.array((-100, -40, 12)) + generator.normal(0, (2, 5, 6))
    spleen = ellipsoid(x, y, z, centre, np.array((43, 55, 64)) * size, rotation(generator.normal(-15, 6), 12, 0))
    spleen = smooth_max(spleen, body.abdomen(region), 8)
    spleen = smooth_max(spleen, -(body.cavity[region] + 43 * size), 10)
    kidney_centre, radii, turn = kidneys["left_kidney"]
    spleen = smooth_max(spleen, -ellipsoid(x, y, z, kidney_centre, radii + 5, turn), 6)
    hilum = ellipsoid(x, y, z, centre + (33, 22, -6), (17, 16, 34))
    body.paint(region, smooth_max(spleen, -hilum, 10) < 0, "spleen", "spleen", over=CAVITY)


def draw_kidneys(body: Body, kidneys: dict):
    """Beans with cortex, columns and pyramids, and a hilum of sinus fat and pelvis that faces inwards and forwards."""
    over = ["visceral_fat", "liver", "spleen", "muscle", "stomach"]
    for name, (centre, radii, turn) in kidneys.items():
        outward = 1 if name == "right_kidney" else -1
        region = body.region(centre - 75, centre + 75)
        x, y, z = body.at(region)
        local = [c - np.float32(m) for c, m in zip((x, y, z), centre, strict=True)]
        u, v, w = (sum(np.float32(turn[i, j]) * local[i] for i in range(3)) for j in range(3))
        u = u * outward + 0.0035 * w * w - 3  # the poles bend inwards
        bean = ellipsoid(u, v, w, (0, 0, 0), radii)
        sinus = ellipsoid(u, v, w, (-21, 0, 0), (18, 7.5, 19))
        pyramid = np.cos(2 * np.pi * w / 19) * np.cos(np.arctan2(v, u + 16) * 3.2) > -0.15
        kidney = smooth_max(bean, -sinus, 3)
        body.paint(region, kidney < 0, name, "renal_cortex", over=over)
        body.paint(region, (bean < -6.5) & (sinus > 2) & pyramid, None, "renal_medulla", over=[name])
        body.paint(region, (sinus < 0) & (bean < 3), "visceral_fat", "visceral_fat", over=over)
        pelvis = ellipsoid(u, v, w, (-18, -1, -2), (13, 4.5, 9))
        body.paint(region, (pelvis < 0) & (sinus < 0), "other_vessels", "urine", over=CAVITY)


def draw_great_vessels(body: Body, subject: Subject):
    """Aorta to its fork at L4, inferior vena cava to the right atrium, iliac and renal vessels, mesenteric trunks."""
    over = [*CAVITY, "mediastinum", "muscle", "liver", "heart", "right_lung", "left_lung", "stomach", "vertebrae"]
    wide = np.clip(subject.generator.normal(1, 0.07), 0.88, 1.2)
    for points in courses("other_vessels"):
        for region, distance in body.tube(subject.vary(points, 0.5, 0.06, 0.8), 8):
            body.paint(region, distance < 0, "other_vessels", "blood", over=CAVITY)
    aorta = subject.vary(course("aorta") * (1, 1, 1, wide), 1.0, 0.02, 0.8)
    cava = subject.vary(course("inferior_vena_cava"), 1.5, 0.07, 1.0)
    for name, points, stretch in (("inferior_vena_cava", cava, (1.22, 0.9, 1)), ("aorta", aorta, (1, 1, 1))):
        for region, distance in body.tube(points, 9, stretch):
            spine = body.tissue[region] == body.tissues["vertebrae"]
            body.paint(region, (distance < 0) & ~(spine & (distance > -4)), name, "blood", over=over)


def draw_pancreas(body: Body, subject: Subject, bumps):
    """Head in the duodenal loop with its uncinate process, neck, body over the aorta, tail to the spleen; lobulated."""
    generator = subject.generator
    age = np.clip(generator.normal(1, 0.10), 0.85, 1.2)  # the gland shrinks and its lobules part with age
    spread = generator.normal(0, (3, 2, 5))
    over = ["visceral_fat", "stomach", "liver", "spleen", "other_vessels", "left_kidney", "muscle"]
    for name in ("pancreas", "uncinate"):
        points = subject.vary(course(name) * (1, 1, 1, age), 0.5, 0.03, 1.2)
        points[:, :3] += spread
        for region, distance in body.tube(points, 7, (1, 0.92, 1.12)):
            body.paint(region, distance < np.minimum(bumps[region] * 1.5, 2), "pancreas", "pancreas", over=over)


def draw_portal_system(body: Body, subject: Subject):
    """Splenic vein behind the pancreas, confluence, portal vein into the liver; superior mesenteric vein below."""
    shift = subject.generator.normal(0, 1.5, 3)
    over = ["visceral_fat", "pancreas", "liver", "stomach", "duodenum", "other_vessels", "spleen", "muscle"]
    veins = "portal_and_splenic_veins"
    for name, tissue in (("mesenteric_vein", "other_vessels"), ("splenic_vein", veins), ("portal_vein", veins)):
        points = subject.vary(course(name), 0.3, 0.08, 0.8)
        points[:, :3] += shift
        for region, distance in body.tube(points, 6):
            body.paint(region, distance < 0, tissue, "portal_blood", over=over)


def draw_adrenals(body: Body, subject: Subject):
    """Right: an inverted V behind the vena cava; left: an inverted Y before the kidney's upper pole. Two thin limbs."""
    shapes = {  # apex, ends of the limbs (x, y), and the middle height
        "right_adrenal": ((31, -13), (31, -13), ((33, -37), (48, -38)), 2),
        "left_adrenal": ((-35, -6), (-35, -14), ((-30, -34), (-51, -33)), 4),
    }
    over = ["visceral_fat", "muscle", "liver", "right_kidney", "left_kidney", "spleen", "stomach", "other_vessels"]
    for name, (apex, fork, ends, height) in shapes.items():
        shift = subject.generator.normal(0, (1.2, 1.2, 3))
        size = np.clip(subject.generator.normal(1, 0.06), 0.9, 1.1)
        region = body.region((-70, -60, height - 34), (70, 20, height + 34))
        x, y, z = body.at(region)
        z = z - np.float32(height + shift[2])
        x, y = x - np.float32(shift[0]) - 0.10 * np.sign(apex[0]) * -z, y - np.float32(shift[1]) + 0.12 * z
        taper = 1 - np.clip(np.abs(z) / 18, 0, 1.5) ** 3
        gland = _limb(x, y, apex, fork, 2.9, 2.8) if apex != fork else np.float32(99)
        for end in ends:
            gland = smooth_min(gland, _limb(x, y, fork, end, 2.65 * size, 1.9 * size), 1.5)
        body.paint(region, gland < 3.2 * (taper - 1), name, "adrenal", over=over)


def _limb(x, y, start, end, thick_start: Number, thick_end: Number):
    """Distance in the axial plane to a limb that thins from `thick_start` to `thick_end` (half thickness, mm)."""
    d = np.subtract(end, start)
    t = np.clip(((x - start[0]) * d[0] + (y - start[1]) * d[1]) / float(d @ d), 0, 1)
    return np.hypot(x - start[0] - t * d[0], y - start[1] - t * d[1]) - (thick_start + t * (thick_end - thick_start))
