"""Settings and models small enough for tests."""

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from gpt2.common.files import write_json
from gpt2.config.params import ClassificationParams, GPTConfig, MachineParams
from gpt2.model.gpt import GPT
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Document
from gpt2.tokens.shards import MANIFEST
from gpt2.tokens.writer import join_shards, write_documents

OPTIM = {
    "steps": 12,
    "batch_size": 8,
    "optimizer": "adamw",
    "schedule": "cosine",
    "lr": 0.01,
    "min_lr_rate": 0.1,
    "warmup_steps": 2,
    "decay_rate": 0.3,
    "weight_decay": 0.1,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "precision": "float32",
    "eval_every": 4,
}
MACHINE = {"micro_batch_size": 4, "recompute": False, "compile": "never", "checkpoint_every": 5}
CLASSIFICATION = {
    **{key: value for key, value in OPTIM.items() if key in ClassificationParams.model_fields},
    "trainable": "all",
    "last_blocks": 1,
    "lora": {"rank": 4, "alpha": 8.0, "targets": ["attn.c_attn", "mlp.c_fc"]},
}
CONFIG = GPTConfig(block_size=16, n_layer=2, n_embd=32, n_head=4, dropout=0.1, vocab_size=300)


def small_model(**changes) -> GPT:
    """A seeded model of CONFIG's shape, weights larger than GPT-2's so that outputs differ clearly."""
    torch.manual_seed(7)
    model = GPT(GPTConfig(**{**CONFIG.model_dump(), **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


ALONE = World(rank=0, size=1, device=torch.device("cpu"))
RUN = {"machine": MachineParams(**MACHINE), "world": ALONE, "code": {}, "log": lambda split, row: None}


def write_shards(
    directory: Path, texts: Iterable[tuple[str, Iterable[str]]], tokenizer: Tokenizer, shard_tokens: int
) -> None:
    """Writes texts, each group after the name of its split, as shards with their manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    documents = (Document.of(text, split) for split, group in texts for text in group)
    with TemporaryDirectory(dir=directory) as task:
        write_documents(documents, Path(task), tokenizer, shard_tokens)
        manifest = join_shards([Path(task)], directory)
    write_json(directory / MANIFEST, {**manifest.model_dump(), "corpus": {"source": "local"}})


def byte_tokenizer() -> Tokenizer:
    """256 bytes and <|endoftext|>: a vocabulary that needs no training."""
    return Tokenizer([])


def exit_status(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """The status with which a command's main function, or argparse before it, would end the process."""
    try:
        return main(arguments)
    except SystemExit as exit:
        return exit.code


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
