"""Stage evaluate_instruction: what the model answers before and after instruction tuning."""

from gpt2.common.files import read_json, read_jsonl, write_json, write_jsonl
from gpt2.instruction.evaluate import evaluate
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.runtime.device import micro_batch_by_shape
from gpt2.runtime.world import world
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    data = stage.dep("data/raw/instructions") / "test.jsonl"
    with world(stage.machine.device) as here:
        base, _ = load_with_tokenizer(stage.dep(f"data/models/{stage.param('instruction.init')}"), here.device)
        tuned, tokenizer = load_with_tokenizer(stage.dep("data/models/instruction"), here.device)
        done = evaluate(
            base,
            tuned,
            tokenizer,
            read_jsonl(data),
            stage.param("responses"),
            source=str(data),
            batch_size=micro_batch_by_shape(stage.machine.micro_batch_size, tuned.config.block_size, here.device),
            seed=stage.param("seed"),
            world=here,
        )
    training = read_json(stage.dep("reports/instruction/training.json"))
    write_json(stage.out("reports/instruction/metrics.json"), done.metrics | training)
    write_jsonl(stage.out("reports/instruction/responses.jsonl"), done.responses)


if __name__ == "__main__":
    run("evaluate_instruction", main)
