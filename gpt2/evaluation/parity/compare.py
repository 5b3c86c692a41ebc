"""All cases of parity: transformers reads our checkpoint, and we read models of OpenAI's four shapes from it."""

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
    random_pair,
    shape_case,
    shape_of,
    silence_transformers,
    weights_case,
)
from gpt2.evaluation.parity.text import tokenizer_case
from gpt2.model.checkpoint import read_config
from gpt2.model.openai import OPENAI_SHAPES, openai_config

CHECKPOINT = "our checkpoint"
COMPLETE = "gpt2"  # the one of OpenAI's shapes that goes through every other case
LONG = "gpt2-medium"  # the one whose context is filled: with all blocks it would take long
MIN_TOKENS = 4  # the lower limit of parity.tokens
SEQUENCES = 4  # at most; logits, loss and gradients of these are compared
SAMPLED_PROMPTS = 2  # at most; these are also continued by sampling, under each setting


def compare(directory: Path, openai: Path, params: ParityParams, seed: int) -> list[Case]:
    """Compares the checkpoint in `directory`, and one model of each of OpenAI's four shapes, on the CPU.

    If the directory `openai` holds OpenAI's weights, they replace the random weights of their shape. Raises InputError
    if a checkpoint is malformed.
    """
    silence_transformers()
    return list(_all_cases(directory, openai, params, seed))


def fitted(params: ParityParams, directory: Path) -> ParityParams:
    """Limits `params.tokens` so that a prompt and its continuation fit into the context of each model compared.

    Raises InputError if the context of the checkpoint in `directory` is too short.
    """
    context = min(read_config(directory)[0].block_size, openai_config(COMPLETE).block_size)
    if context < 2 * MIN_TOKENS:
        raise InputError(
            f"block_size = {context}: expected {2 * MIN_TOKENS} or more, the fewest tokens that parity is measured on"
        )
    return params.model_copy(update={"tokens": min(params.tokens, context // 2)})


def _all_cases(directory: Path, openai: Path, params: ParityParams, seed: int) -> Iterator[Case]:
    """The cases of one pair of models after the other, so that only one pair is in memory."""
    yield tokenizer_case(CHECKPOINT, directory)
    pair = from_checkpoint(CHECKPOINT, directory)
    yield _full_context(pair, seed)
    yield from _complete(pair, params, seed, SAMPLINGS)
    released = shape_of(openai) if (openai / "config.json").exists() else None
    if released:
        yield tokenizer_case(f"OpenAI's {released}", openai)
    for shape in OPENAI_SHAPES:
        pair = openai_pair(openai, shape) if shape == released else random_pair(shape, seed)
        yield shape_case(pair.name, shape)
        if shape == COMPLETE:
            fewer = params.model_copy(update={"prompts": min(SEQUENCES, params.prompts)})
            yield from _complete(pair, fewer, seed, [ALL])  # fewer, because tokens of this model take time
        else:
            yield from _forward_and_backward(pair, 1, params, seed)
        if shape == LONG:
            yield _full_context(pair, seed)
        del pair


def _forward_and_backward(pair: Pair, sequences: int, params: ParityParams, seed: int) -> Iterator[Case]:
    """Compares the weights and the results of one forward and one backward pass."""
    tokens = _random_tokens(pair, sequences, params.tokens + 1, seed)
    yield weights_case(pair)
    yield from forward_cases(pair, tokens)
    yield from training_cases(pair, tokens)


def _complete(pair: Pair, params: ParityParams, seed: int, samplings: Iterable[str]) -> Iterator[Case]:
    """All cases of one pair but that of a full context, with sampling under the named settings."""
    sequences = min(SEQUENCES, params.prompts)
    yield from _forward_and_backward(pair, sequences, params, seed)
    prompts = random_prompts(pair.ours.config.vocab_size, params.prompts, params.tokens, seed)
    tokens = _random_tokens(pair, sequences, params.tokens, seed)
    yield cache_case(pair, tokens)
    yield padding_case(pair, prompts[:sequences])
    yield greedy_case(pair, prompts, params.tokens)
    for sampling in samplings:
        yield sampling_case(pair, sampling, prompts[:SAMPLED_PROMPTS], params.tokens, seed)
    yield from bfloat16_cases(pair, tokens)  # last, because it converts the models


def _full_context(pair: Pair, seed: int) -> Case:
    return context_case(pair, _random_tokens(pair, 1, pair.ours.config.block_size, seed))


def _random_tokens(pair: Pair, rows: int, length: int, seed: int) -> torch.Tensor:
    """Random token ids (rows, length)."""
    return torch.randint(pair.ours.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))
