"""The page in a real browser: the attention viewer shows the numbers that it was given, and the tables sort."""

import base64
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from gpt2.report.page import explorer, render
from tests.report.inputs import HOSTILE, LINEAGE, csv, inputs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the path (Debian: apt-get install chromium)")

TOKENS = (["A", "·cat", "·sat", "·on", "·a", "·cat"], [HOSTILE, "\\xe2\\x80", "שלום", "😀", "·b"])
OTHER_TOKENS = (["A", "·cat", "·sat·on", "·a·cat"], TOKENS[1])  # the same prompts in another vocabulary
VOCABULARIES = {"trained": TOKENS, "initial": OTHER_TOKENS}
KINDS = ("previous_token", "first_token", "duplicate_token", "induction", "entropy")
SHAPES = {"trained": (2, 3), "initial": (3, 2)}  # layers, heads

HEAT = "getComputedStyle(document.documentElement).getPropertyValue('--heat')"  # color of a weight of 1
FIRST_PIXEL = """b => {
  const copy = new OffscreenCanvas(1, 1).getContext("2d");  // Chromium warns when the page's own canvas is read twice
  copy.drawImage(b.firstChild, 0, 0);
  return Array.from(copy.getImageData(0, 0, 1, 1).data);
}"""
REDRAWN = f"([b, before]) => String(({FIRST_PIXEL})(b)) !== String(before)"


def random_attention(n_layer: int, n_head: int, T: int, seed: int) -> np.ndarray:
    """Attention (L, H, T, T): every row is a distribution over the past, with small and large weights."""
    drawn = np.tril(np.random.default_rng(seed).gamma(0.4, size=(n_layer, n_head, T, T)) + 1e-3)
    return drawn / drawn.sum(-1, keepdims=True)


ATTENTION = {
    (name, prompt): random_attention(*SHAPES[name], len(VOCABULARIES[name][prompt]), seed=prompt)
    for name, prompt in product(SHAPES, range(len(TOKENS)))
}

SNAPSHOTS = [random_attention(*SHAPES["trained"], len(TOKENS[0]), seed=seed) for seed in (10, 11)]
ABLATION = {"ablation_text": -0.0123, "ablation_text_stderr": 0.002}
ABLATION |= {"ablation_repeated": 1.5, "ablation_repeated_stderr": 0.25}


def encoded(weights: np.ndarray) -> str:
    return base64.b64encode(np.rint(weights[np.tril_indices(len(weights))] * 65535).astype("<u2").tobytes()).decode()


def viewer_data() -> dict:
    """Two models with different vocabularies, heads and token ids."""
    models = []
    for number, (name, (n_layer, n_head)) in enumerate(SHAPES.items()):
        prompts = [
            {
                **{"text": "".join(tokens), "tokens": tokens, "ids": [100 * number + t for t in range(len(tokens))]},
                **{"bytes": ["20ff"] * len(tokens)},
                "weights": [[encoded(head) for head in layer] for layer in ATTENTION[name, prompt]],
            }
            for prompt, tokens in enumerate(VOCABULARIES[name])
        ]
        score = [[layer / 10 + head / 100 for head in range(n_head)] for layer in range(n_layer)]
        scores = dict.fromkeys(KINDS, score)
        model = {"name": name, "title": f"{name} {HOSTILE}", "n_layer": n_layer, "n_head": n_head}
        models.append(model | {"scores": scores, "ablation": {}, "prompts": prompts, "snapshots": []})
    early = {kind: [[0.5] * 3] * 2 for kind in KINDS}
    weights = [[[encoded(head) for head in layer] for layer in attention] for attention in SNAPSHOTS]
    models[0]["snapshots"] = [
        {"step": 0, "tokens": 0, "scores": early, "weights": weights[0]},
        {"step": 20, "tokens": 40960, "scores": early, "weights": weights[1]},
        {"step": 600, "tokens": 1228800},
    ]
    models[0]["ablation"] = {name: [[value] * 3] * 2 for name, value in ABLATION.items()}
    return {"models": models}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """The viewer alone and the whole report, on disk."""
    place, data = tmp_path_factory.mktemp("page"), inputs()
    data["attention"]["attention"] = viewer_data()
    places = {"model": ["trained"] * 4 + ["initial"], "layer": [0, 0, 0, 1, 1], "head": [0, 1, 2, 0, 1]}
    scores = {kind: [0.5, 0.125, 0.5, 0.0625, 0.75] for kind in KINDS}
    data["attention"]["heads"] = csv(**places, **scores, **{name: [value] * 5 for name, value in ABLATION.items()})
    data["attention"]["mapping"] = data["attention"]["mapping"][:1] * len(TOKENS[0])
    pages = {"explorer": explorer(HOSTILE, viewer_data()), "report": render(data, LINEAGE, {"note": HOSTILE})}
    for name, html in pages.items():
        (place / f"{name}.html").write_text(html, "utf-8")
    return {name: place / f"{name}.html" for name in pages}


@pytest.fixture
def opened(browser, files) -> Iterator[Callable[..., Page]]:
    """Opens a page from disk, offline. Any request, console message, dialog or error of the page fails the test."""
    complaints, contexts = [], []

    def open_page(name: str = "explorer", hash: str = "", **context: object) -> Page:
        contexts.append(browser.new_context(offline=True, **{"viewport": {"width": 1280, "height": 900}} | context))
        page, url = contexts[-1].new_page(), files[name].as_uri()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda sent: complaints.append(sent.url) if not sent.url.startswith((url, "data:")) else 0)
        page.goto(url + hash)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def text(page: Page, part: str) -> str:
    return page.locator(f"#viewer-{part}").text_content()


def head(page: Page, layer: int, head: int):
    return page.locator(f"#viewer-heads button[data-layer='{layer}'][data-head='{head}']")


def token(page: Page, side: str, number: int):
    return page.locator(f"#viewer-{side} button").nth(number)


def shown(page: Page, side: str) -> list[float | None]:
    """The weights beside the tokens of one side."""
    texts = page.locator(f"#viewer-{side} .weight").all_text_contents()
    return [float(text) if text else None for text in texts]


def expected(row: np.ndarray, threshold: float = 0) -> list:
    """What must be shown of a row or column of attention: nothing where the weight is 0 or below the threshold."""
    return [pytest.approx(value, abs=6e-4) if value > max(threshold, 1e-9) else None for value in row]


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_the_selected_head_is_described_and_its_lines_are_drawn(opened):
    page = opened()
    head(page, 1, 2).click()
    assert text(page, "title") == "Layer 1, head 2"
    assert text(page, "scores").endswith(" · induction 0.120 · entropy 0.120")
    assert head(page, 1, 2).get_attribute("aria-checked") == "true"
    weights = ATTENTION["trained", 0][1, 2]
    drawn = {
        (int(path.get_attribute("data-from")), int(path.get_attribute("data-to"))): path
        for path in page.locator("#viewer-lines path").all()
    }
    assert drawn.keys() == {(t, s) for t, s in np.argwhere(weights >= 0.01)}
    for (t, s), path in drawn.items():
        assert float(path.get_attribute("stroke-opacity")) == pytest.approx(weights[t, s], abs=6e-4)


def test_every_thumbnail_shows_its_head(opened):
    page = opened()
    for layer, number in np.ndindex(SHAPES["trained"]):
        alpha = head(page, layer, number).evaluate(
            "b => Array.from(b.firstChild.getContext('2d').getImageData(0, 0, 6, 6).data).filter((_, i) => i % 4 == 3)"
        )
        weights = ATTENTION["trained", 0][layer, number]
        np.testing.assert_allclose(np.reshape(alpha, (6, 6)), np.tril(10 + 245 * np.sqrt(weights)), atol=1.5)


def test_pointing_at_a_token_shows_its_weights_and_a_click_locks_it(opened):
    page, weights = opened(), ATTENTION["trained", 0]
    token(page, "from", 3).hover()
    assert shown(page, "to") == expected(weights[0, 0][3]) and shown(page, "from") == [None] * 6
    assert page.locator("#viewer-lines path").count() == (weights[0, 0][3] >= 0.01).sum()
    assert text(page, "token") == "Token “·on” (3): id 3, bytes 20 ff"
    token(page, "to", 1).hover()
    assert shown(page, "from") == expected(weights[0, 0][:, 1])
    page.locator("#viewer-title").hover()
    assert shown(page, "from") == shown(page, "to") == [None] * 6
    token(page, "from", 4).click()
    token(page, "to", 0).hover()
    assert shown(page, "to") == expected(weights[0, 0][4])
    head(page, 1, 1).click()  # another head keeps the token
    assert shown(page, "to") == expected(weights[1, 1][4])
    token(page, "from", 4).click()
    page.locator("#viewer-title").hover()
    assert shown(page, "to") == [None] * 6
    token(page, "to", 2).click()
    page.evaluate("document.activeElement.blur()")
    press(page, "Escape")
    page.locator("#viewer-title").hover()
    assert shown(page, "from") == [None] * 6


def test_weights_below_the_threshold_are_not_shown(opened):
    page, weights = opened(), ATTENTION["trained", 0][0, 0]
    page.locator("#viewer-threshold").fill("0.2")
    assert text(page, "threshold-value") == "0.20"
    assert page.locator("#viewer-lines path").count() == (weights >= 0.2).sum() < (weights >= 0.01).sum()
    token(page, "from", 5).click()
    assert shown(page, "to") == expected(weights[5], threshold=0.2)


def test_hiding_the_first_token_rescales_the_rest_and_reports_the_hidden_weight(opened):
    page, weights = opened(), ATTENTION["trained", 0][0, 1]
    head(page, 0, 1).click()
    token(page, "from", 5).click()
    page.locator("#viewer-sink").check()
    rest = weights[5].copy()
    rest[0] = 0
    assert shown(page, "to") == expected(rest / rest.sum())
    own, mean = re.findall(r"\d\.\d{3}", text(page, "hidden"))
    assert float(own) == pytest.approx(weights[5, 0], abs=6e-4)
    assert float(mean) == pytest.approx(weights[1:, 0].mean(), abs=6e-4)
    token(page, "from", 0).click()  # it attends to nothing else
    assert shown(page, "to") == [None] * 6
    page.locator("#viewer-sink").uncheck()
    assert shown(page, "to") == expected(weights[0]) and not text(page, "hidden")


def test_another_model_and_another_prompt(opened):
    page = opened()
    head(page, 1, 2).click()
    page.locator("#viewer-model").select_option(index=1)
    assert text(page, "title") == "Layer 1, head 1"  # it has no head 2
    token(page, "from", 1).click()
    page.locator("#viewer-model").select_option(index=0)
    assert token(page, "from", 1).get_attribute("aria-pressed") == "true"  # the same token there
    token(page, "from", 2).click()
    page.locator("#viewer-model").select_option(index=1)
    assert page.locator("#viewer-tokens [aria-pressed=true]").count() == 0  # another one
    page.locator("#viewer-prompt").select_option(index=1)
    token(page, "from", 4).click()
    assert shown(page, "to") == expected(ATTENTION["initial", 1][1, 1][4])
    assert text(page, "token").startswith("Token “·b” (4): id 104,")


def test_the_slider_shows_the_head_at_each_snapshot_of_the_first_prompt(opened):
    page, slider = opened(), lambda page: page.locator("#viewer-snapshot")
    head(page, 1, 2).click()
    token(page, "from", 5).click()
    assert text(page, "snapshot-value") == "step 600, 1,228,800 tokens" and slider(page).input_value() == "2"
    assert "−0.012 ± 0.002 nats per token on text and by +1.500 ± 0.250 on repeated" in text(page, "ablation")
    slider(page).focus()
    press(page, "ArrowLeft")
    assert text(page, "snapshot-value") == "step 20, 40,960 tokens"
    assert shown(page, "to") == expected(SNAPSHOTS[1][1, 2][5])
    assert text(page, "scores").startswith("previous token 0.500") and "only for the final" in text(page, "ablation")
    thumbnail = "b => b.firstChild.getContext('2d').getImageData(1, 5, 1, 1).data[3]"
    assert head(page, 0, 1).evaluate(thumbnail) == pytest.approx(10 + 245 * SNAPSHOTS[1][0, 1, 5, 1] ** 0.5, abs=1.5)
    again = opened(hash=page.locator("#viewer-link").get_attribute("href"))
    assert shown(again, "to") == expected(SNAPSHOTS[1][1, 2][5]) and slider(again).input_value() == "1"
    press(page, "Home")
    assert shown(page, "to") == expected(SNAPSHOTS[0][1, 2][5])
    press(page, "End")
    assert shown(page, "to") == expected(ATTENTION["trained", 0][1, 2][5])
    press(page, "Home")
    page.locator("#viewer-prompt").select_option(index=1)  # of which snapshots are not kept
    assert not slider(page).is_visible() and "+1.500" in text(page, "ablation")
    token(page, "from", 4).click()
    assert shown(page, "to") == expected(ATTENTION["trained", 1][1, 2][4])
    page.locator("#viewer-prompt").select_option(index=0)
    page.locator("#viewer-model").select_option(index=1)
    assert not slider(page).is_visible() and not text(page, "ablation")


def test_the_keyboard_can_do_what_the_pointer_can(opened):
    page, weights = opened(), ATTENTION["trained", 0][1, 1]
    head(page, 0, 0).focus()
    press(page, "ArrowRight", "ArrowDown", "ArrowDown")  # the last one cannot move
    assert text(page, "title") == "Layer 1, head 1"
    press(page, "Tab", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp")
    assert shown(page, "to") == expected(weights[2])
    press(page, "Enter", "ArrowDown")
    assert shown(page, "to") == expected(weights[2])  # locked
    press(page, "Escape", "ArrowRight")
    assert shown(page, "from") == expected(weights[:, 3])
    page.locator("#viewer-map").focus()
    press(page, "ArrowUp", "ArrowUp", "ArrowRight", "ArrowRight")
    assert text(page, "cell") == f"“·on” (3) attends to “·sat” (2) with weight {weights[3, 2]:.3f}"
    press(page, "Enter")
    assert token(page, "from", 3).get_attribute("aria-pressed") == "true"


def test_pointing_at_the_map_describes_its_cells(opened):
    page, weights = opened(), ATTENTION["trained", 0][0, 0]
    side = page.locator("#viewer-map").bounding_box()["width"]
    texts = []
    for x in range(1, int(side), 12):  # along the last row, through the labels and every cell
        page.locator("#viewer-map").hover(position={"x": x, "y": side - 4})
        texts.append(text(page, "cell"))
    cells = [f"“·cat” (5) attends to “{TOKENS[0][s]}” ({s}) with weight {weights[5, s]:.3f}" for s in range(6)]
    assert list(dict.fromkeys(texts)) == cells
    assert shown(page, "to") == expected(weights[5])
    page.locator("#viewer-map").click(position={"x": side - 4, "y": side / 2})  # no cell: a later token
    assert text(page, "cell") == cells[5] and page.locator("#viewer-tokens [aria-pressed=true]").count() == 0
    page.locator("#viewer-map").click(position={"x": side - 4, "y": side - 4})
    assert token(page, "from", 5).get_attribute("aria-pressed") == "true"
    page.set_viewport_size({"width": 900, "height": 700})  # redraws without an error
    page.locator("#viewer-map").click(position={"x": side / 3, "y": side / 3})


def test_a_link_opens_the_same_view(opened):
    page = opened()
    page.locator("#viewer-model").select_option(index=1)
    head(page, 2, 1).click()
    token(page, "to", 1).click()
    page.locator("#viewer-threshold").fill("0.1")
    page.locator("#viewer-sink").check()
    hash = page.locator("#viewer-link").get_attribute("href")
    assert page.url.endswith(hash)
    again = opened(hash=hash)
    for part in ("title", "token", "hidden", "threshold-value", "from", "to"):
        assert text(again, part) == text(page, part)
    assert again.locator("#viewer-model").input_value() == "1" and again.locator("#viewer-sink").is_checked()


def test_a_link_to_something_missing_shows_what_exists(opened):
    page = opened(hash="#viewer&model=<b>&prompt=9&layer=-1&head=1e9&token=99&threshold=x&side=up&snapshot=9")
    assert text(page, "title") == "Layer 0, head 0"
    assert shown(page, "to") == [None] * 6
    page.evaluate("location.hash = '#viewer&model=initial&layer=2&head=1&token=3'")  # fewer tokens, other heads
    page.locator("#viewer-title", has_text="Layer 2, head 1").wait_for()
    assert shown(page, "to") == expected(ATTENTION["initial", 0][2, 1][3])
    page.evaluate("location.hash = '#viewer&model=trained'")  # which has no layer 2
    page.locator("#viewer-title", has_text="Layer 1, head 1").wait_for()


@pytest.mark.parametrize("name", ["explorer", "report"])
def test_hostile_text_is_text(opened, name):
    page = opened(name)
    page.locator("#viewer-prompt").select_option(index=1)
    assert page.locator("#viewer-from bdi").all_text_contents() == TOKENS[1]
    token(page, "to", 0).hover()
    assert HOSTILE in text(page, "token")
    assert page.locator("img[src=x]").count() == 0
    widths = page.locator("#viewer-tokens button").evaluate_all("all => all.map((b) => b.scrollWidth - b.clientWidth)")
    assert max(widths) <= 0  # long tokens are cut and do not overflow


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (360, "light")])
@pytest.mark.parametrize("name", ["explorer", "report"])
def test_pages_fit_desktop_and_phone_in_both_schemes(opened, name, width, scheme):
    page = opened(name, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (max(red, green, blue) < 60) == (scheme == "dark")
    before = [*map(int, page.evaluate(HEAT).split()), 255]
    assert head(page, 0, 0).evaluate(FIRST_PIXEL) == before  # the first token attends only to itself
    page.emulate_media(color_scheme={"light": "dark", "dark": "light"}[scheme])
    page.wait_for_function(REDRAWN, arg=[head(page, 0, 0).element_handle(), before])
    assert head(page, 0, 0).evaluate(FIRST_PIXEL) == [*map(int, page.evaluate(HEAT).split()), 255]


def test_print_has_no_controls_and_a_page_without_scripts_asks_for_them(opened):
    for name in ("report", "explorer"):  # the report has figures instead
        page = opened(name)
        page.emulate_media(media="print")
        assert page.locator("#viewer").is_visible() == (name == "explorer")
        assert not page.locator("#viewer-threshold").is_visible()
    page = opened("report", java_script_enabled=False)
    assert page.locator("#viewer-absent").is_visible() and not page.locator("#viewer").is_visible()


def test_a_table_sorts_both_ways_and_back_and_links_to_the_viewer(opened):
    page = opened("report")
    page.locator("summary", has_text="All scores as a table").click()
    table = page.locator("#attention table.sortable")
    column = table.locator("th").nth(3)
    orders = {
        "ascending": ["0.062", "0.125", "0.500", "0.500", "0.750"],
        "descending": ["0.750", "0.500", "0.500", "0.125", "0.062"],
        None: ["0.500", "0.125", "0.500", "0.062", "0.750"],
    }
    for order, scores in orders.items():
        column.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert column.get_attribute("aria-sort") == order
        assert table.locator("td:nth-child(4)").all_text_contents() == scores
    column.get_by_role("button").click()
    assert table.locator("td:nth-child(3)").all_text_contents() == list("01021")  # equal rows keep their order
    table.locator("a").last.click()
    page.locator("#viewer-title", has_text="Layer 1, head 1").wait_for()
    assert page.locator("#viewer-model").input_value() == "1"
