"""Fine-tuning GPT-2 to follow instructions: Alpaca's prompt, loss on the response only, full or LoRA."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt2.adapters import lora
from gpt2.config.params import InstructionParams, MachineParams
from gpt2.instruction.alpaca import prompt
from gpt2.instruction.responses import ResponseModel, Responses, losses
from gpt2.model.gpt import GPT
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.training.card import Card, Metric, shape
from gpt2.training.history import History
from gpt2.training.optim import fine_tuning
from gpt2.training.trainer import Trainer
from gpt2.training.work import trainable_parameters

CODE = """\
from transformers import pipeline

generator = pipeline("text-generation", model=".")  # the folder of this file
turns = [{"role": "user", "content": "Name three colors."}]
print(generator(turns)[0]["generated_text"][-1]["content"])"""
ADVICE = """\
The chat template turns this conversation into Alpaca's prompt:

```
{prompt}
```

`<|endoftext|>` ends an answer. The conversation must fit in the context of {context:,} tokens. By default each token
of the answer is the likeliest one."""


@dataclass
class Instructed:
    """A finished fine-tuning."""

    model: GPT  # adapters merged
    adapters: dict[str, lora.LoRALinear]  # keys are names of layers; empty unless the method is LoRA
    history: History
    metrics: dict


def finetune(
    model: GPT,
    tokenizer: Tokenizer,
    rows: dict[str, list[dict]],
    params: InstructionParams,
    *,
    source: Path,
    machine: MachineParams,
    world: World,
    seed: int,
    scratch: Path,
    code: dict[str, str],
    log: Callable[[str, dict], None],
) -> Instructed:
    """Trains `model`, or adapters in it, on `rows["train"]`.

    The model ends with the weights of the lowest loss of `rows["val"]`. `source`: the folder of the rows, for error
    messages. Raises InputError if no example of a split fits the context, or if training diverges.
    """
    train, val = (
        Responses(rows[split], tokenizer, model.config.block_size, f"{source}/{split}.jsonl", answers)
        for split, answers in (("train", params.answers), ("val", "last"))
    )
    torch.manual_seed(seed)
    if params.method == "lora":
        lora.add_lora(model, params.lora)
    sizes = trainable_parameters(model)
    history = Trainer(
        ResponseModel(model),
        train,
        fine_tuning(params),
        machine=machine,
        world=world,
        seed=seed,
        scratch=scratch,
        code=code,
        evaluate=lambda model, batch_size: losses(model, val, batch_size, world),
        log=log,
        keep_best=True,
        patience=params.patience,
    ).fit()
    first, best = history.val[0], history.best
    metrics = {
        "best_step": best["step"],
        "val_loss_before": first["loss"],
        "val_loss": best["loss"],
        "val_bits_per_byte_before": first["bits_per_byte"],
        "val_bits_per_byte": best["bits_per_byte"],
        "skipped_train": train.skipped,
        "skipped_val": val.skipped,
        **sizes,
    }
    return Instructed(model, lora.merge(model), history, metrics)


def card(done: Instructed, params: InstructionParams, made_from: list[dict]) -> Card:
    """The model card."""
    config, metrics = done.model.config, done.metrics
    trained = f"{metrics['trainable_parameters']:,} parameters"
    if done.adapters:
        trained += " of LoRA adapters (merged into these weights, and stored separately in `adapter`)"
    return Card(
        title="GPT-2, tuned on instructions",
        about=f"{shape(done.model, config)} Instruction tuning trained {trained} for {done.history.step:,} steps of "
        f"{params.batch_size} examples. The weights are those of step {metrics['best_step']:,}, which had the lowest "
        "validation loss.",
        task="text-generation",
        code=CODE,
        advice=ADVICE.format(prompt=prompt("Name three colors."), context=config.block_size),
        made_from=made_from,
        metrics=[
            Metric("loss", "validation loss of the responses, nats per token", metrics["val_loss"]),
            Metric("perplexity", "perplexity of the responses per token", math.exp(metrics["val_loss"])),
            Metric("bits_per_byte", "bits per byte of the responses", metrics["val_bits_per_byte"]),
        ],
    )
