"""Stage generate_samples: texts that each snapshot of pretraining and the final model write for the same prompts."""

from gpt2.common.files import write_jsonl
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.model.snapshots import read_snapshots
from gpt2.pretraining.samples import write_samples
from gpt2.runtime.device import choose_device
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params, seed, rows = stage.param("samples"), stage.param("seed"), []
    device = choose_device(stage.machine.device)
    for snapshot in read_snapshots(stage.dep("data/models/snapshots"), stage.dep("data/models/pretrain")):
        model, tokenizer = load_with_tokenizer(snapshot.directory, device)
        texts = write_samples(model, tokenizer, params.prompts, params.max_new_tokens, seed)
        rows += [
            {"step": snapshot.step, "tokens": snapshot.tokens, "prompt": prompt, "text": text}
            for prompt, text in zip(params.prompts, texts, strict=True)
        ]
    write_jsonl(stage.out("reports/pretrain/samples.jsonl"), rows)


if __name__ == "__main__":
    run("generate_samples", main)
