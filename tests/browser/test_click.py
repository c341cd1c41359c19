"""The book's page that answers a click: opened from the disk in Chromium, against maps with all channels."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from matplotlib.pyplot import imread

from book import build, click
from s2dc_core.data import TISSUES
from s2dc_core.features import organ_grid
from s2dc_core.matching import unit_length
from tests.browser.conftest import chromium

pytestmark = pytest.mark.browser

INDEX = "# Tiny\n\n```{toctree}\n:glob:\n\n*\nnotebooks/exercises/solutions\n```\n"
GRID = [high - low for low, high in click.BOX]
ORGANS, ENOUGH = range(1, 14), 5

MAPS = """
([scan, encoder, tokens, target]) => {
  const maps = window.S2DC_PAGE.maps, bytes = [];
  for (const token of tokens) {
    bytes.push(new Uint8Array(maps[target][encoder].cosines(maps[scan][encoder], token).buffer));
  }
  let text = "";
  for (const part of bytes) for (let i = 0; i < part.length; i += 4096) {
    text += String.fromCharCode(...part.subarray(i, i + 4096));
  }
  return btoa(text);
}
"""

CLICK_TO_MAP = """
() => ({promise: new Promise((answer) => {
  let began = null;
  addEventListener("pointerdown", () => { began = performance.now(); }, {once: true, capture: true});
  new MutationObserver((_, observer) => {
    if (began === null) return;
    observer.disconnect();
    for (const {view} of Object.values(S2DC_PAGE.sides)) {
      const gl = view.viewer?.gl;
      gl?.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    }
    answer(performance.now() - began);
  }).observe(document.querySelector(".click-say"), {childList: true, subtree: true, characterData: true});
})})
"""
"""The sentence is written last. Reading a pixel waits until NiiVue's pictures are there; slices are there before."""


@pytest.fixture(scope="module")
def bodies():
    chromium()
    return click.make_bodies()


@pytest.fixture(scope="module")
def full(bodies):
    """Encoder to scan to its tokens with all channels, of length 1, in the page's order; cut as the page's are."""
    return {encoder: click.encode(bodies, encoder) for encoder in click.ENCODERS}


@pytest.fixture(scope="module")
def site(bodies, full, tmp_path_factory):
    """The page in a tiny book."""
    folder = tmp_path_factory.mktemp("book")
    texts, docs = folder / "texts", folder / "docs"
    texts.mkdir()
    docs.mkdir()
    (texts / "index.md").write_text(INDEX)
    (texts / "click.md").write_bytes((build.HERE / "click.md").read_bytes())
    build.lay_out({}, folder / "source", folder, texts, docs)
    build.call_sphinx(folder / "source", folder / "html")
    click.write_data(folder / "html" / "_static" / "click", click.gather(bodies, full))
    click.write_viewer(folder / "html" / "_static" / "click")
    return folder / "html"


def open_page(browser, site, query="", **options):
    """The page, ready, with what it asked for and what went wrong.

    The browser of these tests draws WebGL by the processor alone: with NiiVue only if the query asks for it.
    """
    page = browser.new_context(viewport={"width": 1300, "height": 1200}, **options).new_page()
    page.set_default_timeout(120_000)
    page.requests, page.faults = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto((site / "click.html").as_uri() + query)
    page.wait_for_selector("#click[data-ready=yes]")
    page.wait_for_function("document.querySelector('.click-rows').children.length === 3")
    return page


@pytest.fixture(scope="module")
def page(browser, site):
    found = open_page(browser, site, "?viewer=niivue")
    yield found
    found.context.close()


@pytest.fixture(scope="module")
def plain(browser, site):
    """The same in a Chromium without WebGL."""
    other = browser.browser_type.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-3d-apis"])
    yield open_page(other, site)
    other.close()


def tokens_of(token_map):
    """[N, C] unit tokens of the page's part, the first axis fastest."""
    part = click.cut(token_map.features, click.BOX)
    return unit_length(part).permute(2, 1, 0, 3).flatten(0, 2).numpy()


def owners(body):
    """The organ of each token that one fills by half, as the core has it, in the page's order."""
    empty = torch.empty(*(-(-side // click.PATCH) for side in body.tissue.shape), 0)
    grid = organ_grid(click.TokenMap(empty, (click.PATCH,) * 3, np.eye(4)), body.tissue.astype(np.int64))
    return click.cut(grid, click.BOX).permute(2, 1, 0).flatten().numpy()


def page_maps(page, scan, encoder, tokens, target):
    """The page's cosines of some tokens of a scan with every token of another, [tokens, N]."""
    text = page.evaluate(MAPS, [scan, encoder, list(map(int, tokens)), target])
    return np.frombuffer(base64.b64decode(text), np.float32).reshape(len(tokens), -1)


def place_on(page, side, voxel):
    """Where a voxel lies in the coronal slice of a view, in pixels of the page."""
    box = page.locator(f".click-{side} canvas").bounding_box()
    shape = [side * click.PATCH for side in GRID]
    share = shape[2] / (shape[1] + shape[2])
    across, down = 1 - (voxel[0] + 0.5) / shape[0], share * (1 - (voxel[2] + 0.5) / shape[2])
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def glowing(page, side):
    """Share of a view's pixels in the upper colours of the map, orange and yellow."""
    picture = imread(io.BytesIO(page.locator(f".click-{side} canvas").screenshot()), format="png")
    return ((picture[..., 0] > 0.6) & (picture[..., 0] > 1.7 * picture[..., 2])).mean()


def asked(page):
    return page.evaluate("({side: S2DC_PAGE.clicked, voxel: S2DC_PAGE.voxel, found: S2DC_PAGE.found})")


def settle(page):
    """Until what was asked has been answered."""
    page.wait_for_timeout(50)
    page.wait_for_function("!S2DC_PAGE.waiting")


@pytest.mark.parametrize("encoder", list(click.ENCODERS))
def test_maps_are_those_of_all_channels(page, bodies, full, encoder, pictures):
    """Of 100 patches 99 correlate by 0.99, and 99 of 100 means over an organ are right to 0.02."""
    draw = np.random.default_rng(0)
    alike, errors, structures = [], [], []
    tokens = {name: tokens_of(one) for name, one in full[encoder].items()}
    owner = {name: owners(body) for name, body in bodies.items()}
    for name in bodies:
        chosen = draw.choice(np.flatnonzero(owner[name]), 100, replace=False)
        for other in bodies:
            wanted, seen = tokens[name][chosen] @ tokens[other].T, page_maps(page, name, encoder, chosen, other)
            if other == name:
                alike += [np.corrcoef(*pair)[0, 1] for pair in zip(wanted, seen, strict=True)]
            elif {name, other} != {"two", "mr"}:
                inside = owner[other] > 0
                best = [owner[other][inside][maps[:, inside].argmax(1)] for maps in (wanted, seen)]
                structures += list(best[0] == best[1])
            for organ in ORGANS:
                if (mask := owner[other] == organ).sum() >= ENOUGH:
                    errors += list(np.abs(wanted[:, mask].mean(1) - seen[:, mask].mean(1)))
    found = {
        "correlation: median, 1st percentile, lowest": np.quantile(alike, (0.5, 0.01, 0)).round(4).tolist(),
        "error of an organ's mean: median, 99th percentile, largest": np.quantile(errors, (0.5, 0.99, 1))
        .round(4)
        .tolist(),
        "best match in the same structure as with all channels": round(float(np.mean(structures)), 3),
    }
    (pictures / f"click_page_{encoder}.json").write_text(json.dumps(found, indent=1))
    print(encoder, found)
    assert np.quantile(alike, 0.01) >= 0.99
    assert np.quantile(errors, 0.99) <= 0.02


def test_nothing_comes_from_a_network_and_all_is_under_6_mb(page, site):
    assert page.faults == []
    assert [url for url in page.requests if not url.startswith(("file:", "blob:", "data:"))] == []
    loaded = {site / url.partition("/html/")[2].partition("?")[0] for url in page.requests if url.startswith("file:")}
    size = sum(file.stat().st_size for file in loaded)
    print({"MB": round(size / 1e6, 2), "files": len(loaded)})
    assert {site / "_static" / "click" / name for name in click.FILES[:2]} < loaded
    assert size < 6e6


@pytest.mark.parametrize("kind", ["page", "plain"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_click_asks_about_its_voxel_and_both_maps_are_drawn(request, bodies, pictures, kind, side):
    page = request.getfixturevalue(kind)
    scan, other = ("one", "two") if side == "left" else ("two", "one")
    start = page.evaluate(f"S2DC_PAGE.data.bodies[S2DC_PAGE.scan('{side}').body].places[6]")
    page.evaluate(f"S2DC_PAGE.ask('{side}', {start})")  # the liver: its slices are shown
    settle(page)
    wanted = [start[0] - 12, start[1], start[2] + 4]
    page.mouse.click(*place_on(page, side, wanted))
    settle(page)
    found = asked(page)
    assert found["side"] == side and np.abs(np.subtract(found["voxel"], wanted)).max() <= 1
    name = click.cut(bodies[scan].tissue, click.BOX, click.PATCH)[tuple(found["voxel"])]
    assert f"Clicked: {TISSUES[name].replace('_', ' ')} in Body" in page.locator(".click-say").inner_text()
    a, b, c = (v // click.PATCH for v in found["voxel"])
    token = a + GRID[0] * (b + GRID[1] * c)
    drawn = "Array.from(v.viewer ? v.viewer.volumes[1].img : v.map)"
    for shown, on in ((scan, side), (other, "right" if side == "left" else "left")):
        values = page.evaluate(f"(() => {{ const v = S2DC_PAGE.sides['{on}'].view; return {drawn}; }})()")
        assert np.allclose(values, page_maps(page, scan, "s2dc", [token], shown)[0], atol=1e-6)
    for on in ("left", "right"):
        assert glowing(page, on) > 0.03, "the liver is a tenth of the picture, and most of it is alike"
    page.locator("#click").screenshot(path=pictures / f"click_page_{kind}_{side}.png")


def test_the_name_under_the_cursor(page, plain, bodies):
    for one in (page, plain):
        one.evaluate("S2DC_PAGE.ask('left', S2DC_PAGE.data.bodies[1000].places[6])")
        settle(one)
        x, y = place_on(one, "left", asked(one)["voxel"])
        one.mouse.move(x, y)
        assert one.locator(".click-left output").inner_text() == "liver"
        one.mouse.move(0, 0)
        assert one.locator(".click-left output").inner_text() == ""


def test_keys_move_the_cross_and_choose_the_encoder(page, plain):
    for one in (page, plain):
        one.evaluate("S2DC_PAGE.ask('left', [60, 40, 40])")
        one.locator(".click-left canvas").focus()
        for key, wanted in (
            ("ArrowLeft", [64, 40, 40]),
            ("ArrowUp", [64, 40, 44]),
            ("PageUp", [64, 44, 44]),
            ("ArrowRight", [60, 44, 44]),
            ("ArrowDown", [60, 44, 40]),
            ("PageDown", [60, 40, 40]),
        ):
            one.keyboard.press(key)
            settle(one)
            assert asked(one)["voxel"] == wanted, key
        for key, title in (("1", "untrained"), ("2", "Lg alone"), ("3", "S2DC")):
            one.keyboard.press(key)
            settle(one)
            assert one.locator(".click-chosen th").inner_text() == title
        one.locator(".click-right canvas").focus()
        before = asked(one)["found"]
        one.keyboard.press("ArrowUp")
        settle(one)
        now = asked(one)
        assert now["side"] == "right" and now["voxel"] == [*before[:2], min(before[2] + 4, 4 * GRID[2] - 1)]


def test_choices_change_what_is_shown(page):
    page.evaluate("S2DC_PAGE.ask('left', S2DC_PAGE.data.bodies[1000].places[2])")
    settle(page)
    said = page.locator(".click-say").inner_text()
    page.get_by_label("MR T1").check()
    assert "Body 2, MR T1" in page.locator(".click-say").inner_text() != said
    page.get_by_label("CT", exact=True).check()
    page.locator("[name=place]").select_option(label="spleen")
    settle(page)
    assert "Clicked: spleen" in page.locator(".click-say").inner_text()
    page.evaluate("S2DC_PAGE.ask('left', [0, 0, 0])")
    settle(page)
    assert "air" in page.locator(".click-say").inner_text()


def test_without_webgl_a_sentence_says_so(page, plain):
    assert (
        plain.locator(".click-fallback").is_visible() and "no WebGL 2" in plain.locator(".click-fallback").inner_text()
    )
    assert not page.locator(".click-fallback").is_visible()
    assert plain.faults == []


def test_on_a_phone(browser, site, pictures):
    phone = open_page(browser, site, "?viewer=niivue", has_touch=True, is_mobile=True, device_scale_factor=2)
    phone.set_viewport_size({"width": 390, "height": 844})
    phone.wait_for_timeout(500)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.locator(".click-left canvas").scroll_into_view_if_needed()
    voxel = phone.evaluate("S2DC_PAGE.voxel")
    wanted = [voxel[0] - 12, voxel[1], voxel[2]]
    phone.touchscreen.tap(*place_on(phone, "left", wanted))
    phone.wait_for_function(f"S2DC_PAGE.voxel[0] !== {voxel[0]}")
    assert np.abs(np.subtract(asked(phone)["voxel"], wanted)).max() <= 2
    phone.screenshot(path=pictures / "click_page_phone.png")
    phone.context.close()


@pytest.mark.parametrize("kind", ["page", "plain"])
def test_how_long_a_click_takes(request, kind, pictures):
    """From the mouse to both maps drawn and the sentence written."""
    page, times = request.getfixturevalue(kind), []
    box = page.locator(".click-left canvas").bounding_box()
    for x, y in np.random.default_rng(0).uniform(0.25, 0.75, (20, 2)):
        waiting = page.evaluate_handle(CLICK_TO_MAP)
        page.mouse.click(box["x"] + x * box["width"], box["y"] + 0.42 * y * box["height"])
        times.append(waiting.evaluate("(waiting) => waiting.promise"))
        page.wait_for_timeout(200)
    found = dict(
        zip(("median ms", "95th percentile ms"), np.quantile(times, (0.5, 0.95)).round(1).tolist(), strict=True)
    )
    (pictures / f"click_page_{kind}_ms.json").write_text(json.dumps(found | {"ms": np.round(times, 1).tolist()}))
    print(kind, found)


def test_no_word_of_the_page_is_left_to_be_filled_in(page):
    assert re.search(r"undefined|NaN", page.locator("#click").inner_text()) is None
