"""The report: what is text stays text, nothing is fetched, equal inputs give equal bytes."""

import base64
import copy
import hashlib
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import product

import numpy as np
import pytest
from ruamel.yaml import YAML

from gpt2.report import attention_figures, embedding_figures, figures, theme
from gpt2.report.lineage import changes, environment, lineage
from gpt2.report.page import TEMPLATES, headline, render
from gpt2.report.verdicts import FAIL, NOT_RUN, OPENAI_TOKENIZER, PASS, loss_reference, verdicts
from gpt2.tokenizer import Tokenizer

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=\"alert('2')\"> {{ 7 * 7 }} & שלום مرحبا 😀 $x_1$"
CONTROLS = "bell\x07 escape\x1b[31m nul\x00 override\u202e lone\ud800"
LABELS = ["numpy", HOSTILE]
WHOLE_HELLASWAG = {
    "source": "hub",
    "repo": "Rowan/hellaswag",
    "commit": "c" * 40,
    "selection": {"config": None, "split": "validation"},
}
MODELS = ("trained", "initial", "openai")
ATTENTION_FIGURES = ["strongest", "mapping", "entropy", "grid_trained_1"]
ATTENTION_FIGURES += [f"{figure}_{name}" for figure in ("scores", "rollout") for name in MODELS]
ATTENTION_FIGURES += [f"grid_{name}_0" for name in MODELS]
EMBEDDING_FIGURES = ["wpe_columns", "wpe_cosines", "wpe_smoothness", "wte_norms"]
VOID = {"meta", "link", "img", "br", "hr", "input"}


def csv(**columns: list) -> list[dict[str, str]]:
    """Columns as the rows of a csv file."""
    rows = zip(*columns.values(), strict=True)
    return [{name: str(value) for name, value in zip(columns, row, strict=True)} for row in rows]


def inputs(text: str = HOSTILE) -> dict:
    """Small results of every stage, `text` in each place where a data set or a model could put it."""
    steps, val = list(range(8)), [0, 4, 8]
    curve = csv(step=steps, tokens=steps, lr=[0.1] * 8, loss=[5.6 - step / 4 for step in steps], grad_norm=[1.0] * 8)
    triangle = base64.b64encode(bytes(range(12))).decode()
    tokens = [text, "·the", "$"]
    prompt = {
        "text": text,
        "tokens": tokens,
        "ids": [7, 8, 9],
        "bytes": ["20", "ff", "24"],
        "weights": [[triangle] * 2] * 2,
    }
    best = {"value": 0.5, "layer": 1, "head": 0, "uniform": 0.1, "initial": 0.2}
    kinds = ("previous_token", "first_token", "duplicate_token", "induction")
    scores = {name: [[0.25, 0.5], [0.75, 0.0]] for name in (*kinds, "entropy")}
    model = {"n_layer": 2, "n_head": 2, "scores": scores, "prompts": [prompt, prompt]}
    models = [{"name": name, "title": f"{name} {text}", **model} for name in MODELS]
    predictions = [
        {"text": text, "label": "numpy", "prediction": LABELS[i % 2], "probability": 0.5 + i / 100} for i in range(20)
    ]
    split = {"documents": 10, "tokens": 12345, "bytes": 50000, "duplicates": 1, "shards": [{"file": "x.npy"}]}
    split["lengths"] = [0, 0, 4, 6]
    file = {"file": text, "bytes": 10, "rows": 2, "sha256": "ab" * 32}
    return {
        "sets": {
            "corpus": {"source": "docstrings", "packages": {"numpy": "2.0"}, "documents": {"train": 10}, "note": text},
            "instructions": {"source": "local", "files": [file, file]},
            "classification": {"source": "hub", "repo": text, "commit": text, "files": [file]},
            "hellaswag": {"source": "docstrings", "packages": {text: text}},
        },
        "labels": LABELS,
        "sample": {"seed": 1, "train": {"lr": 0.5, "note": "x"}},
        "tokens": {
            **{"vocab_size": 300, "tokenizer": "ab" * 32, "empty": 1, "invalid_utf8": 2},
            "splits": {"train": split, "val": split},
        },
        "gpt2": {"source": "none"},
        "pretrain": {
            "metrics": {
                **{
                    "init": "scratch",
                    "initial_loss": 5.7,
                    "train_loss": 2.1,
                    "val_loss": 2.2,
                    "unigram_entropy": 4.5,
                    "loss_spikes": 3,
                    "steps": 8,
                },
                **{"tokens": 100, "parameters": 1234567, "vocab_size": 300, "block_size": 8},
                **{"n_layer": 2, "n_head": 2, "n_embd": 8},
            },
            "throughput": {
                **{"tokens_per_second": 54321.0, "model_flops_utilization": None, "seconds": 1.0, "device": "cpu"},
                **{"peak_memory_mb": 512, "processes": 1, "precision": "float32", "compiled": False},
            },
            "train": curve,
            "val": csv(step=val, tokens=val, loss=[5.7, 3.0, 2.2]),
            "samples": [{"step": step, "prompt": "Returns", "text": f"sample {step} {text}"} for step in range(30)],
        },
        "classification": {
            "metrics": {
                **{"accuracy": 0.75, "accuracy_stderr": 0.01, "f1": 0.7, "f1_stderr": 0.02, "n": 20},
                **{"majority_accuracy_stderr": 0.1, "bag_of_words_accuracy_stderr": 0.11},
                **{"majority_accuracy": 0.5, "bag_of_words_accuracy": 0.625, "best_step": 4, "truncated": 3},
                **{"trainable_parameters": 5678, "trainable_share": 1.0},
            },
            "train": curve,
            "val": csv(step=val, loss=[0.7, 0.5, 0.4], accuracy=[0.5, 0.6, 0.75]),
            "predictions": predictions,
            "classes": csv(
                label=LABELS,
                n=[20, 0],
                predicted=[10, 10],
                precision=[1.0, 0.0],
                precision_stderr=[0.0, 0.0],
                recall=[0.5, ""],
                recall_stderr=[0.112, ""],
                f1=[2 / 3, 0.0],
            ),
            "confusion": csv(
                actual=[row["label"] for row in predictions], predicted=[row["prediction"] for row in predictions]
            ),
        },
        "instruction": {
            "metrics": {
                **{"val_loss_before": 4.0, "val_loss": 3.0, "rouge_l_before": 0.1, "rouge_l": 0.2},
                **{"test_loss_before": 4.0, "test_loss": 3.0, "test_examples": 40},
                **{"rouge_l_before_stderr": 0.01, "rouge_l_stderr": 0.02},
                **{"exact_match": 0.0, "n": 15, "best_step": 4, "trainable_parameters": 1234, "trainable_share": 0.025},
                **{"skipped_train": 3, "skipped_val": 2, "skipped_test": 1},
            },
            "train": curve,
            "val": csv(step=val, loss=[4.0, 3.5, 3.0]),
            "responses": [dict.fromkeys(("instruction", "input", "expected", "base", "tuned"), text)] * 15,
        },
        "parity": {
            "metrics": {
                **{"max_abs_logit_diff": 2e-6, "loss_diff": 1e-7, "max_gradient_diff": 3e-6},
                **{"greedy_match": 1.0, "sampled_match": 1.0},
            },
            "cases": csv(
                kind=["logits", "greedy tokens", "sampled tokens", "gradients", "loss"],
                case=["gpt2", "checkpoint", "checkpoint", "checkpoint", "gpt2"],
                quantity=["KV cache", "greedy tokens", "sampled tokens, top-k", "gradients by all parameters", "loss"],
                compared=[9600, 64, 32, 52, 8],
                value=[2e-6, 0.0, 0.0, 3e-6, 1e-7],
                tolerance=[1e-4, 0.0, 0.0, 1e-4, 1e-5],
                passed=[True] * 5,
            ),
            "pipeline": [
                {"goal": "greedy", "left": left, "outcome": outcome, "same": 12, "text": text, "ours": text}
                for left, outcome in (("all", "another text"), (None, "the same text"))
            ],
        },
        "hellaswag": {
            "metrics": {
                **{"acc": 0.3, "acc_stderr": 0.01, "acc_norm": 0.35, "acc_norm_stderr": 0.01, "n": 20, "truncated": 3},
                **{"harness_acc": 0.31, "harness_acc_stderr": 0.02, "harness_acc_norm": 0.36},
                **{"harness_acc_norm_stderr": 0.02, "harness_n": 20, "harness_truncated": 4},
            },
            "predictions": [{"label": i % 4, "prediction": 0, "prediction_norm": i % 2} for i in range(20)],
        },
        "attention": {
            "metrics": {
                **dict.fromkeys(kinds, best),
                **{"mean_entropy": 0.8, "wpe_smoothness_initial": 2.0, "wpe_smoothness": 0.5},
                **{"mean_entropy_initial": 0.99, "wte_norm_initial": 0.23, "wte_norm": 1.5},
            },
            "heads": csv(model=MODELS, layer=[0, 0, 1], head=[0] * 3, **{key: [0.5, 0.25, 0.75] for key in scores}),
            "mapping": [
                {
                    **{"model": model, "prompt": prompt, "layer": layer, "head": 0, "position": position},
                    **{
                        "token": text,
                        "attends_to": [{"position": max(position - 1, 0), "token": token, "weight": 0.5}],
                    },
                }
                for model, prompt, layer, position, token in (
                    *(("trained", 0, 1, position, token) for position, token in enumerate((text, text, "nearest"))),
                    *(("trained", 0, 0, 0, "not shown"), ("trained", 1, 1, 0, "not shown")),
                    ("initial", 0, 1, 0, "not shown"),
                )
            ],
            "neighbours": [{"model": "trained", "token": text, "neighbour": text, "cosine": 0.8}] * 5,
            "norms": [
                {"model": model, "end": end, "token": text, "norm": 0.5}
                for model, end in product(("trained", "openai"), ("smallest", "largest"))
            ],
            "attention": {"models": models},
            "figures": dict.fromkeys((*ATTENTION_FIGURES, *EMBEDDING_FIGURES), "<svg></svg>"),
        },
    }


LOCK = {
    "schema": "2.0",
    "stages": {
        "pretrain": {
            "cmd": "python -m stages.pretrain",
            "params": {"params.yaml": {"seed": 1, "train": {"lr": 0.001, "note": HOSTILE}}},
            "outs": [{"path": "data/models/pretrain", "md5": "d41d8cd98f00b204e9800998ecf8427e.dir"}],
        }
    },
}
LINEAGE = lineage(["pretrain", "evaluate_parity"], LOCK)


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text inside each."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, f"{self.elements[self._open[-1]][0]} is not closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.texts.append("")
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data):
        for element in self._open:
            self.texts[element] += data

    def text(self, tag: str, **attributes: str) -> list[str]:
        """The text of each element with this tag and these attributes."""
        return [
            text
            for (name, own), text in zip(self.elements, self.texts, strict=True)
            if name == tag and attributes.items() <= own.items()
        ]


@pytest.fixture(scope="module")
def html() -> str:
    return render(inputs(), LINEAGE, {"Python": "3.11", "processor": HOSTILE})


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


# --- safety --------------------------------------------------------------------------------------------------------


def test_hostile_text_is_shown_as_text(page):
    assert page.text("div", **{"class": "text"}).count(HOSTILE) == 12 * 4 + 6 + 2  # responses, mistakes, pipeline
    assert HOSTILE in page.text("pre", dir="auto")
    assert HOSTILE in page.text("q")
    assert any(HOSTILE in text for text in page.text("dd"))
    assert [tag for tag, _ in page.elements].count("script") == 3  # the viewer's data, its script, that of tables
    assert not any(name.startswith("on") or name == "style" for _, own in page.elements for name in own)


def test_nothing_is_fetched_and_the_policy_says_so(page):
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            assert re.match(r"#[^\s<>]+$|data:(image/svg\+xml;base64,|,$)", attributes.get(name, "#x")), attributes
    (policy,) = [own["content"] for tag, own in page.elements if own.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy and "http" not in policy
    (style,), (_, *scripts) = page.text("style"), page.text("script")
    assert len(scripts) == 2
    for text in (style, *scripts):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert not re.search(r"url\(|@import|https?:", style)
    for script in scripts:
        assert not re.search(r"fetch\(|XMLHttpRequest|innerHTML|https?:|eval", script)


def test_the_viewer_s_data_survives_in_its_script(page):
    assert json.loads(page.text("script", type="application/json")[0]) == inputs()["attention"]["attention"]


def test_control_characters_are_made_visible():
    html = render(inputs(CONTROLS), LINEAGE, {})
    assert "bell␇ escape␛[31m nul␀ override� lone�" in Page(html).text("div", **{"class": "text"})
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", html)
    html.encode("utf-8")


def test_loss_spikes_are_told(page):
    said = [" ".join(text.split()) for text in page.text("dd")]
    assert any(
        text.startswith("3: steps whose loss was more than 5 standard deviations above the mean of the 50")
        for text in said
    )


def test_links_lead_to_sections_that_exist(page):
    ids = [own["id"] for _, own in page.elements if "id" in own]
    assert len(ids) == len(set(ids))
    targets = [own["href"] for tag, own in page.elements if tag == "a"]
    assert {target.removeprefix("#").split("&")[0] for target in targets} <= set(ids)  # after &: a view of the viewer


def test_every_image_has_a_description(page):
    images = [own for tag, own in page.elements if tag == "img"]
    assert len(images) == 7 + len(ATTENTION_FIGURES) + len(EMBEDDING_FIGURES) and all(own["alt"] for own in images)


def test_equal_inputs_give_equal_bytes(html):
    assert render(inputs(), LINEAGE, {"Python": "3.11", "processor": HOSTILE}) == html


def test_another_machine_s_page_differs_in_its_environment_alone(html):
    other = render(inputs(), LINEAGE, {"Python": "3.12", "cores": CONTROLS})
    cut = re.compile('<section id="environment">.*?</section>', re.DOTALL)
    assert other != html and cut.sub("", other) == cut.sub("", html)


# --- structure -----------------------------------------------------------------------------------------------------


def test_headings_go_down_by_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_header_contents_and_main_part_are_landmarks(page):
    tags = [tag for tag, _ in page.elements]
    assert [tags.count(landmark) for landmark in ("header", "nav", "main")] == [1, 1, 1]
    sections = ["#" + own["id"] for tag, own in page.elements if tag == "section"]
    links = [own["href"] for tag, own in page.elements if tag == "a"]
    assert links[2 : 2 + len(sections)] == sections  # after the two above the contents


def test_tables_that_can_be_sorted_have_one_row_of_heads(page):
    sortable = [text for text in page.text("table", **{"class": "sortable"})]
    assert sum("Recall" in text for text in sortable) == 1 and sum("sha256" in text for text in sortable) == 2


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    shares = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def palettes() -> list[dict[str, str]]:
    """The page's colours by name, light and dark, with those of the figures' text."""
    style = (TEMPLATES / "style.css").read_text("utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    roles = {"figure-ink": theme.INK, "figure-muted": theme.MUTED, "figure-green": theme.GREEN}
    light, dark = found[:2]
    return [light | roles, dark | {name: theme.DARK[color] for name, color in roles.items()}]


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "back"),
    [
        *((text, back) for text in ("ink", "muted", "accent") for back in ("page", "panel")),
        *(("pass", "pass-back"), ("fail", "fail-back"), ("muted", "skip-back")),
        *((f"figure-{text}", "page") for text in ("ink", "muted", "green")),
    ],
)
def test_text_can_be_read_on_its_background(palette, text, back):
    lighter, darker = sorted((luminance(palette[text]), luminance(palette[back])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


# --- content -------------------------------------------------------------------------------------------------------


def test_every_metric_stands_on_the_page(html):
    for shown in ("1,234,567", "5.700", "2.200", "0.750 ± 0.010", "0.350 ± 0.010", "2.0e-06", "54,321", "not known"):
        assert shown in html


def test_a_classifier_stands_beside_its_baselines_and_label_by_label(page):
    said = [" ".join(text.split()) for text in page.text("dd")]
    for start in (
        "0.700 ± 0.020",
        "0.500 ± 0.100, always",
        "0.625 ± 0.110, a logistic regression",
        "5,678 parameters, 100.0%",
    ):
        assert any(text.startswith(start) for text in said), start
    cells = page.text("td", **{"class": "number"})
    first = cells.index("0.500 ± 0.112") - 3
    assert cells[first : first + 5] == ["20", "10", "1.000 ± 0.000", "0.500 ± 0.112", "0.667"]
    assert cells[first + 5 : first + 10] == ["0", "10", "0.000 ± 0.000", "—", "0.000"]


def test_whom_each_token_attends_to_is_told_for_the_strongest_heads(html):
    section = html.split('<section id="attention">')[1].split("</section>")[0]
    assert section.count("<bdi>nearest</bdi> (1) 0.50") == 4  # one head is the strongest of every kind
    assert "not shown" not in section


def test_prompts_without_words_have_no_neighbours(html):
    data = inputs()
    data["attention"]["neighbours"] = []
    assert "nearest by cosine" in html and "nearest by cosine" not in section_of(data, "embeddings")


def test_long_lists_are_cut_evenly(page):
    steps = page.text("span", **{"class": "step"})
    assert len(steps) == 8 and (steps[0], steps[-1]) == ("step 0", "step 29")


def test_the_data_are_named_for_what_they_are(html):
    assert "HellaSwag-shaped completions from docstrings" in " ".join(html.split())
    assert "FineWeb" not in html
    data = inputs()
    data["sets"]["hellaswag"] = WHOLE_HELLASWAG
    said = " ".join(render(data, LINEAGE, {}).split())
    assert "HellaSwag (Zellers et al. 2019), 20 examples of its split validation" in said


def test_a_model_taken_over_as_it_is_has_no_training_to_show():
    data = inputs()
    data["pretrain"]["metrics"] |= {"init": "gpt2", "steps": 0, "tokens": 0, "train_loss": None}
    data["pretrain"]["train"], data["pretrain"]["val"] = [], data["pretrain"]["val"][:1]
    page = Page(render(data, LINEAGE, {}))
    assert not any(own.get("alt", "").startswith("Learning rate") for _, own in page.elements)
    assert verdict_of(data, "ln V") == NOT_RUN
    assert headline(data)["pretrain"]["steps"] == 0 and "train_loss" not in headline(data)["pretrain"]


def test_a_judge_is_shown_with_what_it_was_asked_and_scores_alone_count():
    data = inputs()
    assert "score of 0 to 100" not in render(data, LINEAGE, {})
    data["instruction"]["metrics"] |= {"judge_model": "<grader>", "judge_prompt": "Grade {answer}.", "judge_n": 14}
    data["instruction"]["metrics"] |= {"judge_score_before": 12.345, "judge_score": None, "judge_unscored": 16}
    data["instruction"]["responses"] = [
        {**row, "base_score": 12, "tuned_score": None} for row in data["instruction"]["responses"]
    ]
    said = " ".join(render(data, LINEAGE, {}).split())
    for words in ("by &lt;grader&gt;, 14 responses", "12.3", "without a score: 16", "Grade {answer}.", "score: none"):
        assert words in said
    assert "judge_prompt" not in headline(data)["instruction"] and "judge_score" not in headline(data)["instruction"]


def section_of(data: dict, name: str) -> str:
    return render(data, LINEAGE, {}).split(f'<section id="{name}">')[1].split("</section>")[0]


def verdict_of(data: dict, part: str) -> str:
    (found,) = [row.status for row in verdicts(data) if part in row.claim]
    return found


@pytest.mark.parametrize(
    ("claim", "section", "metric", "passes", "fails"),
    [
        ("ln V", "pretrain", "initial_loss", 5.85, 5.86),  # ln 300 = 5.704
        ("ln V", "pretrain", "initial_loss", 5.56, 5.55),
        ("context", "pretrain", "val_loss", 2.69, 2.71),  # 4.5 - 1.8
        ("classifies", "classification", "accuracy", 0.75, 0.74),
        ("instructions", "instruction", "test_loss", 3.4, 3.41),
        ("chance", "hellaswag", "acc_norm", 0.271, 0.269),
    ],
)
def test_a_verdict_turns_at_its_threshold(claim, section, metric, passes, fails):
    data = inputs()
    for value, expected in ((passes, PASS), (fails, FAIL)):
        data[section]["metrics"][metric] = value
        assert verdict_of(data, claim) == expected


@pytest.mark.parametrize(
    ("case", "claim"), [(0, "same logits"), (1, "greedy"), (2, "random numbers"), (3, "gradients"), (4, None)]
)
def test_one_failing_case_fails_its_claim_and_the_one_of_all(case, claim):
    data = inputs()
    claims = ("same logits", "greedy", "random numbers", "gradients", "Every comparison")
    assert [verdict_of(data, each) for each in claims] == [PASS] * 5
    data["parity"]["cases"][case]["passed"] = "False"
    failed = [each for each in claims if verdict_of(data, each) == FAIL]
    assert failed == [*([claim] if claim else []), "Every comparison"]


def test_cases_are_grouped_by_model_and_count_what_passed(page):
    groups = [" ".join(text.split()) for text in page.text("th", scope="rowgroup")]
    assert groups == ["gpt2: 2 of 2", "checkpoint: 3 of 3"]  # in the order of the table


def test_what_was_not_measured_is_not_called_a_pass():
    assert {verdict_of(inputs(), part) for part in ("(completion)", "(harness)")} == {NOT_RUN}


def test_completions_are_shown_under_both_protocols(page):
    rows = [["completion", "0.300 ± 0.010", "0.350 ± 0.010", "3"], ["harness", "0.310 ± 0.020", "0.360 ± 0.020", "4"]]
    cells = page.text("th") + page.text("td")
    for name, *told in rows:
        assert name in cells and set(told) <= set(cells)


@pytest.mark.parametrize(
    ("protocol", "metric", "near"), [("completion", "acc_norm", 0.2951), ("harness", "harness_acc_norm", 0.311)]
)
def test_openai_s_score_is_compared_under_its_own_protocol_alone(protocol, metric, near):
    data, claim = inputs(), f"measured for it ({protocol})"
    data["sets"]["hellaswag"] = WHOLE_HELLASWAG
    data["gpt2"] = {"source": "hub", "repo": "openai-community/gpt2", "revision": "main", "commit": "c"}
    data["pretrain"]["metrics"] |= {"init": "gpt2", "steps": 0}
    data["hellaswag"]["metrics"] |= {"n": 10042, metric: near}
    assert verdict_of(data, claim) == PASS
    data["hellaswag"]["metrics"][metric] = near - 0.005
    assert verdict_of(data, claim) == FAIL
    train = copy.deepcopy(data)
    train["sets"]["hellaswag"]["selection"] = {"split": "train"}
    assert verdict_of(train, claim) == NOT_RUN
    for section, change in (("pretrain", {"steps": 1}), ("hellaswag", {"n": 1000}), ("pretrain", {"init": "scratch"})):
        other = copy.deepcopy(data)
        other[section]["metrics"] |= change
        assert verdict_of(other, claim) == NOT_RUN


def test_published_scores_stand_beside_the_data_they_were_measured_on_alone():
    data = inputs()
    assert "0.2955" not in section_of(data, "completion")
    data["sets"]["hellaswag"] = WHOLE_HELLASWAG
    assert "0.2955" not in section_of(data, "completion")
    data["hellaswag"]["metrics"]["n"] = 10042
    assert "0.2955" in section_of(data, "completion")


def fineweb_edu() -> dict:
    """The inputs of a model of GPT-2's vocabulary and context on FineWeb-Edu's sample of ten billion tokens."""
    data = inputs()
    sample = {"config": "sample-10BT", "split": "train"}
    corpus = {"source": "hub", "repo": "HuggingFaceFW/fineweb-edu", "commit": "c" * 40, "selection": sample}
    data["sets"]["corpus"], data["tokens"]["tokenizer"] = corpus, OPENAI_TOKENIZER
    data["pretrain"]["metrics"]["block_size"] = 1024
    return data


def test_openai_s_loss_stands_beside_its_corpus_vocabulary_and_context_alone():
    data = fineweb_edu()
    assert loss_reference(data) == ("FineWeb-Edu", 3.292)
    assert "The green one is OpenAI’s 124M" in section_of(data, "training")
    data["sets"]["corpus"]["repo"] = "HuggingFaceFW/fineweb"
    assert loss_reference(data) == ("FineWeb", 3.425)
    for path, value in (
        (("sets", "corpus", "repo"), "HuggingFaceFW/fineweb-2"),
        (("sets", "corpus", "selection"), {"files": ["*"]}),
        (("tokens", "tokenizer"), "ab" * 32),
        (("pretrain", "metrics", "block_size"), 512),
    ):
        other = fineweb_edu()
        *above, last = path
        place = other
        for key in above:
            place = place[key]
        place[last] = value
        assert loss_reference(other) is None
        assert "green" not in section_of(other, "training")


@pytest.mark.realdata
def test_openai_s_vocabulary_is_known_by_its_fingerprint(real_data, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(real_data / "tiktoken"))
    assert Tokenizer.gpt2().fingerprint == OPENAI_TOKENIZER


def test_completions_scored_during_pretraining_are_drawn_where_there_are_any():
    data, words = inputs(), "while the model was pretrained"
    assert words not in section_of(data, "completion")
    data["pretrain"]["val"] = csv(step=[0, 4, 8], tokens=[0, 4, 8], loss=[5.7, 3.0, 2.2], acc_norm=[0.24, "", 0.3])
    assert words in section_of(data, "completion")
    svg = figures.completion_curve(data["pretrain"]["val"], 0.2955)
    texts = [element.text for element in ElementTree.fromstring(svg).iter()]
    assert "chance" in texts and "0.2955: OpenAI's 124M" in texts
    assert "0.2955: OpenAI's 124M" not in figures.completion_curve(data["pretrain"]["val"], None)


def card_of(data: dict) -> str:
    return " ".join(section_of(data, "card").split())


def test_the_card_says_where_model_and_data_come_from():
    card = card_of(inputs())
    for words in (
        "trained here from GPT-2’s initialization: 8 steps",
        "not GPT-2’s",
        "docstrings of installed packages (1)",
    ):
        assert words in card
    for words in ("not known here: see its page on the hub", "files of whoever ran this", "MIT license"):
        assert words in card
    assert "WebText" not in card and "judge" not in card and "OpenAI’s weights" not in card


def test_the_card_of_openai_s_model_names_it_and_its_licence():
    data = fineweb_edu()
    data["gpt2"] = {"source": "hub", "repo": "openai-community/gpt2", "revision": "main", "commit": "f" * 40}
    data["pretrain"]["metrics"] |= {"init": "gpt2", "steps": 0, "tokens": 0, "train_loss": None}
    data["pretrain"]["train"] = []
    card = card_of(data)
    for words in (f"those of openai-community/gpt2, commit {'f' * 12}, unchanged<", "WebText", "GPT-2’s own", "ODC-By"):
        assert words in card
    assert "technical English alone" not in card
    assert "validation of the pretrained model" in card
    data = inputs()
    data["gpt2"] = {"source": "local", "files": []}
    data["pretrain"]["metrics"] |= {"init": "gpt2"}
    assert "data/local/gpt2, trained further here: 8 steps, 100 tokens" in card_of(data)


def test_the_headline_holds_numbers_without_timings():
    collected = headline(inputs())
    claims = collected.pop("claims")
    assert claims["context"] == PASS and claims["openai_harness"] == NOT_RUN and len(claims) == 12
    assert collected["verdicts"] == {"passed": 10, "failed": 0, "not_run": 2}
    assert collected["attention"]["induction"] == 0.5
    assert all(isinstance(value, (int, float)) for section in collected.values() for value in section.values())
    assert "tokens_per_second" not in json.dumps(collected)


def test_lineage_tells_what_is_recorded_and_what_is_not(page):
    recorded, missing = LINEAGE
    assert recorded["params"] == {"seed": 1, "train.lr": 0.001, "train.note": HOSTILE}
    assert missing == {"stage": "evaluate_parity"}
    assert page.text("p", **{"class": "unrecorded"}) == ["evaluate_parity not recorded"]
    changed = copy.deepcopy(LOCK)
    changed["stages"]["pretrain"]["outs"][0]["md5"] = "0" * 32
    assert lineage(["pretrain"], changed)[0]["hash"] != recorded["hash"]


def test_what_differs_from_the_sample_makes_this_run_of_it(page):
    sample = {"seed": 1, "train": {"lr": 0.5, "steps": 3, "lora": {"rank": 1}, "note": None}, "tokens": {"a": ["x"]}}
    own = {"train": {"lr": 1e-05, "steps": 3, "lora": {"rank": 2}, "note": HOSTILE}, "tokens": {"a": ["x", "# y: z"]}}
    lock = {"stages": {"a": {"cmd": "", "params": {"params.yaml": {"seed": 1, "train": own["train"]}}}}}
    lock["stages"]["b"] = {"cmd": "", "params": {"params.yaml": {"tokens.a": own["tokens"]["a"]}}}
    stages = lineage(["a", "b", "c"], lock)
    overlay = {"tokens": own["tokens"], "train": {name: own["train"][name] for name in ("lr", "lora", "note")}}
    assert YAML(typ="safe", pure=True).load(changes(stages, sample)) == overlay
    del lock["stages"]["a"], lock["stages"]["b"]
    assert changes(lineage(["a", "b", "c"], lock), sample) == ""
    assert f"train:\n  lr: 0.001\n  note: {json.dumps(HOSTILE, ensure_ascii=False)}" in page.text("pre", dir="auto")


def test_the_environment_names_no_machine():
    described = environment()
    assert described["torch"] and int(described["cores"]) > 0
    assert not any("/home" in value or "/root" in value for value in described.values())


# --- figures -------------------------------------------------------------------------------------------------------


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
