"""Stage plot_attention: what the pretrained model's heads look at, and what became of its position embedding."""

from gpt2 import attention, embeddings, weights
from gpt2.files import write_csv, write_json, write_text
from gpt2.report import attention_figures as figures
from gpt2.tokenizer import Tokenizer
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    checkpoint, seed = stage.dep("data/models/pretrain"), stage.param("seed")
    model, tokenizer = weights.load(checkpoint).eval(), Tokenizer.load(checkpoint)

    readings = attention.read(model, tokenizer, stage.param("attention").prompts)
    scores, uniform = attention.score_heads(model, readings, seed)
    heads = {name: attention.strongest(score) for name, score in scores.items() if name != "entropy"}
    # Pretraining keeps no copy of the model it began with; the same seed makes the same one again.
    initial, trained = embeddings.initial_positions(model.config, seed), embeddings.positions(model)

    metrics = {**attention.metrics(scores, uniform), **embeddings.metrics(initial, trained)}
    write_json(stage.out("reports/attention/metrics.json"), metrics)
    write_csv(stage.out("reports/attention/heads.csv"), attention.rows(scores))
    write_json(stage.out("reports/attention/attention.json"), attention.viewer_data(readings))

    first = readings[0]
    drawn = {
        "strongest": figures.strongest(first.weights.numpy(), first.tokens, heads),
        "scores": figures.scores(scores),
        "entropy": figures.entropy(scores["entropy"]),
        "wpe_columns": figures.position_columns(initial, trained, embeddings.widest(trained, 3)),
        "wpe_smoothness": figures.position_smoothness(
            embeddings.smoothness(initial, axis=0), embeddings.smoothness(trained, axis=0)
        ),
        **{f"grid_{number}": figures.grid(reading.weights.numpy()) for number, reading in enumerate(readings)},
    }
    for name, svg in drawn.items():
        write_text(stage.out(f"reports/attention/figures/{name}.svg"), svg)


if __name__ == "__main__":
    run("plot_attention", main)
