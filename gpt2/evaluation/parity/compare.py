"""All cases of parity: our checkpoint read by transformers, and GPT-2s of OpenAI's shapes made by them, read by us."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from gpt2.common.errors import InputError
from gpt2.config.params import ParityParams
from gpt2.evaluation.parity.cases import Case
from gpt2.evaluation.parity.decoding import ALL, SAMPLINGS, greedy_case, random_prompts, sampling_case
from gpt2.evaluation.parity.forward import (
    bfloat16_cases,
    cache_case,
    context_case,
    forward_cases,
    padding_case,
    training_cases,
)
from gpt2.evaluation.parity.pairs import (
    Pair,
    from_checkpoint,
    openai_pair,
    quiet,
    random_pair,
    shape_case,
    shape_of,
    weights_case,
)
from gpt2.evaluation.parity.text import tokenizer_case
from gpt2.model.checkpoint import read_config
from gpt2.model.openai import OPENAI_SHAPES, openai_config

CHECKPOINT = "our checkpoint"
SEQUENCES = 4  # texts whose logits, loss and gradients are compared
SAMPLED = 2  # prompts that are also continued by sampling
WHOLE = "gpt2"  # of the four shapes the one that every case is tried with


def compare(directory: Path, openai: Path, params: ParityParams, seed: int) -> list[Case]:
    """Compares the checkpoint in `directory`, and one model of each of OpenAI's four shapes, on the CPU.

    `openai` is a directory that may hold OpenAI's weights: they then take the place of random ones of their shape.

    Raises InputError where a checkpoint is malformed or its context too short for the prompts asked for.
    """
    context = min(read_config(directory)[0].block_size, openai_config(WHOLE).block_size)
    if 2 * params.tokens > context:
        raise InputError(
            f"parity.tokens = {params.tokens}: a prompt and its continuation have that many tokens each; "
            f"expected at most half of block_size = {context}"
        )
    with quiet():
        return list(_cases(directory, openai, params, seed))


def _cases(directory: Path, openai: Path, params: ParityParams, seed: int) -> Iterator[Case]:
    """The cases of one pair after the other: what is done is freed before the next is loaded."""
    yield tokenizer_case(CHECKPOINT, directory)
    yield from _whole(from_checkpoint(CHECKPOINT, directory), params, seed, SAMPLINGS)
    released = shape_of(openai) if (openai / "config.json").exists() else None
    if released:
        yield tokenizer_case(f"OpenAI's {released}", openai)
    for shape in OPENAI_SHAPES:
        pair = openai_pair(openai, shape) if shape == released else random_pair(shape, seed)
        yield shape_case(pair.name, shape)
        if shape == WHOLE:  # under one setting: at this size a token takes a twentieth of a second
            yield from _whole(pair, params, seed, [ALL])
        else:
            yield from _brief(pair, 1, params, seed)
        del pair


def _brief(pair: Pair, sequences: int, params: ParityParams, seed: int) -> Iterator[Case]:
    """The weights, and what one forward and one backward pass compute."""
    tokens = _tokens(pair, sequences, params.tokens + 1, seed)
    yield weights_case(pair)
    yield from forward_cases(pair, tokens)
    yield from training_cases(pair, tokens)


def _whole(pair: Pair, params: ParityParams, seed: int, samplings: Iterable[str]) -> Iterator[Case]:
    """Every case of one pair; the first SAMPLED prompts are continued under the named settings too."""
    yield from _brief(pair, SEQUENCES, params, seed)
    prompts = random_prompts(pair.ours.config.vocab_size, params.prompts, params.tokens, seed)
    tokens = _tokens(pair, SEQUENCES, params.tokens, seed)
    yield cache_case(pair, tokens)
    yield padding_case(pair, prompts[:SEQUENCES])
    yield context_case(pair, _tokens(pair, 1, pair.ours.config.block_size, seed))
    yield greedy_case(pair, prompts, params.tokens)
    for sampling in samplings:
        yield sampling_case(pair, sampling, prompts[:SAMPLED], params.tokens, seed)
    yield from bfloat16_cases(pair, tokens)  # the last: the models are converted


def _tokens(pair: Pair, rows: int, length: int, seed: int) -> torch.Tensor:
    """Random token ids (rows, length)."""
    return torch.randint(pair.ours.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))
