"""Volumes to work on: generated bodies, nilearn's MNI152 average, and scans of your own."""

from s2dc_core.data.cache import CachedScans, ScanFacts, Scans, facts_of
from s2dc_core.data.folder import NO_IMAGES, open_scans
from s2dc_core.data.phantoms import FINDINGS, MODALITIES, ORGANS, TISSUES, Phantom, make_phantom
from s2dc_core.data.scans import RULES, Scan, load_mni152, load_scan, open_scan, scan_from_phantom

__all__ = [
    "CachedScans",
    "FINDINGS",
    "MODALITIES",
    "NO_IMAGES",
    "ORGANS",
    "RULES",
    "TISSUES",
    "Phantom",
    "Scan",
    "ScanFacts",
    "Scans",
    "facts_of",
    "load_mni152",
    "load_scan",
    "make_phantom",
    "open_scan",
    "open_scans",
    "scan_from_phantom",
]
