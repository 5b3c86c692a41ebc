"""Stage plot_attention: attention and embeddings of the pretrained model, compared with random weights and OpenAI's.

The random weights are those that training from scratch starts from. OpenAI's weights are optional. The heads of each
snapshot of pretraining are scored too, and the heads of the pretrained model are ablated one by one.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from gpt2.common.files import read_json, write_csv, write_json, write_jsonl, write_text
from gpt2.interpret import embeddings, heads
from gpt2.interpret.ablation import ablation
from gpt2.interpret.embeddings import Embeddings
from gpt2.interpret.heads import ModelAttention
from gpt2.interpret.scores import repeated_tokens, rollout
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.model.gpt import GPT, initial_model
from gpt2.model.snapshots import Snapshot, read_snapshots
from gpt2.report import attention_figures, embedding_figures
from gpt2.report.theme import MODELS
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.shards import TokenStream
from stages.stage import Stage, run

OUT = "reports/attention"


def models(stage: Stage) -> Iterator[tuple[str, str, GPT, Tokenizer, list[list[int]]]]:
    """Name, title, model, tokenizer and encoded prompts of each model, loaded one at a time."""
    pretrained, openai = stage.dep("data/models/pretrain"), stage.dep("data/models/gpt2")
    prompts, key = stage.param("attention").prompts, "attention.prompts"
    model, tokenizer = load_with_tokenizer(pretrained, "cpu")
    encoded = heads.encode_prompts(prompts, model, tokenizer, key)
    yield "trained", MODELS["trained"], model, tokenizer, encoded
    # The same seed makes the model again that training from scratch started from.
    model = initial_model(model.config, stage.param("seed")).eval()
    yield "initial", MODELS["initial"], model, tokenizer, encoded
    if (openai / "config.json").exists():
        origin = read_json(openai / "manifest.json").get("repo", "data/local/gpt2")
        model, tokenizer = load_with_tokenizer(openai, "cpu")
        encoded = heads.encode_prompts(prompts, model, tokenizer, key)
        yield "openai", f"{MODELS['openai']} ({origin})", model, tokenizer, encoded


def read_training(stage: Stage, trained: ModelAttention) -> list[tuple[Snapshot, ModelAttention]]:
    """Each snapshot with its attention to the same prompts, and last the final model, `trained`."""
    *snapshots, final = read_snapshots(stage.dep("data/models/snapshots"), stage.dep("data/models/pretrain"))
    prompts, seed = [prompt.ids for prompt in trained.prompts], stage.param("seed")
    training = []
    for snapshot in snapshots:
        model, tokenizer = load_with_tokenizer(snapshot.directory, "cpu")
        training.append((snapshot, heads.read_attention("", "", model, tokenizer, prompts, seed)))
    return [*training, (final, trained)]


def ablate(stage: Stage) -> dict[str, np.ndarray]:
    """Ablates the heads of the pretrained model, on repeated random tokens and on validation text.

    The text is as many windows of as many tokens, evenly spaced over the validation documents.
    """
    model, tokenizer = load_with_tokenizer(stage.dep("data/models/pretrain"), "cpu")
    repeated = repeated_tokens(tokenizer.eot, model.config.block_size, stage.param("seed"))  # (B, T)
    stream, (B, T) = TokenStream(stage.dep("data/tokens"), "val", tokenizer), repeated.shape
    starts = np.linspace(0, len(stream) - T, B).astype(int).tolist()
    text = np.stack([stream.read(start, T) for start in starts])  # (B, T)
    return ablation(model, torch.from_numpy(text.astype(np.int64)), repeated)


def main(stage: Stage) -> None:
    attention, embedded, neighbors, norms = {}, {}, [], []
    for name, title, model, tokenizer, prompts in models(stage):
        attention[name] = heads.read_attention(name, title, model, tokenizer, prompts, stage.param("seed"))
        embedded[name] = embeddings.embeddings(model)
        if name != "initial":  # whose neighbors and norms are random
            ids = embeddings.words(tokenizer, (id for prompt in prompts for id in prompt))
            neighbors += embeddings.neighbor_rows(name, model, tokenizer, ids)
            norms += embeddings.norm_rows(name, embedded[name].norms, tokenizer)

    training = read_training(stage, attention["trained"])
    attention["trained"] = replace(attention["trained"], ablation=ablate(stage))

    scores = heads.metrics(attention["trained"], attention["initial"])
    norms_and_positions = embeddings.metrics(embedded["trained"], embedded["initial"])
    write_json(stage.out(f"{OUT}/metrics.json"), scores | norms_and_positions)
    data = heads.viewer_data(attention.values())
    data["models"][0]["snapshots"] = heads.snapshot_data(training)
    write_json(stage.out(f"{OUT}/attention.json"), data)
    rows = [{"model": name, **row} for name, model in attention.items() for row in heads.head_rows(model)]
    write_csv(stage.out(f"{OUT}/heads.csv"), rows)
    rows = [
        {"step": snapshot.step, "tokens": snapshot.tokens, **row}
        for snapshot, model in training
        for row in heads.head_rows(model)
    ]
    write_csv(stage.out(f"{OUT}/snapshots.csv"), rows)
    write_jsonl(stage.out(f"{OUT}/mapping.jsonl"), heads.mapping_rows(attention["trained"]))
    write_jsonl(stage.out(f"{OUT}/neighbors.jsonl"), neighbors)
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
