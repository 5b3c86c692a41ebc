"""Model cards: the README.md of a model directory, which the Hugging Face hub shows.

Its head in YAML has the keys of https://huggingface.co/docs/hub/model-cards, and `made_from`: one record for each data
set that the model was trained on, and for the weights it began with. A fine-tuned model inherits those of its base.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from gpt2.common.files import read_json, write_text
from gpt2.config.params import GPTConfig

BASE = "initial weights"  # as a use of `made_from`; the others are data sets
VALIDATION = "validation only"  # the use of a data set on which the model was not trained
TEMPLATE = """\
# {title}

{about}

## Use

```python
{code}
```

{advice}

## Data

| used for | source | license |
| --- | --- | --- |
{data}

## Results

Measured on held-out texts of the last data set above:

| metric | value |
| --- | --- |
{results}

## Limits

This model is an experiment. It learned from the texts in the table above, and from them alone. Nothing was done to make
its output true, safe or unbiased.
"""


@dataclass(frozen=True)
class Metric:
    """A result."""

    type: str  # one of the hub's names where it has one
    name: str
    value: float


@dataclass(frozen=True)
class Card:
    """What a training stage knows of its model."""

    title: str
    about: str  # shape, initial weights, length of training
    task: Literal["text-generation", "text-classification"]
    code: str  # how to use it, in Python
    advice: str  # what the code does not say
    made_from: list[dict]  # records of `lineage` and `record`
    metrics: list[Metric]


def shape(model: nn.Module, config: GPTConfig) -> str:
    """The size of a model in a sentence."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"A GPT-2 with {parameters:,} parameters: {config.n_layer} layers, {config.n_head} heads, {config.n_embd} "
        f"channels, a context of {config.block_size:,} tokens and a vocabulary of {config.vocab_size:,}."
    )


def record(use: str, manifest: dict) -> dict:
    """The record of a data set with this manifest."""
    return {"use": use, **{key: manifest[key] for key in ("source", "repo", "license") if manifest.get(key)}}


def lineage(base: Path) -> list[dict]:
    """The records of what the model in the directory `base` was made from, to begin those of a model tuned from it.

    That is what its card says. A checkpoint that was not trained here has a manifest and no card.
    """
    from huggingface_hub import ModelCard  # takes half a second

    card = base / "README.md"
    if card.exists():
        return ModelCard.load(card).data["made_from"]
    return [record(BASE, read_json(base / "manifest.json"))]


def write_card(card: Card, directory: Path) -> None:
    """Writes the card as `directory / "README.md"`."""
    from huggingface_hub import ModelCardData

    sets = [made for made in card.made_from if made["use"] != BASE]
    trained_on = [made["repo"] for made in sets if "repo" in made and made["use"] != VALIDATION]
    text = TEMPLATE.format(
        title=card.title,
        about=card.about,
        code=card.code,
        advice=card.advice,
        data="\n".join(f"| {made['use']} | {_source(made)} | {_license(made)} |" for made in card.made_from),
        results="\n".join(f"| {metric.name} | {metric.value:.4f} |" for metric in card.metrics),
    )
    head = ModelCardData(
        language="en" if all(made["source"] == "docstrings" for made in card.made_from) else None,
        **_hub_license(card.made_from),
        library_name="transformers",
        pipeline_tag=card.task,
        tags=["gpt2"],
        base_model=next((made.get("repo") for made in card.made_from if made["use"] == BASE), None),
        datasets=_unique(trained_on) or None,
        metrics=[metric.type for metric in card.metrics if metric.type in ("accuracy", "perplexity")],
        model_name=f"gpt2-{directory.name}",
        eval_results=_eval_results(card, sets[-1]),
        made_from=card.made_from,
    )
    write_text(directory / "README.md", f"---\n{head.to_yaml()}\n---\n\n{text}")


def _eval_results(card: Card, data: dict) -> list:
    """The metrics as results on what was held out of a data set."""
    from huggingface_hub import EvalResult

    name = data.get("repo", data["source"])
    about = {"task_type": card.task, "dataset_type": name, "dataset_name": f"{name}, texts held out for validation"}
    return [
        EvalResult(metric_type=metric.type, metric_name=metric.name, metric_value=round(metric.value, 4), **about)
        for metric in card.metrics
    ]


def _hub_license(made_from: list[dict]) -> dict:
    """The key `license`, with `license_name` if it is not one of the hub's.

    Without one license of the hub's for everything, that is `other`; and `unknown` where no license is known at all.
    """
    licenses = _unique(_license(made) for made in made_from)
    named = all("repo" in made and isinstance(made.get("license"), str) for made in made_from)
    if licenses == ["unknown"] or (len(licenses) == 1 and named):
        return {"license": licenses[0]}
    return {"license": "other", "license_name": "licenses-of-the-data"}


def _license(made: dict) -> str:
    licenses = made.get("license", "unknown")
    return licenses if isinstance(licenses, str) else ", ".join(licenses)


def _source(made: dict) -> str:
    if "repo" in made:
        return f"[{made['repo']}](https://huggingface.co/{'' if made['use'] == BASE else 'datasets/'}{made['repo']})"
    return {"docstrings": "docstrings of installed Python packages", "local": "local files"}[made["source"]]


def _unique(names) -> list[str]:
    return list(dict.fromkeys(names))
