"""The data of the page that answers a click, on small bodies; tests/browser/test_click.py has the page itself."""

import base64
import gzip
import json

import numpy as np
import pytest

from book import click
from s2dc_core.data import TISSUES
from s2dc_core.matching import unit_length

BOX = ((0, 12), (1, 8), (2, 11))


@pytest.fixture(scope="module")
def bodies():
    return click.make_bodies((48, 36, 48), 7.5)


@pytest.fixture(scope="module")
def maps(bodies):
    return {"s2dc": click.encode(bodies, "s2dc")}


@pytest.fixture(scope="module")
def data(bodies, maps):
    return click.gather(bodies, maps, BOX)


def unpacked(text):
    """As the page reads it."""
    return np.frombuffer(gzip.decompress(base64.b85decode(text)), np.uint8)


def test_the_page_can_take_the_tokens_apart(data, maps):
    """Running sums, a plane a direction, wrapped to 8 bits; the first axis fastest."""
    numbers = click.reduced(maps["s2dc"], click.ENCODERS["s2dc"][1], BOX)["two"]
    found = unpacked(data["scans"]["two"]["tokens"]["s2dc"]).reshape(data["encoders"]["s2dc"]["directions"], -1)
    planes = np.cumsum(found, axis=1, dtype=np.uint8).view(np.int8)
    assert np.array_equal(planes.reshape(-1, *data["grid"][::-1]), np.moveaxis(numbers, -1, 0).transpose(0, 3, 2, 1))


def test_cosines_are_kept_within_and_between_bodies(maps):
    numbers = click.reduced(maps["s2dc"], 36, BOX)
    for other in ("one", "two", "mr"):
        seen = [numbers[name].reshape(-1, 36) / click.STEP for name in ("one", other)]
        full = [
            unit_length(click.cut(maps["s2dc"][name].features, BOX)).flatten(0, 2).numpy() for name in ("one", other)
        ]
        apart = np.abs(seen[0] @ seen[1].T - full[0] @ full[1].T)
        assert apart.mean() < 0.01 and np.quantile(apart, 0.99) < 0.05


def test_every_token_has_a_structure_or_is_air_or_mixed(bodies, data):
    found = unpacked(data["bodies"][1000]["structure"])
    assert len(found) == np.prod(data["grid"])
    assert set(found) <= {*TISSUES, click.MIXED} and {0, 6, click.MIXED} <= set(found)
    outside = ~bodies["one"].scan.foreground.numpy()
    owner = click.structures(bodies["one"])
    air = outside.reshape(12, 4, 9, 4, 12, 4).mean((1, 3, 5)) > 0.5
    assert np.array_equal(owner == 0, air)


def test_places_lie_in_their_structures(bodies, data):
    tissue = unpacked(data["bodies"][1001]["tissue"]).reshape([4 * side for side in data["grid"]], order="F")
    assert np.array_equal(tissue, click.cut(bodies["two"].tissue, BOX, 4))
    assert data["names"][6] == "liver" and 6 in data["bodies"][1001]["places"]
    for label, voxel in data["bodies"][1001]["places"].items():
        assert tissue[tuple(voxel)] == label


def test_greys_are_few_and_reach_from_black_to_white(data):
    grey = unpacked(data["scans"]["one"]["grey"])
    assert len(grey) == 64 * np.prod(data["grid"]) and set(grey) >= {0, 255} and len(set(grey)) == click.GREYS


def test_scripts_hold_all_of_it(data, tmp_path):
    click.write_data(tmp_path, data)
    click.write_viewer(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(click.FILES)
    text = (tmp_path / "data.js").read_text()
    assert list(json.loads(text[text.index("{") : -2])["scans"]) == ["one", "two", "mr"]
    assert (tmp_path / "niivue.js").stat().st_size < 1.2e6 and "BSD 2-Clause" in (
        tmp_path / "niivue-license.txt"
    ).read_text()


def test_the_viewer_is_a_plain_script():
    script, _ = click.niivue()
    assert script.startswith("(() => {") and script.endswith("})();")
    assert "export{" not in script and "export {" not in script and ";window.Niivue=" in script[-60:]
    assert "attachToCanvas" in script and "loadFromArrayBuffer" in script and len(script) < 3e6


def test_another_make_of_the_viewer_is_refused(monkeypatch, tmp_path):
    class File:
        def __init__(self, name):
            self.name = name
            (tmp_path / name).write_text("export default {}")

        def __fspath__(self):
            return self.name

        def locate(self):
            return tmp_path / self.name

    monkeypatch.setattr(click, "files", lambda _: [File("widget.js"), File("LICENSE")])
    with pytest.raises(ValueError, match="requirements.lock"):
        click.niivue()
