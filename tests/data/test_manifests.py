"""Every manifest holds to the schema and to the facts it must carry; a broken one is named with its field."""

import json
from pathlib import Path

import pytest

from s2dc_core.cli import main
from s2dc_core.data import ORGANS, describe, load_all, load_manifest, members_of, overlaps_of, table

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = load_all()
PRETRAINING = {
    "btcv", "tcia_covid19", "luna16", "stoic21", "totalsegmentator", "flare23", "hnscc", "lidc_idri", "oasis3", "adni",
    "udpet", "phantom_ct", "phantom_mr", "phantom_pet", "mni152", "ct_1k", "ct_10k", "mri_6k", "pet_3k",
}  # fmt: skip
DOWNSTREAM = {
    "btcv": "segmentation", "msd_liver": "segmentation", "msd_lung": "segmentation", "msd_spleen": "segmentation",
    "brats21": "segmentation", "autopet": "segmentation", "brats23": "translation", "cc_ccii": "classification",
    "adni_cls": "classification", "udpet_low_dose": "reconstruction",
}  # fmt: skip
CONTENT = {
    "name": "tiny", "title": "A tiny set", "modality": "ct", "tasks": ["segmentation"], "citation": "nobody",
    "access": {"kind": "public", "how": "here"}, "licence": "CC0", "cases": {"count": 2, "origin": "a test"},
    "layouts": [
        {"origin": "a test", "parts": [{"images": {"image": "images/{case}.nii.gz"}, "label": "labels/{case}.nii.gz"}]}
    ],
    "labels": {"1": "one"}, "split": {"rule": "all", "origin": "a test"},
    "preprocessing": {
        "spacing": None, "origin": "a test", "intensity": {"rule": "window", "low": -175, "high": 250},
    },
}  # fmt: skip
"""A manifest with nothing that it could do without."""


def test_every_data_set_of_the_paper_is_there():
    assert set(MANIFESTS) == PRETRAINING | set(DOWNSTREAM)
    assert {name for name, manifest in MANIFESTS.items() if "pretraining" in manifest.tasks} == PRETRAINING
    assert all(task in MANIFESTS[name].tasks for name, task in DOWNSTREAM.items())
    for name in DOWNSTREAM:
        assert MANIFESTS[name].metric["names"] and MANIFESTS[name].metric["empty"]
        assert "/" in MANIFESTS[name].metric["paper"] or "T1" in MANIFESTS[name].metric["paper"]


def test_the_labels_of_btcv_and_of_the_generated_bodies_are_the_same_organs():
    for name in ("btcv", "phantom_ct", "phantom_mr", "phantom_pet"):
        short = {
            number: organ.replace(" gland", "").replace(" ", "_")
            for number, organ in MANIFESTS[name].label_names.items()
        }
        assert short == ORGANS


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_what_a_manifest_names_exists(name):
    manifest = MANIFESTS[name]
    assert all(relation["with"] in MANIFESTS for relation in manifest.relations)
    assert all(member.modality == manifest.modality for member in members_of(manifest))
    assert set(manifest.pretraining_images or []) <= set(manifest.image_names)
    for layout in manifest.layouts:
        for part in layout["parts"]:
            assert list(part["images"]) == manifest.image_names
            for relation in manifest.relations:
                key = relation.get("key")
                assert key in (None, "series") or any(f"{{{key}" in pattern for pattern in part["images"].values())
    assert all({*labels} <= set(manifest.label_names) for labels in manifest.regions.values())


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_a_manifest_is_shown_whole(name, capsys):
    assert main(["data", "show", name]) == 0
    said, manifest = capsys.readouterr().out, MANIFESTS[name]
    for note in [*manifest.notes, manifest.citation, manifest.preprocessing["origin"]]:
        assert note in said
    for field in manifest.unverified:
        assert f"\n{field} (u)" in said
    for overlap in overlaps_of(manifest):
        assert f"known overlap: {overlap}" in said


def test_unverified_facts_stay_marked():
    """Those that the project could not check at the source."""
    for name, fields in {
        "tcia_covid19": ["licence"], "stoic21": ["licence"], "totalsegmentator": ["licence"],
        "flare23": ["licence", "relations"], "hnscc": ["access", "licence"], "oasis3": ["access", "licence"],
        "adni": ["access"], "udpet": ["access"], "brats21": ["relations"], "brats23": ["cases"],
    }.items():  # fmt: skip
        assert set(fields) <= set(MANIFESTS[name].unverified), name


def test_the_contradiction_of_the_paper_is_noted():
    for name in ("adni", "adni_cls"):
        assert any("contradiction of the paper" in note and "table 2" in note for note in MANIFESTS[name].notes)


def test_known_overlaps_are_told():
    found = {(overlap.one, overlap.other): overlap.key for overlap in overlaps_of(*MANIFESTS.values())}
    assert found[("luna16", "lidc_idri")] == "series"
    assert found[("brats21", "brats23")] == "patient"
    assert found[("adni", "adni_cls")] == found[("udpet", "udpet_low_dose")] == "patient"
    assert found[("flare23", "msd_liver")] is None
    assert {("btcv", "ct_1k"), ("btcv", "ct_10k")} <= set(found)
    assert [overlap.one for overlap in overlaps_of(*members_of(MANIFESTS["ct_10k"]))] == ["luna16"]
    assert {overlap.one for overlap in overlaps_of(MANIFESTS["ct_1k"])} == {"btcv"}
    assert {overlap.one for overlap in overlaps_of(MANIFESTS["ct_10k"])} == {"btcv", "luna16", "flare23"}
    assert {overlap.other for overlap in overlaps_of(MANIFESTS["pet_3k"])} == {"udpet_low_dose", "adni_cls"}


def test_the_readme_shows_the_table_of_the_manifests():
    text = (ROOT / "data_manifests" / "README.md").read_text(encoding="utf-8")
    assert table(MANIFESTS.values(), markdown=True) in text


def test_the_list_fits_a_terminal_line_by_line(capsys):
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(MANIFESTS) + 1
    assert {line.split()[0] for line in lines[1:]} == set(MANIFESTS)


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        ({"modality": "xray"}, "modality", "'xray' is not one of"),
        ({"access": {"kind": "free", "how": "x"}}, "access.kind", "'free' is not one of"),
        ({"spacing": 3}, "the manifest", "'spacing' was unexpected"),
        ({"labels": {"one": "1"}}, "labels", "'one' does not match"),
        ({"split": {"rule": "listed", "origin": "x"}}, "split", "'sections' is a required property"),
        ({"preprocessing": {"origin": "x", "spacing": [1, 1], "intensity": CONTENT["preprocessing"]["intensity"]}},
         "preprocessing.spacing", "[1, 1] is too short"),
        ({"files": [{"url": "ftp://x", "name": "a", "checksum": None}]}, "files[0].url", "'ftp://x' does not match"),
        ({"files": [{"url": "https://x", "name": "../a", "checksum": None}]}, "files[0].name", "'../a' does not match"),
        ({"name": "other"}, "name", "its file's is another"),
        ({"members": ["btcv"]}, "the manifest", ""),
    ],
)  # fmt: skip
def test_a_broken_manifest_names_file_and_field(tmp_path, change, place, message, capsys):
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps({**CONTENT, **change}))
    assert main(["data", "show", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file} breaks the schema at {place}: " in error and message in error and error.count("\n") == 1


@pytest.mark.parametrize("gone", ["title", "layouts", "split", "citation", "preprocessing"])
def test_a_missing_field_is_named(tmp_path, gone):
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps({key: value for key, value in CONTENT.items() if key != gone}))
    with pytest.raises(ValueError, match=f"tiny.json breaks the schema at the manifest: .*'{gone}' is a required"):
        load_manifest(file)


def test_what_is_no_manifest_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no manifest 'btvc': give a .json file or one of adni, "):
        load_manifest("btvc")
    with pytest.raises(FileNotFoundError, match="there is no file .*absent.json"):
        load_manifest(tmp_path / "absent.json")
    (tmp_path / "tiny.json").write_text("{")
    with pytest.raises(ValueError, match="tiny.json cannot be read as JSON"):
        load_manifest(tmp_path / "tiny.json")


def test_a_description_says_what_a_manifest_holds():
    said = describe(load_manifest("brats21"))
    assert "\n  TC: 1, 4\n" in said and "flair: BraTS2021_{patient:5}/BraTS2021_{patient:5}_flair.nii.gz" in said
