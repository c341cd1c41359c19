"""What lies where a scan or weights should be is told by its first kilobytes, and the real thing is left alone."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import save_file

from s2dc_core.pointers import HEAD, stands_in

LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 45123456\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body></body></html>"

INSTEAD = {
    "empty": (b"", "an empty file"),
    "gzip of nothing": (gzip.compress(b""), "without content"),
    "lfs": (LFS.encode(), "git lfs pull"),
    "lfs, CRLF and BOM": (b"\xef\xbb\xbf" + LFS.replace("\n", "\r\n").encode(), "git lfs pull"),
    "annex": (b"/annex/objects/MD5E-s812--0123456789abcdef.nii.gz\n", "datalad get"),
    "annex link": (b"../../.git/annex/objects/Xk/5Q/MD5E-s812--01/MD5E-s812--01.nii.gz", "datalad get"),
    "page": (PAGE.encode(), "a web page (HTML)"),
    "page, upper case and blanks": (b"\n\n\t  " + PAGE.upper().encode(), "a web page (HTML)"),
    "page, UTF-16": (PAGE.encode("utf-16"), "a web page (HTML)"),
    "page, Latin-1": (f"<html><body>{'é' * 20}</body></html>".encode("latin-1"), "a web page (HTML)"),
    "page behind a comment": (b"<!-- served by 7 --><HTML lang='en'>", "a web page (HTML)"),
    "page, XHTML": (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C"><html xmlns="x">', "a web page (HTML)"),
    "page, compressed": (gzip.compress(PAGE.encode()), "a web page (HTML)"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
    "XML without prolog": (b"<Error><Code>NoSuchKey</Code></Error>", "NoSuchKey"),
    "JSON": (b'{\n  "message": "Bad credentials"\n}', "Bad credentials"),
    "words": (b"404: Not Found", '"404: Not Found"'),
    "words, compressed": (gzip.compress(b"quota exceeded"), '"quota exceeded"'),
    "long text, a letter cut at the end": (b"x" * (HEAD - 1) + "é".encode() + b"y" * 9, "plain text"),
    "table": (b"case,age\n1,61\n", "plain text"),
    "companion": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ", "give scan.nii instead"),
}


@pytest.mark.parametrize("kind", INSTEAD)
@pytest.mark.parametrize("name", ["._scan.nii", "scan.nii.gz", "weights.pt", "weights.safetensors", "no_ending"])
def test_it_is_told_what_the_file_is(tmp_path, kind, name):
    content, said = INSTEAD[kind]
    file = tmp_path / name
    file.write_bytes(content)
    assert said.replace("scan.nii", name.removeprefix("._")) in stands_in(file)


def test_only_the_head_is_read(tmp_path, monkeypatch):
    file = tmp_path / "scan.nii"
    file.write_bytes(b"\x5c\x01" + bytes(HEAD) + PAGE.encode())
    assert stands_in(file) is None
    file.write_bytes(gzip.compress(PAGE.encode() + b" " * 50_000_000))
    assert "web page" in stands_in(file)


def test_the_real_thing_is_left_alone(tmp_path):
    values = np.random.default_rng(0).integers(32, 127, (8, 8, 8)).astype(np.uint8)
    image = sitk.GetImageFromArray(values)
    for name in ("a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.nii", "a.nii.gz", "a.hdr"):
        sitk.WriteImage(image, tmp_path / name)
        sitk.WriteImage(image, tmp_path / f"z{name}", useCompression=True)
    sitk.WriteImage(sitk.GetImageFromArray(values[0]), tmp_path / "slice.png")
    nib.save(nib.freesurfer.MGHImage(values.astype(np.float32), np.eye(4)), tmp_path / "a.mgz")
    torch.save({"weight": torch.ones(3)}, tmp_path / "new.pt")
    torch.save({"weight": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for length in range(64):  # the header's length, the first byte of the file, passes through blanks and brackets
        save_file({"weight": torch.ones(3)}, tmp_path / f"{length}.safetensors", metadata={"a": "b" * length})
    (tmp_path / "slice.pgm").write_bytes(b"P5\n8 8\n255\n" + values[0].tobytes())
    (tmp_path / "detached.mhd").write_text("ObjectType = Image\nNDims = 3\nDimSize = 8 8 8\n")
    assert {file.name: said for file in tmp_path.iterdir() if (said := stands_in(file))} == {}
    assert len(list(tmp_path.iterdir())) > 80


def test_what_is_no_file_is_left_to_others(tmp_path):
    assert stands_in(tmp_path) is None and stands_in(tmp_path / "missing.nii") is None
