"""Stage finetune_instruction: teaches the model to answer instructions."""

from gpt2.adapters import lora
from gpt2.common.files import read_jsonl, write_json
from gpt2.instruction.finetune import finetune
from gpt2.model import checkpoint
from gpt2.runtime.world import world
from stages.live import curves
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("instruction")
    base, data = stage.dep(f"data/models/{params.init}"), stage.dep("data/raw/instructions")
    model, tokenizer = checkpoint.load_with_tokenizer(base)
    with world() as here:
        done = finetune(
            model,
            tokenizer,
            {split: read_jsonl(data / f"{split}.jsonl") for split in ("train", "val")},
            params,
            source=data,
            machine=stage.machine,
            world=here,
            seed=stage.param("seed"),
            scratch=stage.scratch,
            code=stage.code,
            log=curves(stage, "instruction"),
        )
    out = stage.out("data/models/instruction")
    if params.method == "lora":
        lora.save_adapter(done.adapters, params.lora, out / "adapter", base.as_posix())
    checkpoint.save(done.model, out)
    tokenizer.save(out, model.config.block_size)
    write_json(stage.out("reports/instruction/training.json"), done.metrics)


if __name__ == "__main__":
    run("finetune_instruction", main)
