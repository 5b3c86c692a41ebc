"""Stage plot_attention: what the heads of the pretrained model look at, and what its embeddings became, beside its
shape with random weights, where training from scratch begins, and beside OpenAI's where its weights are there."""

from collections.abc import Iterator

import torch

from gpt2.common.files import read_json, write_csv, write_json, write_jsonl, write_text
from gpt2.interpret import embeddings, heads
from gpt2.interpret.embeddings import Embeddings
from gpt2.interpret.heads import Explored
from gpt2.interpret.scores import rollout
from gpt2.model.checkpoint import load_with_tokenizer, read_config
from gpt2.model.gpt import GPT, initial_model
from gpt2.report import attention_figures, embedding_figures
from gpt2.report.theme import MODELS
from gpt2.tokenizer.tokenizer import Tokenizer
from stages.stage import Stage, run

OUT = "reports/attention"


def models(stage: Stage) -> Iterator[tuple[str, str, GPT, Tokenizer]]:
    """Name, title, model and tokenizer of each that is looked at, one after the other."""
    checkpoint, openai = stage.dep("data/models/pretrain"), stage.dep("data/models/gpt2")
    yield "trained", MODELS["trained"], *load_with_tokenizer(checkpoint, "cpu")
    # Pretraining from scratch keeps no copy of the model it began with; the same seed makes the same one again.
    config, _ = read_config(checkpoint)
    yield "initial", MODELS["initial"], initial_model(config, stage.param("seed")).eval(), Tokenizer.load(checkpoint)
    if (openai / "config.json").exists():
        origin = read_json(openai / "manifest.json").get("repo", "data/local/gpt2")
        yield "openai", f"{MODELS['openai']} ({origin})", *load_with_tokenizer(openai, "cpu")


def main(stage: Stage) -> None:
    prompts, seed = stage.param("attention").prompts, stage.param("seed")
    explored, embedded, neighbours, norms = {}, {}, [], []
    for name, title, model, tokenizer in models(stage):
        explored[name] = heads.explore(name, title, model, tokenizer, prompts, seed, "attention.prompts")
        embedded[name] = embeddings.embeddings(model)
        if name != "initial":  # chance alone says which tokens those are
            ids = embeddings.words(tokenizer, (id for reading in explored[name].readings for id in reading.ids))
            neighbours += embeddings.neighbour_rows(name, model, tokenizer, ids)
            norms += embeddings.norm_rows(name, embedded[name].norms, tokenizer)

    write_json(stage.out(f"{OUT}/metrics.json"), metrics(explored, embedded))
    write_json(stage.out(f"{OUT}/attention.json"), heads.viewer_data(explored.values()))
    write_csv(stage.out(f"{OUT}/heads.csv"), [row for each in explored.values() for row in heads.head_rows(each)])
    mapping = (row for each in explored.values() for row in heads.mapping_rows(each))
    write_jsonl(stage.out(f"{OUT}/mapping.jsonl"), mapping)
    write_jsonl(stage.out(f"{OUT}/neighbours.jsonl"), neighbours)
    write_jsonl(stage.out(f"{OUT}/norms.jsonl"), norms)
    for name, svg in draw(explored, embedded).items():
        write_text(stage.out(f"{OUT}/figures/{name}.svg"), svg)


def metrics(explored: dict[str, Explored], embedded: dict[str, Embeddings]) -> dict:
    """Of the trained model, beside random weights."""
    return {
        **heads.metrics(explored["trained"], explored["initial"]),
        **embeddings.metrics(embedded["trained"], embedded["initial"]),
    }


def draw(explored: dict[str, Explored], embedded: dict[str, Embeddings]) -> dict[str, str]:
    """The figures by name: of each model, and of the trained model alone."""
    trained = explored["trained"]
    first = trained.readings[0]
    wpe = {name: each.wpe for name, each in embedded.items()}
    smoothness = {name: embeddings.smoothness(w, axis=0) for name, w in wpe.items()}
    channels = embeddings.widest(wpe["trained"], 3)
    drawn = {
        "strongest": attention_figures.strongest(first.weights, first.tokens, heads.strongest_heads(trained)),
        "mapping": attention_figures.mapping(first.weights, first.tokens),
        "entropy": attention_figures.entropy({name: each.scores["entropy"] for name, each in explored.items()}),
        "wpe_columns": embedding_figures.position_columns(wpe["initial"], wpe["trained"], channels),
        "wpe_cosines": embedding_figures.position_cosines({name: embeddings.cosines(w) for name, w in wpe.items()}),
        "wpe_smoothness": embedding_figures.position_smoothness(smoothness),
        "wte_norms": embedding_figures.token_norms({name: each.norms for name, each in embedded.items()}),
    }
    for name, each in explored.items():
        for number, reading in enumerate(each.readings if each is trained else each.readings[:1]):
            drawn[f"grid_{name}_{number}"] = attention_figures.grid(reading.weights)
        rolled = rollout(torch.from_numpy(each.readings[0].weights)).numpy()
        drawn[f"rollout_{name}"] = attention_figures.rollout(rolled, each.readings[0].tokens)
        drawn[f"scores_{name}"] = attention_figures.scores(each.scores)
    return drawn


if __name__ == "__main__":
    run("plot_attention", main)
