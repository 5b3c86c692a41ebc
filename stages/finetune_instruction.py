"""Stage finetune_instruction: teaches the model to answer instructions."""

from gpt2.adapters import lora
from gpt2.common.files import read_jsonl, write_csv, write_json, write_jsonl
from gpt2.instruction.finetune import finetune
from gpt2.model import checkpoint
from gpt2.runtime.world import world
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("instruction")
    base = stage.dep(f"data/models/{params.init}")
    data = stage.dep("data/raw/instructions")
    model, tokenizer = checkpoint.load_with_tokenizer(base)
    with world() as here:
        done = finetune(
            model,
            tokenizer,
            {split: read_jsonl(data / f"{split}.jsonl") for split in ("train", "val", "test")},
            params,
            source=data,
            seed=stage.param("seed"),
            scratch=stage.scratch,
            world=here,
        )
    out = stage.out("data/models/instruction")
    if params.method == "lora":
        lora.save_adapter(done.adapters, params.lora, out / "adapter", base.as_posix())
    checkpoint.save(done.model, out)
    tokenizer.save(out, model.config.block_size)
    reports = stage.out("reports/instruction/metrics.json").parent
    write_json(reports / "metrics.json", done.metrics)
    write_csv(reports / "train.csv", done.history.train)
    write_csv(reports / "val.csv", done.history.val)
    write_jsonl(reports / "responses.jsonl", done.responses)


if __name__ == "__main__":
    run("finetune_instruction", main)
