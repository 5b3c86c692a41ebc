"""What pretraining would need, before it starts: `python -m stages.plan [PROFILE] [--gpu h100 --gpus 8 --price 3]`.

Tokens, steps, operations, memory at each micro-batch, disk, hours and money: of `params.yaml` as it is, or of a
profile. Without --gpu for the machine here, whose speed ten steps measure; with --gpu from its data sheet.
"""

import argparse
import math
import re
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from gpt2.common.errors import InputError
from gpt2.config.params import GPTConfig, Params
from gpt2.model.gpt import GPT
from gpt2.model.openai import OPENAI_SHAPES, openai_config
from gpt2.pretraining.pretrain import flops_per_token, snapshot_steps
from gpt2.runtime.device import can_compile, choose_device, device_name, micro_batch_by_shape
from gpt2.runtime.gpus import GPUS, USABLE, Gpu
from gpt2.runtime.precision import resolve
from gpt2.training.memory import SHORT, largest_micro_batch, training_memory
from stages.params import parse_params, read_params, read_yaml
from stages.probe import STEPS, probe
from stages.profile import SAMPLE, overlaid
from stages.stage import interpolated, seconds_of_stages
from stages.verify import stale_stages

UTILIZATION = 0.4  # share of a GPU's peak; the best published training of exact GPT-2 on H100s reaches 40.5%
GPT2_VOCABULARY = 50257
CPU = torch.device("cpu")
TEXT_BYTES = 2.8  # per token of FineWeb-Edu's parquet files: 28 GB for 10 billion tokens


class Machine(NamedTuple):
    """Where the run is planned."""

    name: str
    processes: int
    precision: str
    compiled: bool
    memory: float | None  # bytes of each GPU, or None on a CPU, where the micro-batch does not depend on it
    gpu: Gpu | None = None  # with --gpu


class Work(NamedTuple):
    """How much there is to do."""

    parameters: int
    tokens: int
    flops_per_token: float
    evaluated_tokens: int  # in all evaluations together

    @property
    def flops(self) -> float:
        """Operations of the run. An evaluation needs no backward pass, which takes two thirds of a step's."""
        return self.flops_per_token * (self.tokens + self.evaluated_tokens / 3)


def model_config(params: Params) -> GPTConfig:
    """The shape of the model that is trained. Raises InputError if it is not known before the download."""
    if params.train.init == "gpt2":
        name = params.data.gpt2.repo.partition("@")[0].rpartition("/")[2]
        if name not in OPENAI_SHAPES:
            known = ", ".join(OPENAI_SHAPES)
            raise InputError(f"data.gpt2.repo = {params.data.gpt2.repo!r}: unknown shape; expected one of {known}")
        return openai_config(name)
    vocab_size = params.tokenizer.vocab_size if params.tokenizer.source == "train" else GPT2_VOCABULARY
    return GPTConfig(**params.model.model_dump(), vocab_size=vocab_size)


def work_of(params: Params, config: GPTConfig) -> Work:
    """The work of pretraining."""
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in GPT(config).parameters())
    run = params.train
    evaluations = 1 + math.ceil(run.steps / run.eval_every)
    tokens = run.steps * run.batch_size * config.block_size
    return Work(parameters, tokens, flops_per_token(config, parameters), evaluations * run.val_tokens)


def processes_of(launcher: str) -> int:
    """How many processes a launcher starts, as far as its options say."""
    counts = re.findall(r"--n(?:proc[-_]per[-_]node|nodes)[= ](\d+)", launcher)
    return math.prod(map(int, counts))


def machine_of(params: Params, name: str, count: int | None) -> Machine:
    """The machine that --gpu and --gpus describe. Raises InputError for an unknown one, or one without bfloat16."""
    if name not in GPUS:
        raise InputError(f"--gpu {name}: expected one of {', '.join(GPUS)}")
    gpu, setting = GPUS[name], params.train.precision
    if setting == "bfloat16" and not gpu.bfloat16:
        raise InputError(f"train.precision = 'bfloat16': {gpu.name} does not support it; expected auto or float16")
    precision = setting if setting != "auto" else "bfloat16" if gpu.bfloat16 else "float16"
    count = count or processes_of(params.machine.launcher)
    compiled = params.machine.compile != "never"
    return Machine(f"{count} x {gpu.name}", count, precision, compiled, USABLE * gpu.gigabytes * 1e9, gpu)


def machine_here(params: Params) -> Machine:
    """This machine, with the processes that `machine.launcher` starts."""
    device, processes = choose_device(params.machine.device), processes_of(params.machine.launcher)
    on_gpu = device.type == "cuda"
    memory = USABLE * torch.cuda.get_device_properties(device).total_memory if on_gpu else None
    compiled = can_compile(params.machine.compile)
    name = f"{processes} x {device_name(device)}" if on_gpu else f"{device_name(device)}, {processes} processes"
    return Machine(name, processes, resolve(params.train.precision, device), compiled, memory)


# --- the lines -----------------------------------------------------------------------------------------------------


def plan(params: Params, machine: Machine, price: float | None) -> Iterator[str]:
    """The lines of the plan. Without a GPU from the list, ten steps here come before the last lines."""
    config, run = model_config(params), params.train
    work = work_of(params, config)
    batch = run.batch_size * config.block_size
    precision = f"{machine.precision}, {'compiled' if machine.compiled else 'not compiled'}"
    yield f"machine     {machine.name}, {precision}"
    shape = f"{config.n_layer} blocks, {config.n_head} heads, {config.n_embd} channels, context {config.block_size:,}"
    yield f"model       {work.parameters:,} parameters: {shape}, vocabulary {config.vocab_size:,}"
    yield (
        f"training    {run.steps:,} steps of {batch:,} tokens: {short(work.tokens)} tokens, "
        f"{work.tokens / work.parameters:,.1f} per parameter"
    )
    yield (
        f"operations  {short(work.flops_per_token)} per token, {work.flops:.3g} in all, of which evaluations "
        f"{1 - work.flops_per_token * work.tokens / work.flops:.1%}"
    )
    yield from ["", *memory(params, config, machine), "", *disk(params, work), ""]
    seconds = yield from estimated(params, machine, work) if machine.gpu else measured(params, config, machine, work)
    if price is not None and seconds is not None:
        hours = machine.processes * seconds / 3600
        yield f"  money   {hours * price:,.2f} dollars for {hours:,.1f} GPU-hours; the other stages come on top"


def memory(params: Params, config: GPTConfig, machine: Machine) -> Iterator[str]:
    """A line per size of micro-batch, with the memory of one process."""
    how = {"optimizer": params.train.optimizer, "precision": machine.precision}
    how |= {"recompute": params.machine.recompute, "compiled": machine.compiled, "processes": machine.processes}
    samples, chosen = math.ceil(params.train.batch_size / machine.processes), params.machine.micro_batch_size
    by = "is set"
    if chosen == "auto":
        by = "auto"
        by_shape = min(micro_batch_by_shape("auto", config.block_size, CPU), 1 << (samples - 1).bit_length())
        chosen = largest_micro_batch(config, samples, machine.memory, **how) if machine.memory else by_shape
    unit, name = (1e9, "GB") if machine.memory else (1e6, "MB")
    usable = f"; {machine.memory / 1e9:,.1f} of the GPU's are usable" if machine.memory else ""
    recomputing = " with machine.recompute" if params.machine.recompute else ""
    yield f"Memory per process by the shapes{recomputing}, in {name}{usable}"
    names = ("weights", "gradients", "optimizer", "copies", "activations", "working", "total")
    yield f"{'micro-batch':>11}" + "".join(f"{name:>13}" for name in names)
    largest = 2 * (chosen or 1)
    for size in (largest >> power for power in reversed(range(5)) if largest >> power):
        needed = training_memory(config, size, **how)
        figures = "".join(f"{part / unit:13,.1f}" for part in (*needed, needed.total))
        fits = not machine.memory or needed.total <= machine.memory
        yield f"{size:11}{figures}" + ("" if fits else "  too much") + (f"  <- {by}" if size == chosen else "")
    if chosen is None:
        helps = largest_micro_batch(config, samples, machine.memory, **how | {"recompute": True})
        yield "Not even one sample fits" + (": set machine.recompute to true" if helps else "")


def disk(params: Params, work: Work) -> Iterator[str]:
    """A line per kind of file, in GB."""
    model = 4 * work.parameters
    snapshots = len(snapshot_steps(params.train))
    read = min(work.tokens, params.data.corpus.max_tokens or work.tokens)
    parts = {
        "tokens, 2 bytes each, if each is read once": 2 * read,
        "three models": 3 * model,
        f"snapshots ({snapshots})": snapshots * model,
        "two checkpoints: weights and both moments": 2 * 3 * model,
    }
    if params.data.corpus.source == "hub":
        parts = {"text, compressed": TEXT_BYTES * read, **parts}
    yield "Disk in GB; text, tokens, models and snapshots are stored twice unless DVC's cache uses links"
    for name, size in parts.items():
        yield f"  {name:44}{size / 1e9:10,.2f}"


def estimated(params: Params, machine: Machine, work: Work) -> Generator[str, None, float | None]:
    """The time of pretraining by a data sheet. Returns the seconds, or None if the data sheet does not tell them."""
    if machine.precision not in SHORT:
        yield f"Time: not estimated for train.precision = {machine.precision!r}, only for 16-bit precisions"
        return None
    peak = machine.processes * machine.gpu.peak_flops
    recomputed = 4 / 3 if params.machine.recompute else 1  # one more forward pass
    seconds = work.flops * recomputed / (peak * UTILIZATION)
    speed = peak * UTILIZATION / work.flops_per_token / recomputed
    yield f"Pretraining, assuming {UTILIZATION:.0%} of {machine.processes} x {machine.gpu.teraflops:,} TFLOP/s"
    yield f"  time    {duration(seconds)}, at {speed:,.0f} tokens per second"
    return seconds


def measured(params: Params, config: GPTConfig, machine: Machine, work: Work) -> Generator[str, None, float]:
    """The time of pretraining here, by ten steps. Returns the seconds."""
    compiling = ", which torch.compile prepares for a minute or more" if machine.compiled else ""
    yield f"Measuring {STEPS} steps here{compiling} ..."
    found = probe(params, config)
    seconds = work.flops / work.flops_per_token / found.tokens_per_second
    size = found.resolved["micro_batch_size"]
    yield f"  time    {duration(seconds)}, at {found.tokens_per_second:,.0f} tokens per second, measured"
    if found.peak_memory:
        what = "peak" if machine.memory else "resident, with all libraries"
        peak = f"{found.peak_memory / 1e9:,.3f} GB per process"
        yield f"  memory  {peak} with micro-batches of at most {size}, measured ({what})"
    return seconds


def upcoming(params: Params) -> Iterator[str]:
    """The stages that `dvc repro` would run now, with the seconds that each took last time."""
    stages, took = read_yaml(Path("dvc.yaml"))["stages"], seconds_of_stages()
    stale, written = stale_stages(stages), []
    names = []
    for name, spec in stages.items():
        deps = [Path(interpolated(dep, params)) for dep in spec.get("deps", [])]
        if name in stale or any(dep.is_relative_to(out) or out.is_relative_to(dep) for dep in deps for out in written):
            outs = [out for kind in ("outs", "metrics", "plots") for out in spec.get(kind, [])]
            written += [Path(out if isinstance(out, str) else next(iter(out))) for out in outs]
            names.append(f"{name} ({sum(took[name].values()):,.0f} s)" if name in took else name)
    yield ""
    yield "`dvc repro` would run now (seconds that a stage took here last time): " + (", ".join(names) or "nothing")


def short(number: float) -> str:
    """A number in millions or billions."""
    return f"{number / 1e9:,.2f} billion" if number >= 1e9 else f"{number / 1e6:,.1f} million"


def duration(seconds: float) -> str:
    """A time in the unit that people would use."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} seconds"


def main(arguments: argparse.Namespace) -> None:
    """Prints the plan."""
    profile, present = arguments.profile, None
    if profile:
        params = parse_params(overlaid(read_yaml(SAMPLE), profile), f"profiles/{profile}.yaml")
        present = read_params() if Path("params.yaml").exists() else None
    else:
        params = present = read_params()
    if arguments.gpus and not arguments.gpu:
        raise InputError("--gpus: expected --gpu, too; here machine.launcher says how many processes there are")
    machine = machine_of(params, arguments.gpu, arguments.gpus) if arguments.gpu else machine_here(params)
    for line in plan(params, machine, arguments.price):
        print(line, flush=True)
    if params == present:
        print(*upcoming(params), sep="\n")


def positive(kind: type):
    """A type of argument: a positive number."""

    def parse(text: str):
        if not 0 < (value := kind(text)) < math.inf:
            raise ValueError
        return value

    parse.__name__ = f"positive {kind.__name__}"
    return parse


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.plan", description=__doc__)
    parser.add_argument("profile", nargs="?", help="the name of a file in profiles/; by default params.yaml as it is")
    parser.add_argument("--gpu", help=f"plan for this GPU and not for the machine here: {', '.join(GPUS)}")
    parser.add_argument("--gpus", type=positive(int), help="how many (default: the processes of machine.launcher)")
    parser.add_argument("--price", type=positive(float), help="dollars per GPU-hour")
    try:
        main(parser.parse_args())
    except InputError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
