"""One HTML file for a reviewer: offline, self-contained, with every text of a model or a data set escaped.

`data` holds what the other stages wrote, by section and file name:

    sets                    manifests of the four data sets, by name
    tokens, gpt2            manifests                      labels            names of the classes
    pretrain                metrics, throughput, train, val, samples
    classification          metrics, train, val, predictions, classes, confusion
    instruction             metrics, train, val, responses
    parity                  metrics, cases, pipeline       hellaswag         metrics, predictions, snapshots
    attention               metrics, heads, snapshots, mapping, neighbors, norms, attention (of the viewer), figures
                            (SVG by name)
    sample                  the params that the project ships

JSON stands as it was read; csv files and JSON lines are lists of rows, and csv values are text.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gpt2.report import figures
from gpt2.report.lineage import changes
from gpt2.report.text import printable, shortened
from gpt2.report.verdicts import (
    FAIL,
    HELLASWAG,
    HELLASWAG_REFERENCES,
    NOT_RUN,
    OPENAI_TOKENIZER,
    PASS,
    is_whole_hellaswag,
    loss_reference,
    verdicts,
)

TEMPLATES = Path(__file__).parent / "templates"
VIEWER = ("state", "heads", "tokens", "map", "controls")  # parts of the viewer's script, in this order
MAX_PROMPTS = 4  # that samples continue
MAX_SAMPLES = 9  # per prompt
MAX_MISTAKES = 6  # of the classifier
MAX_RESPONSES = 12  # to instructions
MAX_TEXT = 300  # characters of a classified text


def render(data: dict, lineage: list[dict], environment: dict[str, str]) -> str:
    """Returns the page. Equal arguments give equal bytes."""
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
        is_whole_hellaswag=is_whole_hellaswag(data),
        hellaswag_references=HELLASWAG_REFERENCES,
        loss_reference=loss_reference(data),
        openai_tokenizer=OPENAI_TOKENIZER,
        endings=_endings(data["hellaswag"]["predictions"]),
        most_attended=_most_attended(data["attention"]),
        mistakes=_mistakes(data["classification"]["predictions"]),
        responses=data["instruction"]["responses"][:MAX_RESPONSES],
        samples=_samples(data["pretrain"]["samples"]),
    )


def explorer(title: str, attention: dict) -> str:
    """Returns a page with only the attention viewer; `attention` is what `viewer_data` of gpt2/interpret/heads.py
    returns."""
    return _page("explorer.html", title, [_viewer()], attention={"attention": attention})


def headline(data: dict) -> dict[str, dict]:
    """Returns what `reports/metrics.json` holds: how many claims hold, the status of each, and the metrics of every
    section. No timings."""
    sections = ("pretrain", "classification", "instruction", "parity", "hellaswag", "attention")
    claims = {verdict.name: verdict.status for verdict in verdicts(data)}
    counts = Counter(claims.values())
    return {
        "verdicts": {"passed": counts[PASS], "failed": counts[FAIL], "not_run": counts[NOT_RUN]},
        "claims": claims,
        **{section: dict(_numbers(data[section]["metrics"])) for section in sections},
    }


def _numbers(metrics: dict) -> Iterator[tuple[str, float]]:
    """The metrics that are numbers. Of a head's score, which comes with its layer and head, only the score."""
    for name, metric in metrics.items():
        value = metric["value"] if isinstance(metric, dict) else metric
        if isinstance(value, (int, float)):
            yield name, value


def _page(template: str, title: str, scripts: list[str], **values: object) -> str:
    """Fills a template. The content security policy allows the style sheet and the scripts by their hashes."""
    style = (TEMPLATES / "style.css").read_text("utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {' '.join(map(_hash, scripts))}; "
        "base-uri 'none'; form-action 'none'"
    )
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.policies["json.dumps_kwargs"] = {}  # keeps the order of keys
    jinja.filters["base64"] = lambda text: base64.b64encode(text.encode()).decode()
    return jinja.get_template(template).render(title=title, style=style, scripts=scripts, policy=policy, **values)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script(name: str) -> str:
    return (TEMPLATES / f"{name}.js").read_text("utf-8")


def _viewer() -> str:
    """The parts of the attention viewer as one script; the block keeps its names out of the global scope."""
    return "\n".join(['"use strict";', "{", *(_script(f"viewer/{part}") for part in VIEWER), "}"])


def _figures(data: dict) -> dict[str, str]:
    pretrain, classification, instruction = data["pretrain"], data["classification"], data["instruction"]
    metrics, labels = pretrain["metrics"], data["labels"]
    completions, heads = data["hellaswag"]["snapshots"], data["attention"]["snapshots"]
    pairs = Counter((row["actual"], row["predicted"]) for row in classification["confusion"])
    counts = np.array([[pairs[actual, predicted] for predicted in labels] for actual in labels])  # (K, K)
    drawn = {
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
        "confusion": figures.confusion(counts, labels),
        "instruction": figures.finetuning_curve(instruction["train"], instruction["val"], "response token"),
        **data["attention"]["figures"],
    }
    if pretrain["train"]:
        drawn["schedule"] = figures.schedule(pretrain["train"])
    if len(completions) > 1:
        whole = is_whole_hellaswag(data) and int(completions[0]["n"]) == HELLASWAG["n"]
        published = HELLASWAG_REFERENCES["completion"]["acc_norm"] if whole else None
        drawn["completion_curve"] = figures.completion_curve(completions, published)
    if heads[0]["step"] != heads[-1]["step"]:
        kinds = {name: best for name, best in data["attention"]["metrics"].items() if isinstance(best, dict)}
        uniform = {"entropy": 1.0} | {name: best["uniform"] for name, best in kinds.items()}
        drawn["heads_over_training"] = figures.heads_over_training(heads, pretrain["val"], uniform)
    return drawn


def _endings(predictions: list[dict]) -> list[dict]:
    """How often each of the four endings is the true one, and how often each rule picks it."""
    rules = ("label", "prediction_norm", "prediction")
    counts = {rule: Counter(row[rule] for row in predictions) for rule in rules}
    return [{"ending": ending, **{rule: counts[rule][ending] for rule in rules}} for ending in range(4)]


def _most_attended(attention: dict) -> dict[str, list[dict]]:
    """For the strongest trained head of each kind, one row per token of the first prompt with what it attends to."""
    rows = [row for row in attention["mapping"] if (row["model"], row["prompt"]) == ("trained", 0)]
    heads = {kind: best for kind, best in attention["metrics"].items() if isinstance(best, dict)}
    return {
        kind: [row for row in rows if (row["layer"], row["head"]) == (best["layer"], best["head"])]
        for kind, best in heads.items()
    }


def _mistakes(predictions: list[dict]) -> list[dict]:
    """The wrong predictions with the highest probability, texts shortened."""
    wrong = [row for row in predictions if row["label"] != row["prediction"]]
    most_confident = sorted(wrong, key=lambda row: -row["probability"])[:MAX_MISTAKES]
    return [{**row, "text": shortened(row["text"], MAX_TEXT)} for row in most_confident]


def _samples(rows: list[dict]) -> list[list[dict]]:
    """The texts that continue each prompt, for the first prompts and for steps from the first to the last."""
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))[:MAX_PROMPTS]
    return [_spread([row for row in rows if row["prompt"] == prompt], MAX_SAMPLES) for prompt in prompts]


def _spread(rows: list[dict], count: int) -> list[dict]:
    """At most `count` rows, evenly spaced, including the first and the last."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
