"""The page: what is text stays text, nothing is fetched, equal inputs give equal bytes, every figure is told."""

import base64
import hashlib
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gpt2.report import figures, theme
from gpt2.report.page import TEMPLATES, headline, render
from gpt2.report.verdicts import NOT_RUN, PASS
from tests.report.inputs import (
    ATTENTION_FIGURES,
    CONTROLS,
    EMBEDDING_FIGURES,
    HOSTILE,
    LINEAGE,
    WHOLE_HELLASWAG,
    Page,
    csv,
    fineweb_edu,
    inputs,
    section_of,
    verdict_of,
)


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


def test_cases_are_grouped_by_model_and_count_what_passed(page):
    groups = [" ".join(text.split()) for text in page.text("th", scope="rowgroup")]
    assert groups == ["gpt2: 2 of 2", "checkpoint: 3 of 3"]  # in the order of the table


def test_completions_are_shown_under_both_protocols(page):
    rows = [["completion", "0.300 ± 0.010", "0.350 ± 0.010", "3"], ["harness", "0.310 ± 0.020", "0.360 ± 0.020", "4"]]
    cells = page.text("th") + page.text("td")
    for name, *told in rows:
        assert name in cells and set(told) <= set(cells)


def test_published_scores_stand_beside_the_data_they_were_measured_on_alone():
    data = inputs()
    assert "0.2955" not in section_of(data, "completion")
    data["sets"]["hellaswag"] = WHOLE_HELLASWAG
    assert "0.2955" not in section_of(data, "completion")
    data["hellaswag"]["metrics"]["n"] = 10042
    assert "0.2955" in section_of(data, "completion")


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
