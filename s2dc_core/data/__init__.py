"""Volumes to work on: generated bodies, nilearn's MNI152 average, scans of your own, and data sets by manifest."""

from s2dc_core.data.cache import CachedScans, Outline, ScanFacts, Scans, facts_of
from s2dc_core.data.cases import find_cases, images_alone, problem_table, require_cases
from s2dc_core.data.check import Report, check
from s2dc_core.data.dose import dose_pair
from s2dc_core.data.fetch import fetch
from s2dc_core.data.folder import open_scans
from s2dc_core.data.headers import check_files
from s2dc_core.data.intensities import CT_WINDOW, RULES, normalise, suv_of
from s2dc_core.data.layout import Case, Problem
from s2dc_core.data.lessons import AIR, GENERATED, open_at, stand_in, title_of, with_tissues
from s2dc_core.data.loading import LoadVolumesd, decathlon, items_of, labels_in, transforms_of
from s2dc_core.data.manifests import SECTIONS, Manifest, describe, load_all, load_manifest, members_of, table
from s2dc_core.data.overlaps import Overlap, exclude_overlaps, overlaps_of
from s2dc_core.data.pairing import pair_with_labels
from s2dc_core.data.phantoms import FINDINGS, MODALITIES, ORGANS, TISSUES, Phantom, body_coordinates, make_phantom
from s2dc_core.data.preview import preview
from s2dc_core.data.scans import Scan, load_mni152, load_scan, open_scan, scan_from_phantom
from s2dc_core.data.settings import difference_in_settings, settings_in_words, settings_of, settings_of_manifest
from s2dc_core.data.structures import (
    Place,
    anchor_places,
    body_grid,
    count_structures,
    find_structure,
    mirror_of,
    structure_grid,
    structure_names,
    structure_problem,
    structure_sizes,
)

__all__ = [
    "AIR",
    "CT_WINDOW",
    "CachedScans",
    "Outline",
    "Case",
    "FINDINGS",
    "GENERATED",
    "LoadVolumesd",
    "MODALITIES",
    "Manifest",
    "ORGANS",
    "Overlap",
    "Phantom",
    "Place",
    "Problem",
    "RULES",
    "Report",
    "SECTIONS",
    "Scan",
    "ScanFacts",
    "Scans",
    "TISSUES",
    "anchor_places",
    "body_coordinates",
    "body_grid",
    "check",
    "count_structures",
    "check_files",
    "decathlon",
    "describe",
    "difference_in_settings",
    "dose_pair",
    "exclude_overlaps",
    "facts_of",
    "fetch",
    "find_cases",
    "find_structure",
    "images_alone",
    "items_of",
    "labels_in",
    "load_all",
    "load_manifest",
    "load_mni152",
    "load_scan",
    "make_phantom",
    "members_of",
    "mirror_of",
    "open_at",
    "open_scan",
    "open_scans",
    "overlaps_of",
    "pair_with_labels",
    "preview",
    "problem_table",
    "require_cases",
    "normalise",
    "scan_from_phantom",
    "stand_in",
    "structure_grid",
    "structure_names",
    "structure_problem",
    "structure_sizes",
    "settings_in_words",
    "settings_of",
    "settings_of_manifest",
    "suv_of",
    "table",
    "title_of",
    "transforms_of",
    "with_tissues",
]
