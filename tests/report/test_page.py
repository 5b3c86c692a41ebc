"""The page: text stays text, nothing is fetched, equal inputs give equal bytes, every metric is shown."""

import base64
import hashlib
import itertools
import json
import re

import numpy as np

from gpt2.report import theme
from gpt2.report.page import TEMPLATES, headline, render
from gpt2.report.verdicts import NOT_RUN, PASS
from tests.report.inputs import (
    ATTENTION_FIGURES,
    CONTROLS,
    EMBEDDING_FIGURES,
    HOSTILE,
    LINEAGE,
    OPENAI_WEIGHTS,
    WHOLE_HELLASWAG,
    Page,
    fineweb_edu,
    inputs,
    section_of,
    verdict_of,
)


def test_hostile_text_is_shown_as_text(page):
    assert page.text("div", **{"class": "text"}).count(HOSTILE) == 12 * 4 + 6 + 2  # responses, mistakes, pipeline
    assert HOSTILE in page.text("q")
    assert any(HOSTILE in text for text in page.text("dd"))
    assert [tag for tag, _ in page.elements].count("script") == 3  # data of the viewer, the viewer, sorting of tables
    assert not any(name.startswith("on") or name == "style" for _, own in page.elements for name in own)


def test_nothing_is_fetched_and_the_policy_forbids_it(page):
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
    assert not any(re.search(r"fetch\(|XMLHttpRequest|innerHTML|https?:|eval", script) for script in scripts)


def test_control_characters_are_shown_as_symbols():
    html = render(inputs(CONTROLS), LINEAGE, {})
    assert "bell␇ escape␛[31m nul␀ override� lone�" in Page(html).text("div", **{"class": "text"})
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", html)
    html.encode("utf-8")


def test_links_lead_to_sections_that_exist(page):
    ids = [own["id"] for _, own in page.elements if "id" in own]
    assert len(ids) == len(set(ids))
    targets = [own["href"] for tag, own in page.elements if tag == "a"]
    assert {target.removeprefix("#").split("&")[0] for target in targets} <= set(ids)  # after &: a view of the viewer
    sections = ["#" + own["id"] for tag, own in page.elements if tag == "section"]
    assert sections[0] == "#verdicts" and targets[2 : 2 + len(sections)] == sections  # two links precede the contents


def test_every_image_has_a_description(page):
    images = [own for tag, own in page.elements if tag == "img"]
    assert len(images) == 9 + len(ATTENTION_FIGURES) + len(EMBEDDING_FIGURES) and all(own["alt"] for own in images)


def test_only_the_environment_depends_on_the_machine(html):
    assert render(inputs(), LINEAGE, {"Python": "3.11", "processor": HOSTILE}) == html
    other = render(inputs(), LINEAGE, {"Python": "3.12", "cores": CONTROLS})
    cut = re.compile('<section id="environment">.*?</section>', re.DOTALL)
    assert other != html and cut.sub("", other) == cut.sub("", html)


def test_headings_go_down_by_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_text_contrasts_with_its_background():
    style = (TEMPLATES / "style.css").read_text("utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks[:2])
    pairs = [("pass", "pass-back"), ("fail", "fail-back"), ("muted", "skip-back")]
    pairs += itertools.product(("ink", "muted", "accent"), ("page", "panel"))
    colors = [(palette[text], palette[back]) for palette in (light, dark) for text, back in pairs]
    assert (
        f"figure img {{ display: block; width: auto; max-width: 100%; height: auto; background: {light['page']};"
        in style
    )
    colors += [(color, light["page"]) for color in (theme.INK, theme.MUTED, theme.GREEN)]
    for text, back in colors:
        lighter, darker = sorted((luminance(text), luminance(back)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, back)


def test_every_metric_is_on_the_page(html):
    for value in ("1,234,567", "5.700", "2.200", "0.350 ± 0.010", "2.0e-06", "54,321", "no peak is known", "TF32"):
        assert value in html
    for bits in ("1.050 bits per byte", "2.710 before training", ">1.820<", ">1.360<", ">1.840<", ">1.380<"):
        assert bits in html
    for sentence in ("3: steps with a loss more than 5 standard deviations", "1.0 s of training steps"):
        assert sentence in " ".join(html.split())


def test_the_headline_accuracy_is_compared_with_word_counts():
    data, wins = inputs(), "the fine-tuned model does not beat the simple baseline"
    assert "word counts alone reach 62.5%" in " ".join(render(data, LINEAGE, {}).split("<nav")[0].split())
    assert wins not in " ".join(section_of(data, "classification").split())
    data["classification"]["metrics"]["bag_of_words_accuracy"] = 0.8
    assert wins in " ".join(section_of(data, "classification").split())


def test_a_classifier_is_shown_with_its_baselines_and_by_label(page):
    cells = page.text("td", **{"class": "number"})
    first = cells.index("0.750 ± 0.010")
    expected = ["0.750 ± 0.010", "0.700 ± 0.020", "0.625 ± 0.110", "—", "0.500 ± 0.100", "—"]
    expected += ["20", "10", "1.000 ± 0.000", "0.500 ± 0.112", "0.667", "0", "10", "0.000 ± 0.000", "—", "0.000"]
    assert cells[first : first + len(expected)] == expected


def test_the_strongest_heads_are_shown_with_what_each_token_attends_to(html):
    section = html.split('<section id="attention">')[1].split("</section>")[0]
    assert section.count("<bdi>nearest</bdi> (1) 0.50") == 4  # one head is the strongest of every kind
    assert "not shown" not in section


def test_the_texts_of_each_prompt_are_shown_from_before_to_after_training(page):
    steps = ["step 0, 0 tokens: before training", "step 4, 48 tokens", "step 8, 96 tokens: after training"]
    assert page.text("span", **{"class": "step"}) == 2 * steps


def test_many_texts_are_thinned_evenly_and_those_of_many_prompts_left_out():
    data = inputs()
    data["pretrain"]["samples"] = [
        {"step": step, "tokens": step, "prompt": f"prompt {prompt}", "text": f" text {step}"}
        for step, prompt in itertools.product(range(30), range(6))
    ]
    texts = Page(section_of(data, "samples")).text("div", **{"class": "text"})
    assert len(texts) == 4 * 9 and (texts[0], texts[8]) == ("prompt 0 text 0", "prompt 0 text 29")
    assert texts[-1] == "prompt 3 text 29"


def test_a_run_without_snapshots_has_no_curves_over_training():
    data = inputs()
    for section in ("hellaswag", "attention"):
        data[section]["snapshots"] = data[section]["snapshots"][-1:]
    alts = [own["alt"] for tag, own in Page(render(data, LINEAGE, {})).elements if tag == "img"]
    assert alts and not any("in pretraining" in alt for alt in alts)


def test_a_change_of_the_code_during_training_is_shown(html):
    assert "The code changed" not in html
    data = inputs()
    data["pretrain"]["throughput"]["code_changed_at_step"] = [120, 300]
    for name in ("speed", "lineage"):
        assert "The code changed during pretraining, at steps 120, 300" in section_of(data, name)


def test_other_conditions_during_training_and_an_unknown_peak_of_memory_are_shown(html):
    assert "512 MB in the main process" in html and "micro-batch changed during" not in html
    data = inputs()
    data["pretrain"]["throughput"] |= {"conditions_changed_at_step": [7], "peak_memory_mb": None}
    assert "micro-batch changed during pretraining, at step 7" in section_of(data, "speed")
    assert "peak memory</dt><dd>unknown</dd>" in render(data, LINEAGE, {})


def test_a_model_that_was_not_trained_has_no_training_to_show():
    data = inputs()
    data["pretrain"]["metrics"] |= {"init": "gpt2", "steps": 0, "tokens": 0, "train_loss": None}
    data["pretrain"]["train"], data["pretrain"]["val"] = [], data["pretrain"]["val"][:1]
    page = Page(render(data, LINEAGE, {}))
    assert not any(own.get("alt", "").startswith("Learning rate") for _, own in page.elements)
    assert verdict_of(data, "initial_loss") == NOT_RUN
    assert headline(data)["pretrain"]["steps"] == 0 and "train_loss" not in headline(data)["pretrain"]


def test_a_judge_is_shown_with_its_prompt_and_only_its_scores_count():
    data = inputs()
    assert "score from 0 to 100" not in render(data, LINEAGE, {})
    data["instruction"]["metrics"] |= {"judge_model": "<grader>", "judge_prompt": "Grade {answer}.", "judge_n": 14}
    data["instruction"]["metrics"] |= {"judge_score_before": 12.345, "judge_score": None, "judge_unscored": 16}
    data["instruction"]["responses"] = [
        {**row, "base_score": 12, "tuned_score": None} for row in data["instruction"]["responses"]
    ]
    text = " ".join(render(data, LINEAGE, {}).split())
    for words in ("by &lt;grader&gt;, 14 responses", "12.3", "without a score: 16", "Grade {answer}.", "score: none"):
        assert words in text
    assert "judge_prompt" not in headline(data)["instruction"] and "judge_score" not in headline(data)["instruction"]


def test_cases_are_grouped_by_model_and_passes_counted(page):
    groups = [" ".join(text.split()) for text in page.text("th", scope="rowgroup")]
    assert groups == ["gpt2: 2 of 2 pass", "checkpoint: 3 of 3 pass"]


def test_published_scores_are_shown_only_for_the_data_they_were_measured_on(page):
    assert {"0.300 ± 0.010", "0.350 ± 0.010", "0.310 ± 0.020", "0.360 ± 0.020"} <= set(page.text("td"))
    data = inputs()
    assert "Completions in HellaSwag’s form, from docstrings" in " ".join(section_of(data, "completion").split())
    data["sets"]["hellaswag"] = WHOLE_HELLASWAG
    section = " ".join(section_of(data, "completion").split())
    assert "HellaSwag (Zellers et al. 2019), 20 examples of its validation split" in section and "0.2955" not in section
    data["hellaswag"]["metrics"]["n"] = 10042
    assert "0.2955" in section_of(data, "completion")


def card_of(data: dict) -> str:
    return " ".join(section_of(data, "card").split())


def test_the_card_names_the_sources_of_model_and_data():
    card = card_of(inputs())
    for words in (
        *("trained from scratch: 8 steps", "not that of OpenAI’s GPT-2", "docstrings of 1 installed packages"),
        *('<td data-label="license">unknown</td>', "local files", ">MIT, ", "MIT license"),
    ):
        assert words in card
    assert "WebText" not in card and "judge" not in card and "OpenAI’s weights" not in card


def test_the_card_of_openai_s_model_names_it_and_its_license():
    data = fineweb_edu()
    data["gpt2"] = OPENAI_WEIGHTS
    data["pretrain"]["metrics"] |= {"init": "gpt2", "steps": 0, "tokens": 0, "train_loss": None}
    data["pretrain"]["train"] = []
    card = card_of(data)
    for words in (
        f"openai-community/gpt2, commit {'f' * 12}, unchanged<",
        "WebText",
        "that of OpenAI’s",
        ">odc-by<",
        ">mit<",
    ):
        assert words in card
    assert "only on technical English" not in card and "validation of the pretrained model" in card
    data = inputs()
    data["gpt2"] = {"source": "local", "files": []}
    data["pretrain"]["metrics"] |= {"init": "gpt2"}
    assert "data/local/gpt2, trained further: 8 steps, 100 tokens" in card_of(data)


def test_the_headline_holds_numbers_without_timings():
    collected = headline(inputs())
    claims = collected.pop("claims")
    assert claims["context"] == PASS and claims["openai_harness"] == NOT_RUN and len(claims) == 13
    assert collected["verdicts"] == {"passed": 11, "failed": 0, "not_run": 2}
    assert collected["attention"]["induction"] == 0.5
    assert all(isinstance(value, (int, float)) for section in collected.values() for value in section.values())
    assert "tokens_per_second" not in json.dumps(collected)
