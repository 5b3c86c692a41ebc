"""Figures: stable bytes, hostile text as text, both colour schemes."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gpt2.report import attention_figures, embedding_figures, figures, theme
from tests.report.inputs import CONTROLS, MODELS, inputs

TOKENS = ["a", "</text>&", "$x$", "日", "שלום", "😀", "</script>", "\\x00"]


def every_attention_figure() -> dict[str, str]:
    random = np.random.default_rng(0)
    heads = np.tril(random.random((2, 3, 8, 8)))
    scores = {name: heads[:, :, 3, 0] for name in attention_figures.NAMES}
    places = dict.fromkeys(("previous_token", "first_token", "duplicate_token", "induction"), (1, 2))
    w = random.normal(size=(16, 8))
    return {
        "grid": attention_figures.grid(heads),
        "strongest": attention_figures.strongest(heads, TOKENS, places),
        "mapping": attention_figures.mapping(heads, TOKENS),
        "mapping of many heads": attention_figures.mapping(np.tile(heads, (4, 4, 1, 1)), TOKENS),
        "rollout": attention_figures.rollout(heads[0, 0], TOKENS),
        "scores": attention_figures.scores(scores),
        "entropy": attention_figures.entropy(dict.fromkeys(MODELS, scores["entropy"])),
        "columns": embedding_figures.position_columns(w, 2 * w, [0, 3, 5]),
        "cosines": embedding_figures.position_cosines(dict.fromkeys(MODELS, w @ w.T)),
        "smoothness": embedding_figures.position_smoothness({"initial": w[0] ** 2, "trained": w[1] ** 2}),
        "norms": embedding_figures.token_norms(dict.fromkeys(MODELS, w[0] ** 2)),
    }


def svg_texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.text]


def test_figures_are_well_formed_stable_and_hold_hostile_tokens_as_text():
    drawn = every_attention_figure()
    assert drawn == every_attention_figure()
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert not root.findall(".//{http://www.w3.org/2000/svg}script")
        assert "prefers-color-scheme:dark" in svg
    for token in TOKENS:
        assert svg_texts(drawn["strongest"]).count(token) == 8  # four heads, two sides
        assert svg_texts(drawn["rollout"]).count(token) == 2


def test_the_mapping_shows_the_position_of_most_weight_where_there_is_room():
    heads = np.zeros((2, 2, 3, 3))
    heads[..., 0, 0] = heads[..., 1, 0] = heads[..., 2, 1] = 1
    texts = svg_texts(attention_figures.mapping(heads, ["a", "b", "c"]))
    assert (texts.count("0"), texts.count("1"), texts.count("2")) == (2 * 4, 4, 0)
    many = svg_texts(attention_figures.mapping(np.tile(heads, (4, 4, 1, 1)), ["a", "b", "c"]))
    assert (many.count("0"), many.count("1")) == (1, 1)  # the layers' numbers alone


def test_of_a_long_context_no_more_than_128_positions_are_drawn():
    long, short = (embedding_figures.position_cosines({"trained": np.eye(T)}) for T in (1024, 128))
    assert "position, one in 8" in svg_texts(long) and "position" in svg_texts(short)
    assert len(long) == pytest.approx(len(short), rel=0.2)


def test_labels_of_a_confusion_matrix_may_be_anything():
    labels = [CONTROLS, "long " * 20, "</svg>"]
    texts = [element.text for element in ElementTree.fromstring(figures.confusion(np.eye(3, dtype=int), labels)).iter()]
    assert "bell␇ escape␛[31m nul␀ o …" in texts and "long long long long long …" in texts and "</svg>" in texts


def test_dark_colours_apply_to_what_matplotlib_writes():
    svg = figures.schedule(inputs()["pretrain"]["train"])
    for color in (theme.BLUE, theme.FAINT):
        assert f"stroke: {color}" in svg and f'[style*="stroke: {color}"]{{stroke:{theme.DARK[color]}' in svg


def test_long_curves_are_thinned_to_means():
    values = np.arange(1000.0)
    thinned = figures.thinned(values)
    assert len(thinned) == 334 and thinned[0] == 1.0 and thinned[-1] == 999.0
    np.testing.assert_array_equal(figures.thinned(values[:400]), values[:400])
