"""One HTML file for a reviewer: offline, self-contained, every text of a model or a data set shown as text.

`data` is what the other stages wrote, by section and file name:

    sets                    manifests of the four data sets, by name
    tokens, gpt2            manifests                      labels            names of the classes
    pretrain                metrics, throughput, train, val, samples
    classification          metrics, train, val, predictions, classes, confusion
    instruction             metrics, train, val, responses
    parity                  metrics, cases, pipeline       hellaswag         metrics, predictions
    attention               metrics, heads, mapping, neighbours, norms, attention (of the viewer), figures (SVG by name)
    sample                  the params that the project ships

JSON as it was read; csv and JSON lines as lists of rows, the values of csv as text.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gpt2.report import figures
from gpt2.report.card import data_table
from gpt2.report.lineage import changes
from gpt2.report.text import printable, shortened
from gpt2.report.verdicts import (
    FAIL,
    HELLASWAG_REFERENCES,
    NOT_RUN,
    OPENAI_TOKENIZER,
    PASS,
    is_whole_hellaswag,
    loss_reference,
    verdicts,
)

TEMPLATES = Path(__file__).parent / "templates"
VIEWER = ("state", "heads", "tokens", "map", "controls")  # parts of the script, in this order
SAMPLES = 8  # shown of the texts written during training
MISTAKES = 6  # shown of the classifier's
RESPONSES = 12  # shown of the answers to instructions
LONGEST_TEXT = 300  # characters shown of a classified text


def render(data: dict, lineage: list[dict], environment: dict[str, str]) -> str:
    """The page. A function of its arguments alone: equal arguments give equal bytes."""
    return _page(
        "page.html",
        "GPT-2 laboratory: report",
        [_script("tables"), _viewer()],
        **data,
        lineage=lineage,
        changes=changes(lineage, data["sample"]),
        environment=environment,
        verdicts=verdicts(data),
        figures=_figures(data),
        parity_cases=_by_model(data["parity"]["cases"]),
        protocols=_protocols(data["hellaswag"]["metrics"]),
        is_whole_hellaswag=is_whole_hellaswag(data),
        loss_reference=loss_reference(data),
        openai_tokenizer=OPENAI_TOKENIZER,
        data_table=data_table(data),
        endings=_endings(data["hellaswag"]["predictions"]),
        most_attended=_most_attended(data["attention"]),
        mistakes=_mistakes(data["classification"]["predictions"]),
        responses=data["instruction"]["responses"][:RESPONSES],
        samples=_spread(data["pretrain"]["samples"], SAMPLES),
    )


def explorer(title: str, attention: dict) -> str:
    """A page with the attention viewer alone; `attention` is the viewer's data, of gpt2/interpret/heads.py."""
    return _page("explorer.html", title, [_viewer()], attention={"attention": attention})


def headline(data: dict) -> dict[str, dict]:
    """The metrics of every section, each claim's status by its name, and how many claims hold: what
    `reports/metrics.json` holds. No timings."""
    sections = ("pretrain", "classification", "instruction", "parity", "hellaswag", "attention")
    claims = {verdict.name: verdict.status for verdict in verdicts(data)}
    held = Counter(claims.values())
    return {
        "verdicts": {"passed": held[PASS], "failed": held[FAIL], "not_run": held[NOT_RUN]},
        "claims": claims,
        **{section: dict(_numbers(data[section]["metrics"])) for section in sections},
    }


def _numbers(metrics: dict) -> Iterator[tuple[str, float]]:
    """A head's score stands with the layer and head that reached it; of those only the score is kept."""
    for name, metric in metrics.items():
        value = metric["value"] if isinstance(metric, dict) else metric
        if isinstance(value, (int, float)):
            yield name, value


def _page(template: str, title: str, scripts: Sequence[str], **values: object) -> str:
    """A template filled, with the style sheet and the scripts in it."""
    style = (TEMPLATES / "style.css").read_text("utf-8")
    policy = _policy(style, scripts)
    return _jinja().get_template(template).render(title=title, style=style, scripts=scripts, policy=policy, **values)


def _script(name: str) -> str:
    return (TEMPLATES / f"{name}.js").read_text("utf-8")


def _viewer() -> str:
    """The parts of the attention viewer as one script, with names of its own."""
    return "\n".join(['"use strict";', "{", *(_script(f"viewer/{part}") for part in VIEWER), "}"])


def _jinja() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # keys in their order, not the alphabet's
    environment.filters["svg_uri"] = lambda svg: "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return environment


def _policy(style: str, scripts: Sequence[str]) -> str:
    """A content security policy that lets in this style sheet, these scripts and inline images, and nothing else."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; style-src {source(style)}; script-src {' '.join(map(source, scripts))}; "
        "base-uri 'none'; form-action 'none'"
    )


def _figures(data: dict) -> dict[str, str]:
    pretrain, classification, instruction = data["pretrain"], data["classification"], data["instruction"]
    metrics, labels = pretrain["metrics"], data["labels"]
    some = {}
    if pretrain["train"]:
        some["schedule"] = figures.schedule(pretrain["train"])
    if "acc_norm" in pretrain["val"][0]:
        published = HELLASWAG_REFERENCES["completion"]["acc_norm"] if is_whole_hellaswag(data) else None
        some["completion_curve"] = figures.completion_curve(pretrain["val"], published)
    return {
        **some,
        "lengths": figures.lengths(data["tokens"]["splits"]),
        "loss": figures.loss_curve(
            pretrain["train"],
            pretrain["val"],
            metrics["vocab_size"],
            metrics["unigram_entropy"],
            loss_reference(data),
        ),
        "completion": figures.completion(data["hellaswag"]["metrics"]),
        "classification": figures.finetuning_curve(classification["train"], classification["val"], "text"),
        "confusion": figures.confusion(_counts(classification["confusion"], labels), labels),
        "instruction": figures.finetuning_curve(instruction["train"], instruction["val"], "response token"),
        **data["attention"]["figures"],
    }


def _counts(rows: list[dict], labels: list[str]) -> np.ndarray:
    """The confusion matrix (K, K): how often each actual label was predicted to be each."""
    pairs = Counter((row["actual"], row["predicted"]) for row in rows)
    return np.array([[pairs[actual, predicted] for predicted in labels] for actual in labels])


def _by_model(cases: list[dict]) -> dict[str, list[dict]]:
    """The cases of parity under the name of their model, in the order of the table."""
    grouped: dict[str, list[dict]] = {}
    for case in cases:
        grouped.setdefault(case["case"], []).append(case)
    return grouped


def _protocols(metrics: dict) -> list[dict]:
    """The scores under each protocol, with standard errors, beside those of OpenAI's 124M."""
    rows = []
    for name, reference in HELLASWAG_REFERENCES.items():
        own = {rule: metrics[reference["prefix"] + rule] for rule in ("acc", "acc_norm")}
        errors = {rule: metrics[f"{reference['prefix']}{rule}_stderr"] for rule in own}
        shares = {rule: f"{own[rule]:.3f} ± {errors[rule]:.3f}" for rule in own}
        truncated = metrics[f"{reference['prefix']}truncated"]
        rows.append({"name": name, **shares, "truncated": truncated, "reference": reference})
    return rows


def _endings(predictions: list[dict]) -> list[dict]:
    """How often each of the endings is the true one, and how often each rule picks it: a scorer that favours a place
    would show here."""
    rules = ("label", "prediction_norm", "prediction")
    places = {rule: Counter(row[rule] for row in predictions) for rule in rules}
    return [{"ending": ending, **{rule: places[rule][ending] for rule in rules}} for ending in range(4)]


def _most_attended(attention: dict) -> dict[str, list[dict]]:
    """Whom each token of the first prompt attends to, for the strongest trained head of each kind: a row a token."""
    rows = [row for row in attention["mapping"] if (row["model"], row["prompt"]) == ("trained", 0)]
    heads = {kind: best for kind, best in attention["metrics"].items() if isinstance(best, dict)}
    return {
        kind: [row for row in rows if (row["layer"], row["head"]) == (best["layer"], best["head"])]
        for kind, best in heads.items()
    }


def _mistakes(predictions: list[dict]) -> list[dict]:
    """The wrong predictions of highest probability, texts shortened."""
    wrong = [row for row in predictions if row["label"] != row["prediction"]]
    surest = sorted(wrong, key=lambda row: -row["probability"])[:MISTAKES]
    return [{**row, "text": shortened(row["text"], LONGEST_TEXT)} for row in surest]


def _spread(rows: list[dict], count: int) -> list[dict]:
    """At most `count` rows, evenly spaced, the first and the last among them."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
