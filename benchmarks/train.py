"""Speed and memory of a training step beside transformers.

    python -m benchmarks.train                      # GPT-2 124M, 4 sequences of 512 tokens
    python -m benchmarks.train --model params       # the model and batch of params.yaml
    python -m benchmarks.train --dropout 0.1        # transformers' own default, for all of them
    python -m benchmarks.train --lora               # fine-tuning: all weights, adapters, peft's adapters

Each competitor trains alone in a process of its own, one after the other, on the same tokens from the same weights;
without dropout all must find the same first loss. A step is forward, backward, clipping and fused AdamW:

- ours: what the stage pretrain runs (gpt2.training.trainer.Trainer; bfloat16 and torch.compile where they can be had);
- ours, Muon: the same with Muon in place of AdamW (in benchmarks.gpu only);
- transformers, float32: GPT2LMHeadModel as it comes;
- transformers, bfloat16: the same under autocast;
- transformers, compiled: the same under autocast and torch.compile;
- ours, LoRA: as ours, with frozen weights and adapters of rank 8 at all four layers of a block;
- peft, LoRA, and the same compiled: the same adapters by peft, in transformers under autocast.

The ceiling is the fastest product of two square bfloat16 matrices, measured after each of them; the share of it counts
the operations that training all of the model needs (6 a parameter and token, and attention), not those that a
competitor spends; adapters need fewer, and have no share. Speed is that of the median step after the first two, memory
the peak of the process.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2.adapters.lora import add_lora
from gpt2.common.machine import cpu_count
from gpt2.config.params import GPTConfig, LoRAParams, MachineParams, OptimParams
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.model.openai import openai_config
from gpt2.pretraining.pretrain import flops_per_token
from gpt2.runtime.device import can_compile, choose_device, device_name, peak_memory
from gpt2.runtime.world import world
from gpt2.training.trainer import Trainer
from gpt2.training.work import trainable_parameters

LR, CLIP, WARMUP = 1e-4, 1.0, 2
LORA = LoRAParams(rank=8, alpha=16.0, targets=["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"])
DEVICE = choose_device()


class Sequences:
    """Sequences of tokens (N, T + 1); remembers when each batch was read, which is once per step."""

    lengths = None

    def __init__(self, tokens: Tensor):
        self.tokens, self.began = tokens, []

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T)."""
        self.began.append(time.perf_counter())
        tokens = self.tokens[torch.from_numpy(ids)]
        return tokens[:, :-1], tokens[:, 1:]

    def targets(self, ids: np.ndarray) -> int:
        """Every position is scored."""
        return len(ids) * (self.tokens.size(1) - 1)


def random_tokens(config: GPTConfig, batch_size: int) -> Tensor:
    """The sequences that all competitors train on in every step, (B, T + 1)."""
    ids = np.random.default_rng(0).integers(config.vocab_size, size=(batch_size, config.block_size + 1))
    return torch.from_numpy(ids)


def initial(config: GPTConfig) -> GPT:
    """The weights that all begin with."""
    torch.manual_seed(0)
    return GPT(config)


def in_transformers(model: GPT) -> GPT2LMHeadModel:
    """The same weights in the model of transformers."""
    theirs = GPT2LMHeadModel(GPT2Config(**checkpoint.hf_config(model.config)))
    theirs.load_state_dict(checkpoint.to_hf(model.state_dict()), strict=False)  # lm_head is wte
    return theirs


# --- the competitors: configuration, data, steps -> losses, share of the parameters that train ----------------------


def ours(
    config: GPTConfig,
    data: Sequences,
    steps: int,
    *,
    batch_size: int | None = None,
    adapters: bool = False,
    optimizer: str = "adamw",
    precision: str = "auto",
    compile: bool = True,
    device: str = "auto",
) -> tuple[list[float], float]:
    """The training loop of the stage pretrain, without checkpoints. `batch_size`: by default all of the data."""
    B = batch_size or len(data)
    params = OptimParams(
        steps=steps,
        batch_size=B,
        optimizer=optimizer,
        schedule="wsd",
        lr=LR,
        min_lr_rate=1.0,
        warmup_steps=0,
        decay_rate=0.0,
        weight_decay=0.01,
        beta2=0.999,
        grad_clip=CLIP,
        precision=precision,
        eval_every=steps,
    )
    model = initial(config)
    if adapters:
        add_lora(model, LORA)
    with world(device) as here, tempfile.TemporaryDirectory() as scratch:
        run = Trainer(
            model,
            data,
            params,
            machine=MachineParams(micro_batch_size=B, checkpoint_every=steps),
            world=here,
            seed=0,
            scratch=Path(scratch),
            code={},
            evaluate=lambda model, batch_size: {"loss": 0.0},
            log=lambda split, row: None,
            compile=compile,
        )
        run.checkpoints.write = lambda path, state: None  # it would take as long as many steps
        return [row["loss"] for row in run.fit().train], trainable_parameters(model)["trainable_share"]


def transformers(
    config: GPTConfig,
    data: Sequences,
    steps: int,
    bfloat16: bool = False,
    compiled: bool = False,
    adapters: bool = False,
) -> tuple[list[float], float]:
    """A loop as its documentation writes them."""
    model = in_transformers(initial(config))
    if adapters:
        targets = list(LORA.targets)
        model = get_peft_model(
            model, LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules=targets, fan_in_fan_out=True)
        )
    model.train().to(DEVICE)
    forward = torch.compile(model) if compiled else model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.01, fused=True)
    losses = []
    for _ in range(steps):
        inputs, targets = (tensor.to(DEVICE) for tensor in data.batch(np.arange(len(data))))
        with torch.autocast(DEVICE.type, torch.bfloat16) if bfloat16 else nullcontext():
            loss = forward(input_ids=inputs, labels=inputs, shift_labels=targets.contiguous()).loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, trainable_parameters(model)["trainable_share"]


COMPETITORS = {
    "ours": ours,
    "transformers, float32": transformers,
    "transformers, bfloat16": partial(transformers, bfloat16=True),
    "transformers, compiled": partial(transformers, bfloat16=True, compiled=True),
}
MUON = {"ours, Muon": partial(ours, optimizer="muon")}
WITH_ADAPTERS = {
    "ours, LoRA": partial(ours, adapters=True),
    "ours": COMPETITORS["ours"],
    "peft, LoRA": partial(transformers, bfloat16=True, adapters=True),
    "peft, LoRA, compiled": partial(transformers, bfloat16=True, compiled=True, adapters=True),
}


def work(name: str, config: GPTConfig, batch_size: int, steps: int) -> dict:
    """Trains for some steps in this process: seconds of the median step, losses of all steps, peak of memory in MB, and
    the share of the parameters that train."""
    data = Sequences(random_tokens(config, batch_size))
    losses, share = (COMPETITORS | MUON | WITH_ADAPTERS)[name](config, data, steps)
    seconds = np.diff([*data.began, time.perf_counter()])[WARMUP:]
    memory = (peak_memory(DEVICE) or math.nan) / 1e6
    return {"seconds": median(seconds), "losses": losses, "memory": memory, "trained": share}


def shape(model: str, batch_size: int | None, dropout: float) -> tuple[GPTConfig, int]:
    """The configuration and batch size that are compared."""
    if model == "124m":
        return openai_config("gpt2").model_copy(update={"block_size": 512, "dropout": dropout}), batch_size or 4
    from stages.params import read_params  # it needs packages that a machine for benchmarks may lack

    params = read_params()
    changes = {"vocab_size": params.tokenizer.vocab_size, "dropout": dropout}
    return GPTConfig(**params.model.model_dump() | changes), batch_size or params.train.batch_size


# --- the comparison ------------------------------------------------------------------------------------------------


def ceiling(n: int = 8192 if DEVICE.type == "cuda" else 2048) -> float:
    """Operations per second of the fastest of twenty products of two bfloat16 matrices (n, n)."""
    a = torch.randn(n, n, device=DEVICE).bfloat16()
    best = 0.0
    for _ in range(20):
        began = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for it
        best = max(best, 2 * n**3 / (time.perf_counter() - began))
    return best


def measure(names: list[str], arguments: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """What `work` returned for each, from a process of its own."""
    for name in names:
        options = [arguments.model, str(arguments.batch_size or 0), str(arguments.dropout), str(arguments.steps)]
        command = [sys.executable, "-m", "benchmarks.train", "--work", name, *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{name}: exit status {done.returncode}")
        yield name, json.loads(done.stdout.splitlines()[-1])


def processor() -> str:
    """What the machine calls its GPU, or its CPU and how many of its processors may be used."""
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{device_name(DEVICE)} {platform.machine()}, {cpu_count()} processors"


def compare(arguments: argparse.Namespace) -> None:
    """Prints a line for each, and how many times as fast the first is as it."""
    config, batch_size = shape(arguments.model, arguments.batch_size, arguments.dropout)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in GPT(config).parameters())
    tokens, operations = batch_size * config.block_size, flops_per_token(config, parameters)
    names = list(WITH_ADAPTERS if arguments.lora else COMPETITORS)
    if not can_compile("auto"):
        names = [name for name in names if "compiled" not in name]
    print(f"{processor()}, torch {torch.__version__}")
    print(f"{parameters / 1e6:.1f}M parameters, batch ({batch_size}, {config.block_size}), dropout {config.dropout}")
    columns = [("tok/s", 10), ("ours is", 10), ("of ceiling", 12), ("ceiling", 14), ("peak MB", 10), ("trained", 10)]
    print(f"{'':24}", *(f"{name:>{width}}" for name, width in [*columns, ("first loss", 12)]), sep="")
    first = None
    for name, result in measure(names, arguments):
        first, speed, peak = first or result, tokens / result["seconds"], ceiling()
        if not arguments.dropout and abs(result["losses"][0] - first["losses"][0]) > 0.01:
            found, expected = result["losses"][0], first["losses"][0]
            sys.exit(f"{name}: its first loss is {found:.3f}, ours {expected:.3f}: not the same work")
        ratio = result["seconds"] / first["seconds"]
        share = f"{speed * operations / peak:.0%}" if result["trained"] == 1 else "-"
        print(
            f"{name:24}{speed:10,.0f}{ratio:9.2f}x{share:>12}{peak / 1e9:8.0f} GFLOP/s"
            f"{result['memory']:10,.0f}{result['trained']:10.1%}{result['losses'][0]:12.3f}",
            flush=True,
        )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["124m", "params"], default="124m")
    parser.add_argument("--batch-size", type=int, help="sequences a step (default: 4, or params.yaml's)")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--lora", action="store_true", help="compare adapters with training all weights")
    parser.add_argument("--steps", type=int, default=8, help="of each, the first two not timed (default: 8)")
    parser.add_argument("--work", nargs=5, metavar="WHAT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, model, batch_size, dropout, steps = arguments.work
        print(json.dumps(work(name, *shape(model, int(batch_size) or None, float(dropout)), int(steps))))
    elif arguments.steps <= WARMUP or (arguments.batch_size or 1) < 1 or not 0 <= arguments.dropout < 1:
        parser.error(f"expected --steps above {WARMUP}, --batch-size above 0, --dropout from 0 to below 1")
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
