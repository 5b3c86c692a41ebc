"""Stage plot_attention: attention and embeddings of the pretrained model, compared with random weights and OpenAI's.

The random weights are those that training from scratch starts from. OpenAI's weights are optional.
"""

from collections.abc import Iterator

import torch

from gpt2.common.files import read_json, write_csv, write_json, write_jsonl, write_text
from gpt2.interpret import embeddings, heads
from gpt2.interpret.embeddings import Embeddings
from gpt2.interpret.heads import ModelAttention
from gpt2.interpret.scores import rollout
from gpt2.model.checkpoint import load_with_tokenizer, read_config
from gpt2.model.gpt import GPT, initial_model
from gpt2.report import attention_figures, embedding_figures
from gpt2.report.theme import MODELS
from gpt2.tokenizer.tokenizer import Tokenizer
from stages.stage import Stage, run

OUT = "reports/attention"


def models(stage: Stage) -> Iterator[tuple[str, str, GPT, Tokenizer]]:
    """Name, title, model and tokenizer of each model, loaded one at a time."""
    checkpoint, openai = stage.dep("data/models/pretrain"), stage.dep("data/models/gpt2")
    yield "trained", MODELS["trained"], *load_with_tokenizer(checkpoint, "cpu")
    # Pretraining keeps no copy of its initial model, but the same seed makes the same model again.
    config, _ = read_config(checkpoint)
    yield "initial", MODELS["initial"], initial_model(config, stage.param("seed")).eval(), Tokenizer.load(checkpoint)
    if (openai / "config.json").exists():
        origin = read_json(openai / "manifest.json").get("repo", "data/local/gpt2")
        yield "openai", f"{MODELS['openai']} ({origin})", *load_with_tokenizer(openai, "cpu")


def main(stage: Stage) -> None:
    prompts, seed = stage.param("attention").prompts, stage.param("seed")
    attention, embedded, neighbours, norms = {}, {}, [], []
    for name, title, model, tokenizer in models(stage):
        attention[name] = heads.read_attention(name, title, model, tokenizer, prompts, seed, "attention.prompts")
        embedded[name] = embeddings.embeddings(model)
        if name != "initial":  # whose neighbors and norms are random
            ids = embeddings.words(tokenizer, (id for prompt in attention[name].prompts for id in prompt.ids))
            neighbours += embeddings.neighbor_rows(name, model, tokenizer, ids)
            norms += embeddings.norm_rows(name, embedded[name].norms, tokenizer)

    scores = heads.metrics(attention["trained"], attention["initial"])
    norms_and_positions = embeddings.metrics(embedded["trained"], embedded["initial"])
    write_json(stage.out(f"{OUT}/metrics.json"), scores | norms_and_positions)
    write_json(stage.out(f"{OUT}/attention.json"), heads.viewer_data(attention.values()))
    write_csv(stage.out(f"{OUT}/heads.csv"), [row for model in attention.values() for row in heads.head_rows(model)])
    write_jsonl(stage.out(f"{OUT}/mapping.jsonl"), heads.mapping_rows(attention["trained"]))
    write_jsonl(stage.out(f"{OUT}/neighbours.jsonl"), neighbours)
    write_jsonl(stage.out(f"{OUT}/norms.jsonl"), norms)
    for name, svg in draw(attention, embedded).items():
        write_text(stage.out(f"{OUT}/figures/{name}.svg"), svg)


def draw(attention: dict[str, ModelAttention], embedded: dict[str, Embeddings]) -> dict[str, str]:
    """SVG figures by name."""
    trained = attention["trained"]
    first = trained.prompts[0]
    wpe = {name: model.wpe for name, model in embedded.items()}
    smoothness = {name: embeddings.smoothness(w, axis=0) for name, w in wpe.items()}
    channels = embeddings.widest(wpe["trained"], 3)
    drawn = {
        "strongest": attention_figures.strongest(first.weights, first.tokens, heads.strongest_heads(trained)),
        "mapping": attention_figures.mapping(first.weights, first.tokens),
        "entropy": attention_figures.entropy({name: model.scores["entropy"] for name, model in attention.items()}),
        "wpe_columns": embedding_figures.position_columns(wpe["initial"], wpe["trained"], channels),
        "wpe_cosines": embedding_figures.position_cosines({name: embeddings.cosines(w) for name, w in wpe.items()}),
        "wpe_smoothness": embedding_figures.position_smoothness(smoothness),
        "wte_norms": embedding_figures.token_norms({name: model.norms for name, model in embedded.items()}),
    }
    for name, model in attention.items():
        for number, prompt in enumerate(model.prompts if model is trained else model.prompts[:1]):
            drawn[f"grid_{name}_{number}"] = attention_figures.grid(prompt.weights)
        rolled = rollout(torch.from_numpy(model.prompts[0].weights)).numpy()
        drawn[f"rollout_{name}"] = attention_figures.rollout(rolled, model.prompts[0].tokens)
        drawn[f"scores_{name}"] = attention_figures.scores(model.scores)
    return drawn


if __name__ == "__main__":
    run("plot_attention", main)
