"""Small trees that lie as the real data sets do, under literal names, in the formats of the sources."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import PositronEmissionTomographyImageStorage

from tests.data.test_dicom import write_series

SHAPE, SIDE = (24, 20, 16), 2.0


def smooth(seed, shape=SHAPE):
    """Values 0..1 that vary over a few voxels and differ by seed."""
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    a, b, c, d = np.random.default_rng(seed).uniform(2, 6, 4)
    return 0.5 + 0.25 * (np.sin(a * x + b * y) + np.cos(c * y + d * z))


SCALES = {"ct": (-1000, 400), "mr": (0, 500), "pet": (0, 10)}


def values(seed, modality):
    low, high = SCALES[modality]
    return low + (high - low) * smooth(seed)


def nifti(file: Path, content, dtype=np.float32, side=SIDE):
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(content, dtype=dtype), np.diag([side, side, side, 1.0])), file)


def labels(seed, numbers):
    """A label map with boxes of the given numbers."""
    result = np.zeros(SHAPE, dtype=np.uint8)
    thick = 13 // max(len(numbers), 1)
    for k, number in enumerate(numbers):
        result[2 + seed % 3 : 20, 3:17, 1 + k * thick : 1 + (k + 1) * thick] = number
    return result


def metaimage(file: Path, content, side=SIDE):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.asarray(content, dtype=np.int16).T)
    image.SetSpacing((side,) * 3)
    sitk.WriteImage(image, str(file))


def pictures(folder: Path, seed, slices=16):
    folder.mkdir(parents=True)
    content = np.round(255 * smooth(seed, (24, 20, slices))).astype(np.uint8)
    for k in range(slices):
        sitk.WriteImage(sitk.GetImageFromArray(content[..., k].T), str(folder / f"{k:04d}.png"))


def series(folder: Path, seed, modality="ct"):
    """A DICOM series: CT in HU, or PET in SUV."""
    stored = np.round((values(seed, "ct") + 1024) / 2).astype(int)
    write_series(folder, np.moveaxis(stored, 0, 1), spacing=(SIDE, SIDE, SIDE))
    if modality == "pet":
        for file in folder.iterdir():
            slice_ = pydicom.dcmread(file)
            slice_.SOPClassUID = PositronEmissionTomographyImageStorage
            slice_.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
            slice_.Modality, slice_.Units, slice_.RescaleSlope, slice_.RescaleIntercept = "PT", "GML", 0.01, 0
            slice_.save_as(file)


def btcv(root: Path):
    for k, number in enumerate([*range(1, 11), *range(21, 41)]):
        nifti(root / f"RawData/Training/img/img{number:04d}.nii.gz", values(k, "ct"), np.int16)
        nifti(root / f"RawData/Training/label/label{number:04d}.nii.gz", labels(k, range(1, 14)), np.uint8)
    nifti(root / "RawData/Testing/img/img0061.nii.gz", values(99, "ct"), np.int16)


def tcia_covid19(root: Path):
    for k, name in enumerate(["0000", "0001", "0001_day004"]):
        nifti(root / f"TCIA/volume-covid19-A-{name}.nii.gz", values(k, "ct"), np.int16)


UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.{}"


def luna16(root: Path):
    for k in range(3):
        metaimage(root / f"subset{k}" / f"{UID.format(100 + k)}.mhd", values(k, "ct"))


def stoic21(root: Path):
    for k in range(3):
        metaimage(root / f"data/mha/{10 + k}.mha", values(k, "ct"))
    (root / "metadata").mkdir()
    (root / "metadata" / "reference.csv").write_text("PatientID,probCOVID,probSevere\n10,1,0\n")


def totalsegmentator(root: Path):
    for k in range(3):
        nifti(root / f"Totalsegmentator_dataset/s{k:04d}/ct.nii.gz", values(k, "ct"), np.int16)
        nifti(root / f"Totalsegmentator_dataset/s{k:04d}/segmentations/liver.nii.gz", labels(k, [1]), np.uint8)


def flare23(root: Path):
    for k in (1, 2):
        nifti(root / f"MICCAI-FLARE23/imagesTr2200/FLARE23_{k:04d}_0000.nii.gz", values(k, "ct"), np.int16)
        nifti(root / f"MICCAI-FLARE23/labelsTr2200/FLARE23_{k:04d}.nii.gz", labels(k, [1]), np.uint8)
    nifti(root / "MICCAI-FLARE23/unlabeledTr1800/FLARE23_2201.nii.gz", values(3, "ct"), np.int16)


def hnscc(root: Path):
    for k in range(2):
        place = root / f"HNSCC/HNSCC-01-000{k + 1}/01-01-2000-NA-PETCT-2851{k}"
        series(place / f"2.000000-CT 5.0 H30f-0443{k}", k)
        series(place / f"605.000000-PET AC-6120{k}", k, "pet")
        contours = place / f"1.000000-RTS-0017{k}"
        contours.mkdir()
        (contours / "1-1.dcm").write_bytes(b"\0" * 128 + b"DICM")


def lidc_idri(root: Path):
    for k in range(3):
        series(
            root / f"manifest-1/LIDC-IDRI/LIDC-IDRI-000{k + 1}/01-01-2000-NA-NA-3017{k}/3000566.000000-NA-0319{k}", k
        )


def oasis3(root: Path):
    for k, name in enumerate(["OAS30001_ses-d0129", "OAS30001_ses-d0757_run-01", "OAS30002_ses-d0653"]):
        place = root / name.split("_run")[0].replace("_ses-", "_MR_") / "anat2"
        nifti(place / f"sub-{name}_T1w.nii.gz", values(k, "mr"), np.int16)


def adni(root: Path):
    for k, patient in enumerate(["002_S_0295", "002_S_0413", "003_S_0907"]):
        series(root / f"ADNI/{patient}/Coreg__Avg__Std_Img/2011-06-0{k + 1}_08_30_53.0/I24000{k}", k, "pet")


def adni_cls(root: Path):
    groups = ["CN", "MCI", "AD"] * 4
    for k in range(12):
        place = root / f"ADNI/{k:03d}_S_0{k:03d}/Coreg__Avg__Std_Img/2011-06-02_08_30_53.0/I24{k:04d}"
        nifti(place / f"ADNI_{k:03d}_S_0{k:03d}_PT_I24{k:04d}.nii", values(k, "pet"))
    rows = [f'"I24{k:04d}","{k:03d}_S_0{k:03d}","{group}","PET"' for k, group in enumerate(groups)]
    (root / "ADNI_PET_11_23_2026.csv").write_text('"Image Data ID","Subject","Group","Modality"\n' + "\n".join(rows))


def udpet(root: Path):
    for k in range(12):
        series(root / f"Subject_{k:02d}/Full_dose", k, "pet")


def udpet_low_dose(root: Path):
    for k in range(12):
        series(root / f"Subject_{k:02d}/Full_dose", k, "pet")
        series(root / f"Subject_{k:02d}/1-50 dose", 100 + k, "pet")


def _decathlon(root: Path, task, stem, numbers, count=10):
    for k in range(count):
        nifti(root / task / f"imagesTr/{stem}_{k}.nii.gz", values(k, "ct"), np.int16)
        nifti(root / task / f"labelsTr/{stem}_{k}.nii.gz", labels(k, numbers), np.uint8)
    nifti(root / task / f"imagesTs/{stem}_{count}.nii.gz", values(count, "ct"), np.int16)
    (root / task / f"imagesTr/._{stem}_0.nii.gz").write_bytes(b"a resource fork of macOS, as the archives hold them")
    paths = [{"image": f"./imagesTr/{stem}_{k}.nii.gz", "label": f"./labelsTr/{stem}_{k}.nii.gz"} for k in range(count)]
    listed = {
        "name": stem, "description": "", "reference": "", "licence": "CC-BY-SA 4.0", "tensorImageSize": "3D",
        "modality": {"0": "CT"}, "labels": {"0": "background"}, "numTraining": count, "numTest": 1,
        "training": paths[::-1], "test": [f"./imagesTs/{stem}_{count}.nii.gz"],
    }  # fmt: skip
    (root / task / "dataset.json").write_text(json.dumps(listed))


def msd_liver(root: Path):
    _decathlon(root, "Task03_Liver", "liver", [1, 2])


def msd_lung(root: Path):
    _decathlon(root, "Task06_Lung", "lung", [1])


def msd_spleen(root: Path):
    _decathlon(root, "Task09_Spleen", "spleen", [1])


def brats21(root: Path):
    for k in range(8):
        place = root / f"BraTS2021_Training_Data/BraTS2021_{k:05d}"
        for j, name in enumerate(["flair", "t1", "t1ce", "t2"]):
            nifti(place / f"BraTS2021_{k:05d}_{name}.nii.gz", values(10 * k + j, "mr"), np.int16)
        nifti(place / f"BraTS2021_{k:05d}_seg.nii.gz", labels(k, [1, 2, 4]), np.uint8)


def brats23(root: Path):
    for k in range(8):
        name = f"BraTS-GLI-{k:05d}-000"
        for j, kind in enumerate(["t1n", "t1c", "t2w", "t2f", "seg"]):
            content = labels(k, [1]) if kind == "seg" else values(10 * k + j, "mr")
            nifti(root / f"ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/{name}/{name}-{kind}.nii.gz", content)
    for k in range(8, 11):
        name = f"BraTS-GLI-{k:05d}-000"
        for j, kind in enumerate(["t1n", "t1c", "t2w", "t2f"]):
            content = values(10 * k + j, "mr")
            nifti(root / f"ASNR-MICCAI-BraTS2023-GLI-Challenge-ValidationData/{name}/{name}-{kind}.nii.gz", content)


def autopet(root: Path):
    for k in range(20):
        study = (
            f"FDG-PET-CT-Lesions/PETCT_{k // 2:010x}/0{1 + k % 2}-23-2003-NA-PET-CT Ganzkoerper  primaer mit KM-1044{k}"
        )
        nifti(root / study / "SUV.nii.gz", values(k, "pet"))
        nifti(root / study / "CTres.nii.gz", values(50 + k, "ct"), np.int16)
        nifti(root / study / "CT.nii.gz", values(80 + k, "ct"), np.int16)
        nifti(root / study / "SEG.nii.gz", labels(k, [1] if k % 2 else []), np.uint8)


def cc_ccii(root: Path):
    for k, name in enumerate(["Normal", "CP", "NCP"] * 4):
        pictures(root / f"CC-CCII/{name}/{100 + k // 2 * 3}/{2000 + k}", k, slices=16 + k)


MAKERS = {
    maker.__name__: maker
    for maker in (
        adni, adni_cls, autopet, brats21, brats23, btcv, cc_ccii, flare23, hnscc, lidc_idri, luna16, msd_liver,
        msd_lung, msd_spleen, oasis3, stoic21, tcia_covid19, totalsegmentator, udpet, udpet_low_dose,
    )
}  # fmt: skip
"""{manifest: what makes a small tree of it}; those that `s2dc data fetch` generates need none."""
