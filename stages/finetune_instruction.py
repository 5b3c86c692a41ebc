"""Stage finetune_instruction: teaches the model to answer instructions, in the processes that `machine.launcher`
starts."""

from torch.distributed.elastic.multiprocessing import errors

from gpt2.adapters import lora
from gpt2.common.files import read_json, read_jsonl, write_json
from gpt2.instruction.chat_template import CHAT_TEMPLATE, GENERATION
from gpt2.instruction.finetune import Instructed, card, finetune
from gpt2.model.checkpoint import load_with_tokenizer, save_with_tokenizer
from gpt2.runtime.world import world
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.training.card import lineage, record, write_card
from stages.live import curves
from stages.stage import Stage, run


@errors.record  # puts the traceback of a crash into torchrun's report
def main(stage: Stage) -> None:
    params = stage.param("instruction")
    base, data = stage.dep(f"data/models/{params.init}"), stage.dep("data/raw/instructions")
    model, tokenizer = load_with_tokenizer(base)
    with world(stage.machine.device) as here:
        stage.share(here.from_main)
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
            log=curves(stage, "instruction") if here.main else None,
        )
    if here.main:
        write(stage, done, tokenizer)


def write(stage: Stage, done: Instructed, tokenizer: Tokenizer) -> None:
    """Writes the outs, except for the curve, which is in its place already."""
    params, out = stage.param("instruction"), stage.out("data/models/instruction")
    base = stage.dep(f"data/models/{params.init}")
    if params.method == "lora":
        path = base / "manifest.json"  # a base from the hub has one
        origin = read_json(path) if path.exists() else {}
        name, revision = origin.get("repo", base.as_posix()), origin.get("commit")
        lora.save_adapter(done.adapters, params.lora, out / "adapter", name, revision)
        tokenizer.save(out / "adapter", done.model.config.block_size, chat_template=CHAT_TEMPLATE)
    save_with_tokenizer(done.model, tokenizer, out, GENERATION, CHAT_TEMPLATE)
    manifest = read_json(stage.dep("data/raw/instructions/manifest.json"))
    made_from = [*lineage(base), record("instruction tuning", manifest)]
    write_card(card(done, params, made_from), out)
    write_json(stage.out("reports/instruction/training.json"), done.metrics)


if __name__ == "__main__":
    run("finetune_instruction", main, launched=True)
