"""Figures: stable bytes, and hostile text as text."""

import xml.etree.ElementTree as ElementTree

import numpy as np

from gpt2.report import attention_figures, embedding_figures, figures
from tests.report.inputs import CONTROLS, MODELS, csv

TOKENS = ["a", "</text>&", "$x$", "日", "שלום", "😀", "</script>", "\\x00"]


def attention_drawings() -> dict[str, str]:
    random = np.random.default_rng(0)
    heads = np.tril(random.random((2, 3, 8, 8)))
    scores = {name: heads[:, :, 3, 0] for name in attention_figures.SCORES}
    training = csv(
        **{"step": [0, 0, 9, 9], "tokens": [0, 0, 90, 90]},
        **{"layer": [0, 1, 0, 1], "head": [2, 3, 2, 3]},
        **{name: [0.1, 0.1, 0.2, 0.9] for name in attention_figures.SCORES},
    )
    uniform = dict.fromkeys(attention_figures.SCORES, 0.5)
    strongest = dict.fromkeys(("previous_token", "first_token", "duplicate_token", "induction"), (1, 2))
    w = random.normal(size=(16, 8))
    return {
        "grid": attention_figures.grid(heads),
        "strongest": attention_figures.strongest(heads, TOKENS, strongest),
        "mapping": attention_figures.mapping(heads, TOKENS),
        "rollout": attention_figures.rollout(heads[0, 0], TOKENS),
        "scores": attention_figures.scores(scores),
        "entropy": attention_figures.entropy(dict.fromkeys(MODELS, scores["entropy"])),
        "over_training": figures.heads_over_training(training, csv(tokens=[0, 90], loss=[5, 3]), uniform),
        "columns": embedding_figures.position_columns(w, 2 * w, [0, 3, 5]),
        "cosines": embedding_figures.position_cosines(dict.fromkeys(MODELS, w @ w.T)),
        "smoothness": embedding_figures.position_smoothness({"initial": w[0] ** 2, "trained": w[1] ** 2}),
        "norms": embedding_figures.token_norms(dict.fromkeys(MODELS, w[0] ** 2)),
    }


def svg_texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.text]


def test_figures_are_well_formed_stable_and_hold_hostile_tokens_as_text():
    drawn = attention_drawings()
    assert drawn == attention_drawings()
    for svg in drawn.values():
        assert not ElementTree.fromstring(svg).findall(".//{http://www.w3.org/2000/svg}script")
    for token in TOKENS:
        assert svg_texts(drawn["strongest"]).count(token) == 8  # four heads, two sides
        assert svg_texts(drawn["rollout"]).count(token) == 2


def test_the_head_that_ends_strongest_is_named_over_training():
    texts = svg_texts(attention_drawings()["over_training"])
    assert texts.count("layer 1, head 3") == 4 and texts.count("layer 0, head 2") == 1  # the lowest entropy


def test_labels_of_a_confusion_matrix_may_be_anything():
    labels = [CONTROLS, "long " * 20, "</svg>"]
    texts = svg_texts(figures.confusion(np.eye(3, dtype=int), labels))
    assert {"bell␇ escape␛[31m nul␀ o …", "long long long long long …", "</svg>"} <= set(texts)


def test_completion_curves_mark_chance_and_the_published_score():
    rows = csv(tokens=[0, 4, 8], acc_norm=[0.24, 0.26, 0.3], acc_norm_stderr=[0.01, 0.02, 0.01])
    assert {"chance", "0.2955: OpenAI's 124M"} <= set(svg_texts(figures.completion_curve(rows, 0.2955)))
    assert "OpenAI" not in figures.completion_curve(rows, None)


def test_long_curves_are_thinned_to_means():
    values = np.arange(1000.0)
    thinned = figures.thinned(values)
    assert len(thinned) == 334 and thinned[0] == 1.0 and thinned[-1] == 999.0
    np.testing.assert_array_equal(figures.thinned(values[:400]), values[:400])
