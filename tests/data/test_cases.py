"""Every data set's layout, on a small tree that lies as the real one does; splits; what does not fit together."""

import json
import shutil

import numpy as np
import pytest
import torch
from monai.apps import DecathlonDataset
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import SwinUNETR
from monai.transforms import Compose, ResizeWithPadOrCropd
from torch import nn

from s2dc_core.cli import main
from s2dc_core.data import (
    check,
    fetch,
    find_cases,
    items_of,
    load_all,
    load_manifest,
    open_scans,
    require_cases,
    transforms_of,
)
from s2dc_core.data.layout import pattern_of
from s2dc_core.data.splits import hashed_section
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.pretraining import Pretraining
from tests.data.miniature import MAKERS, btcv, cc_ccii, metaimage, nifti, series, values
from tests.pretraining.test_pretrain import CONFIG

MANIFESTS = load_all()
COUNTS = {
    "adni": 3, "adni_cls": 12, "autopet": 20, "brats21": 8, "brats23": 11, "btcv": 31, "cc_ccii": 12, "flare23": 3,
    "hnscc": 2, "lidc_idri": 3, "luna16": 3, "msd_liver": 11, "msd_lung": 11, "msd_spleen": 11, "oasis3": 3,
    "stoic21": 3, "tcia_covid19": 3, "totalsegmentator": 3, "udpet": 12, "udpet_low_dose": 12,
}  # fmt: skip
"""Cases of each small tree."""


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """{manifest: folder}, made when asked for."""
    made = {}

    def tree(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            MAKERS[name](made[name])
        return made[name]

    return tree


def test_every_data_set_has_a_small_tree():
    generated = {name for name, manifest in MANIFESTS.items() if manifest.generated}
    collections = {name for name, manifest in MANIFESTS.items() if manifest.members}
    assert set(MAKERS) == set(MANIFESTS) - generated - collections == set(COUNTS)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_data_set_is_found_checked_loaded_and_trained_on(trees, name):
    manifest, root = MANIFESTS[name], trees(name)
    report = check([(manifest, root)])
    assert [str(problem) for problem in report.problems] == []
    assert report.datasets[name]["cases"] == COUNTS[name]
    cases = require_cases(manifest, root)
    if "pretraining" in manifest.tasks:
        assert np.isfinite(pretraining_step(manifest, cases).total)
    if manifest.tasks != ["pretraining"]:
        task = next(task for task in manifest.tasks if task != "pretraining")
        before, after = downstream_step(manifest, task, cases)
        assert np.isfinite(before) and after < before


def pretraining_step(manifest, cases):
    """A step on two scans of what pre-training may read, prepared as the manifest says."""
    chosen = [case for case in cases if case.section in manifest.pretraining_sections][:2]
    files = [case.images[image] for case in chosen for image in manifest.pretraining_images or case.images]
    spacing = manifest.preprocessing["spacing"]
    scans, _ = open_scans(files, manifest.modality, spacing, window=manifest.window, rule=manifest.rule, keep_raw=False)
    return Pretraining(CONFIG, scans).step()


def downstream_step(manifest, task, cases):
    """The loss on a batch of two before and after a step that lowers it."""
    images = manifest.image_names
    separate = task in ("translation", "reconstruction")
    keys = images[:2] if separate else ["image", "label"] if task == "segmentation" else ["image"]
    crop = ResizeWithPadOrCropd(keys, (64, 64, 64))
    data = Dataset(items_of(manifest, cases, "training"), Compose([transforms_of(manifest, keys), crop]))
    batch = next(iter(DataLoader(data, batch_size=2)))
    first = batch[keys[0]].as_tensor()
    torch.manual_seed(0)
    if task == "classification":
        model = nn.Sequential(
            Encoder(EncoderConfig(embed_dim=12, heads=(1, 2, 4, 8), sub_volume=(64, 64, 64))), Pooled()
        )
        loss = lambda: nn.functional.cross_entropy(model(first), batch["target"])  # noqa: E731
    else:
        outputs = 1 if separate else max(manifest.label_names) + 1
        model = SwinUNETR(in_channels=first.shape[1], out_channels=outputs, feature_size=12, num_heads=(1, 2, 4, 8))
        if separate:
            loss = lambda: nn.functional.mse_loss(model(first), batch[keys[1]].as_tensor())  # noqa: E731
        else:
            dice = DiceCELoss(to_onehot_y=True, softmax=True)
            loss = lambda: dice(model(first), batch["label"].as_tensor())  # noqa: E731
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = loss()
    before.backward()
    optimiser.step()
    return float(before.detach()), float(loss().detach())


class Pooled(nn.Module):
    """A linear layer on the pooled last level."""

    def __init__(self):
        super().__init__()
        self.linear = nn.LazyLinear(3)

    def forward(self, levels):
        return self.linear(levels[-1].mean((2, 3, 4)))


@pytest.mark.parametrize("name", ["phantom_ct", "phantom_pet", "phantom_mr", "mni152"])
def test_what_is_generated_is_fetched_checked_and_trained_on(name, tmp_path, monkeypatch):
    manifest = MANIFESTS[name]
    monkeypatch.setitem(manifest.generated, "seeds", manifest.generated["seeds"][-1:])
    if manifest.split["rule"] == "listed":
        monkeypatch.setitem(manifest.split, "sections", {"training": [f"{manifest.generated['seeds'][0]:04d}"]})
    added = fetch(manifest, tmp_path, progress=False)
    assert len(added) == 2 and fetch(manifest, tmp_path, progress=False) == []
    assert check([(manifest, tmp_path)]).problems == []
    cases = require_cases(manifest, tmp_path)
    assert np.isfinite(pretraining_step(manifest, cases).total)
    item = transforms_of(manifest, ("image", "label"))(items_of(manifest, cases)[0])
    assert item["image"].shape == item["label"].shape
    assert set(np.unique(item["label"]).tolist()) == {0, *manifest.label_names}


def test_btcv_is_split_as_peers_do(trees):
    cases = require_cases(MANIFESTS["btcv"], trees("btcv"))
    sections = {
        section: [case.name for case in cases if case.section == section] for section in ("training", "validation")
    }
    assert sections["validation"] == ["0035", "0036", "0037", "0038", "0039", "0040"]
    assert sections["training"] == [f"{k:04d}" for k in [*range(1, 11), *range(21, 35)]]
    assert [case.name for case in cases if case.section == "test"] == ["0061"]


@pytest.mark.parametrize("name", ["msd_liver", "msd_lung", "msd_spleen"])
def test_the_decathlon_is_split_as_monai_does(trees, name):
    manifest, root = MANIFESTS[name], trees(name)
    cases, task = require_cases(manifest, root), manifest.split["task"]
    for section in ("training", "validation"):
        theirs = DecathlonDataset(root, task, section, transform=lambda item: item, cache_num=0).data
        ours = [str(case.images["image"]) for case in cases if case.section == section]
        assert sorted(ours) == sorted(str(root / task / item["image"].split(f"{task}/")[1]) for item in theirs)
    inside = require_cases(manifest, root / task)
    assert [case.section for case in inside] == [case.section for case in cases]


def test_the_decathlons_addresses_are_monais():
    for name in ("msd_liver", "msd_lung", "msd_spleen"):
        (entry,) = MANIFESTS[name].files
        task = MANIFESTS[name].split["task"]
        assert entry["url"] == DecathlonDataset.resource[task]
        assert entry["checksum"] == f"md5:{DecathlonDataset.md5[task]}"


@pytest.mark.parametrize(
    "name", sorted(name for name, m in MANIFESTS.items() if m.split and m.split["rule"] == "hashed")
)
def test_a_patient_stays_in_one_section_whatever_else_is_missing(trees, name, tmp_path):
    manifest, root = MANIFESTS[name], trees(name)
    cases = require_cases(manifest, root)
    sections = {case.patient: case.section for case in cases}
    assert all(sections[case.patient] == case.section for case in cases)
    assert len(set(sections.values())) > 1
    shutil.copytree(root, tmp_path / "part")
    for case in cases[::3]:
        for path in case.images.values():
            place = tmp_path / "part" / path.relative_to(root)
            shutil.rmtree(place) if place.is_dir() else shutil.rmtree(place.parent, ignore_errors=True)
    found, _ = find_cases(manifest, tmp_path / "part")
    assert 0 < len(found) < len(cases)
    assert all(sections[case.patient] == case.section for case in found)


def test_the_shares_of_a_hashed_split_are_those_asked_for():
    split = {"seed": 0, "validation": 0.1, "test": 0.2}
    drawn = [hashed_section(split, f"patient {k}") for k in range(20_000)]
    for section, share in (("validation", 0.1), ("test", 0.2), ("training", 0.7)):
        assert drawn.count(section) / len(drawn) == pytest.approx(share, abs=0.01)
    other = [hashed_section({**split, "seed": 1}, f"patient {k}") for k in range(100)]
    assert other != drawn[:100]


def test_classes_are_read_from_folders_and_tables(trees):
    for name in ("cc_ccii", "adni_cls"):
        cases = require_cases(MANIFESTS[name], trees(name))
        assert sorted(case.target for case in cases) == [0] * 4 + [1] * 4 + [2] * 4
    assert {case.parts["class"]: case.target for case in require_cases(MANIFESTS["cc_ccii"], trees("cc_ccii"))} == {
        "Normal": 0, "CP": 1, "NCP": 2,
    }  # fmt: skip


def test_a_table_without_a_class_or_no_table_is_named(trees, tmp_path):
    root = tmp_path / "adni"
    shutil.copytree(trees("adni_cls"), root)
    (table,) = root.glob("*.csv")
    table.write_text(table.read_text().replace('"I240003","003_S_0003","CN"', '"I240003","003_S_0003","Patient"'))
    _, problems = find_cases(MANIFESTS["adni_cls"], root)
    assert [problem.kind for problem in problems] == ["missing"] and "I240003" in problems[0].case
    assert "no class: 'Patient' in *.csv is none of CN, SMC, MCI" in problems[0].message
    table.unlink()
    with pytest.raises(ValueError, match=r"adni_cls needs a table \*.csv under .* column Group holds"):
        find_cases(MANIFESTS["adni_cls"], root)


def test_what_does_not_fit_together_is_named(tmp_path):
    btcv(tmp_path)
    images, maps = tmp_path / "RawData/Training/img", tmp_path / "RawData/Training/label"
    (maps / "label0003.nii.gz").unlink()
    (images / "img0004.nii.gz").unlink()
    nifti(images / "img0050.nii.gz", values(5, "ct"))
    nifti(maps / "label0050.nii.gz", np.zeros((24, 20, 16)))
    nifti(tmp_path / "copy/Training/img/img0005.nii.gz", values(6, "ct"))
    cases, problems = find_cases(MANIFESTS["btcv"], tmp_path)
    found = {(problem.kind, problem.case): problem.message for problem in problems}
    assert found[("missing", "0003")].endswith("expected Training/label/label0003.nii.gz")
    assert "expected Training/img/img0004.nii.gz" in found[("missing", "0004")]
    assert "the split does not name it" in found[("split", "0050")]
    assert (
        "RawData/Training/img/img0005.nii.gz and copy/Training/img/img0005.nii.gz both match"
        in found[("ambiguous", "0005")]
    )
    with pytest.raises(ValueError, match="is not btcv as its manifest has it"):
        require_cases(MANIFESTS["btcv"], tmp_path)


def test_a_patient_in_two_sections_is_named(tmp_path):
    file = tmp_path / "two.json"
    content = json.loads(load_text("btcv"))
    content |= {
        "name": "two",
        "layouts": [{"origin": "test", "parts": [{"images": {"image": "{patient}_{visit}.nii.gz"}}]}],
        "split": {"rule": "listed", "origin": "test", "sections": {"training": ["a/1"], "validation": ["a/2", "b/1"]}},
    }
    file.write_text(json.dumps(content))
    for name in ("a_1", "a_2", "b_1"):
        nifti(tmp_path / f"{name}.nii.gz", values(0, "ct"))
    _, problems = find_cases(load_manifest(file), tmp_path)
    assert [tuple(problem) for problem in problems] == [
        ("split", "two", "a", "this patient is in training and validation")
    ]


def load_text(name):
    from s2dc_core.data.manifests import FOLDER

    return FOLDER.joinpath(f"{name}.json").read_text(encoding="utf-8")


def test_a_wrong_root_is_named(tmp_path, capsys):
    assert main(["data", "check", "btcv", "--root", str(tmp_path / "absent")]) == 2
    assert f"there is no folder {tmp_path / 'absent'}" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError) as raised:
        find_cases(MANIFESTS["btcv"], tmp_path)
    for words in ("nothing under", "Training/img/img{case}.nii.gz (RawData.zip of Synapse)", "1 files", "notes.txt"):
        assert words in str(raised.value)
    with pytest.raises(ValueError, match="ct_1k is a collection: give its members btcv, tcia_covid19"):
        find_cases(MANIFESTS["ct_1k"], tmp_path)


def test_a_folder_that_cannot_be_read_is_named_and_other_series_are_passed_over(tmp_path):
    MAKERS["hnscc"](tmp_path)
    manifest = MANIFESTS["hnscc"]
    assert check([(manifest, tmp_path)]).problems == []
    ct = sorted(tmp_path.rglob("*CT 5.0*"))[0]
    for file in ct.iterdir():
        file.write_bytes(b"")
    (problem,) = check([(manifest, tmp_path)]).problems
    assert problem.kind == "unreadable" and ct.name in problem.message


def test_what_file_managers_leave_is_no_picture(tmp_path):
    cc_ccii(tmp_path)
    scan = next(tmp_path.rglob("0000.png")).parent
    (scan / "Thumbs.db").write_bytes(b"x")
    assert check([(MANIFESTS["cc_ccii"], tmp_path)]).problems == []
    (scan / "0000.txt").write_bytes(b"x")
    (problem,) = check([(MANIFESTS["cc_ccii"], tmp_path)]).problems
    assert problem.kind == "unreadable" and scan.name in problem.message


def test_a_mixture_of_layouts_is_named(tmp_path):
    MAKERS["udpet"](tmp_path)
    nifti(tmp_path / "Subject_50" / "full_dose.nii.gz", values(1, "pet"))
    nifti(tmp_path / "Subject_03" / "full_dose.nii.gz", values(2, "pet"))  # the same patient, converted
    cases, problems = find_cases(MANIFESTS["udpet"], tmp_path)
    assert len(cases) == 12
    assert [(problem.kind, problem.case) for problem in problems] == [("layout", "Subject_50")]
    assert "it lies as in converted to NIfTI, the others as in DICOM series by patient" in problems[0].message


def test_both_scanners_of_udpet_are_found(tmp_path):
    for name, low, full in (("a", "1-50 dose", "Full_dose"), ("b", "D50", "NORMAL"), ("c", "DRF_50", "NORMAL")):
        series(tmp_path / name / low, 1, "pet")
        series(tmp_path / name / full, 2, "pet")
    assert [case.name for case in require_cases(MANIFESTS["udpet_low_dose"], tmp_path)] == ["a", "b", "c"]
    assert [case.name for case in require_cases(MANIFESTS["udpet"], tmp_path)] == ["a", "b", "c"]


def test_the_lung_masks_of_luna16_are_no_scans(tmp_path):
    MAKERS["luna16"](tmp_path)
    for k, scan in enumerate(sorted(tmp_path.rglob("*.mhd"))):
        metaimage(tmp_path / "seg-lungs-LUNA16" / scan.name, np.ones((24, 20, 16)) * k)
    metaimage(tmp_path / "seg-lungs-LUNA16" / "1.2.3.mhd", np.ones((24, 20, 16)))
    cases = require_cases(MANIFESTS["luna16"], tmp_path)
    assert [case.images["image"].parent.name for case in cases] == ["subset0", "subset1", "subset2"]


def test_the_decathlon_is_found_from_inside_and_its_broken_list_is_named(trees, tmp_path, monkeypatch):
    shutil.copytree(trees("msd_spleen"), tmp_path / "msd")
    inside = tmp_path / "msd" / "Task09_Spleen"
    monkeypatch.chdir(inside)
    assert len(require_cases(MANIFESTS["msd_spleen"], ".")) == 11
    listed = json.loads((inside / "dataset.json").read_text())
    for broken in ("{", json.dumps({key: value for key, value in listed.items() if key != "reference"})):
        (inside / "dataset.json").write_text(broken)
        with pytest.raises(ValueError, match="dataset.json is no list of the Decathlon"):
            find_cases(MANIFESTS["msd_spleen"], inside)
    (inside / "dataset.json").unlink()
    with pytest.raises(ValueError, match="needs Task09_Spleen/dataset.json under"):
        find_cases(MANIFESTS["msd_spleen"], inside)


def test_a_table_that_cannot_be_read_is_named(trees, tmp_path):
    root = tmp_path / "adni"
    shutil.copytree(trees("adni_cls"), root)
    (table,) = root.glob("*.csv")
    text = table.read_text()
    table.write_text(text.replace('"PET"', '"PET","one entry too many"'))
    assert len(require_cases(MANIFESTS["adni_cls"], root)) == 12
    table.write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match="csv cannot be read as a table"):
        find_cases(MANIFESTS["adni_cls"], root)


def test_placeholders_may_stand_in_any_order(tmp_path):
    content = json.loads(load_text("btcv"))
    part = {"images": {"image": "{patient}_{visit}.nii"}, "label": "{visit}_{patient}_seg.nii"}
    content |= {"name": "two", "layouts": [{"origin": "x", "parts": [part]}], "split": {"rule": "all", "origin": "x"}}
    (tmp_path / "two.json").write_text(json.dumps(content))
    nifti(tmp_path / "a_1.nii", values(0, "ct"))
    nifti(tmp_path / "1_a_seg.nii", np.zeros((24, 20, 16)))
    (case,) = require_cases(load_manifest(tmp_path / "two.json"), tmp_path)
    assert case.name == "a/1" and case.label.name == "1_a_seg.nii"


def test_a_link_back_does_not_go_round(tmp_path):
    cc_ccii(tmp_path)
    (tmp_path / "CC-CCII" / "again").symlink_to(tmp_path)
    assert len(require_cases(MANIFESTS["cc_ccii"], tmp_path)) == 12


@pytest.mark.parametrize(
    ("pattern", "path", "parts"),
    [
        ("img{case}.nii.gz", "a/b/img7.nii.gz", {"case": "7"}),
        ("img{case}.nii.gz", "img7xnii.gz", None),
        ("{a}/{a}_t1.nii", "x/x_t1.nii", {"a": "x"}),
        ("{a}/{a}_t1.nii", "x/y_t1.nii", None),
        ("A-{p:4}{v?}.nii", "A-0001.nii", {"p": "0001", "v": ""}),
        ("A-{p:4}{v?}.nii", "A-0001_d2.nii", {"p": "0001", "v": "_d2"}),
        ("A-{p:4}{v?}.nii", "A-001.nii", None),
        ("anat*/{p}.nii", "x/anat12/q.nii", {"p": "q"}),
        ("anat*/{p}.nii", "x/anat1/2/q.nii", None),
        ("s{p}/", "x/s1/", {"p": "1"}),
    ],
)
def test_patterns(pattern, path, parts):
    match = pattern_of(pattern).fullmatch(path)
    assert (match and match.groupdict()) == parts
