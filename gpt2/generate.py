"""Text from a model, token by token, on a cache of keys and values. As a command it prints the text as it comes:

    python -m gpt2.generate --model data/models/pretrain --prompt "Returns the" --temperature 0.8 --top-k 50
    python -m gpt2.generate --model data/models/instruction --instruction "Name a colour." --greedy

Shapes: B texts generated together, T time (tokens), S columns of the cache filled so far, C channels, V vocabulary.
"""

import argparse
import codecs
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2 import alpaca, weights
from gpt2.command import Parser, run, start
from gpt2.model import GPT, KVCache
from gpt2.tokenizer import Tokenizer

# --- library -------------------------------------------------------------------------------------------------------


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids of a prompt. An empty one is `<|endoftext|>`, after which a document begins."""
    return tokenizer.encode(text) or [tokenizer.eot]


def complete(model: GPT, tokenizer: Tokenizer, prompt: str, new_tokens: int, **sampling) -> str:
    """The text with which one sample of `generate` continues a prompt, up to `<|endoftext|>`."""
    steps = generate(model, encode_prompt(tokenizer, prompt), new_tokens, stop=tokenizer.eot, **sampling)
    return tokenizer.decode([token for (token,) in steps if token != tokenizer.eot])


@torch.inference_mode()
def generate(
    model: GPT,
    ids: list[int],
    new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    samples: int = 1,
    stop: int | None = None,
) -> Iterator[list[int]]:
    """Continues the prompt `ids` by at most `new_tokens` tokens; yields the next token of each sample as it is chosen.

    `temperature`, `top_k` and `top_p` are those of `choose`; the same `seed` gives the same tokens. A sample that has
    yielded `stop` yields it from then on; when all have, the iterator ends.

    The prompt goes through the model once, however many samples. When `block_size` positions are filled, the later
    half of them is kept: positions are learned, so those tokens move to the front and go through the model again.
    That costs one token of work a token generated, and lets a text have any length. Of a prompt longer than
    `block_size`, only the last `block_size` tokens are seen.
    """
    assert ids and not model.training
    block_size, device = model.config.block_size, model.wte.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    prompt = torch.tensor([ids[-block_size:]], device=device)  # (1, T)
    once = _new_cache(model, 1, prompt.size(1))
    logits = model.logits(model.hidden(prompt, once)[:, -1]).expand(samples, -1)  # (B, V)
    capacity = min(block_size, prompt.size(1) + new_tokens)
    cache = _new_cache(model, samples, capacity)
    for layer, shared in zip(cache.layers, once.layers, strict=True):
        layer.append(shared.k, shared.v)
    seen = prompt.expand(samples, -1)  # (B, T)
    ended = torch.zeros(samples, dtype=torch.bool, device=device)
    for remaining in reversed(range(new_tokens)):
        tokens = choose(logits, temperature, top_k, top_p, generator)  # (B,)
        if stop is not None:
            tokens = tokens.masked_fill(ended, stop)
            ended |= tokens == stop
        yield tokens.tolist()
        if not remaining or ended.all():
            return
        fresh = tokens[:, None]  # (B, 1)
        seen = torch.cat((seen, fresh), dim=1)[:, -block_size:]
        if cache.length == block_size:
            cache = _new_cache(model, samples, capacity)
            fresh = seen[:, -max(1, block_size // 2) :]
        logits = model.logits(model.hidden(fresh, cache)[:, -1])


def choose(logits: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator) -> Tensor:
    """The next token of each row of `logits` (B, V): (B,).

    `temperature` 0 takes the most likely; otherwise logits are divided by it and a token is drawn from the `top_k`
    most likely (0: all), of these from the smallest set that holds at least `top_p` of the probability: the nucleus
    (Holtzman et al. 2019, §3.1).
    """
    if temperature == 0:
        return logits.argmax(dim=1)
    logits = (logits - logits.amax(dim=1, keepdim=True)).double() / temperature  # so that no temperature is too small
    if 0 < top_k < logits.size(1):
        least = logits.topk(top_k, dim=1).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p < 1:
        ordered, order = logits.softmax(dim=1).sort(dim=1, descending=True)
        outside = ordered.cumsum(dim=1) - ordered >= top_p  # what stands before it already holds enough
        outside[:, 0] = False
        logits = logits.masked_fill(outside.scatter(1, order, outside), -math.inf)
    return torch.multinomial(logits.softmax(dim=1), num_samples=1, generator=generator)[:, 0]


@torch.inference_mode()
def generate_batch(model: GPT, prompts: list[list[int]], new_tokens: int, eot: int | None) -> list[list[int]]:
    """Greedy continuations of prompts of any lengths, all at once: the tokens that `generate` gives one by one.

    A continuation ends before `eot`, after `new_tokens` tokens, or when the context of `block_size` is full. Of a
    prompt longer than that, only the last `block_size` tokens are seen.

    Prompts are padded on the right, so that causal attention alone hides the padding from them. What follows goes
    behind the padding in the cache, takes the positions right after its own prompt, and is kept from looking at the
    padding by a mask.
    """
    assert all(prompts) and not model.training
    block_size, device = model.config.block_size, model.wte.weight.device
    prompts = [ids[-block_size:] for ids in prompts]
    lengths = torch.tensor([len(ids) for ids in prompts], device=device)  # (B,)
    padded = pad_sequence([torch.tensor(ids, device=device) for ids in prompts], batch_first=True)
    B, T = padded.shape
    cache = _new_cache(model, B, T + new_tokens)
    visible = torch.arange(T + new_tokens, device=device).expand(B, -1)  # (B, T + new_tokens), the cache's columns
    visible = (visible < lengths[:, None]) | (visible >= T)
    hidden = model.hidden(padded, cache)[torch.arange(B, device=device), lengths - 1]  # (B, C)
    answers: list[list[int]] = [[] for _ in prompts]
    ended = torch.zeros(B, dtype=torch.bool, device=device)
    for step in range(new_tokens):
        tokens = model.logits(hidden).argmax(dim=1)  # (B,)
        ended |= (tokens == eot) | (lengths + step > block_size)
        for answer, token, over in zip(answers, tokens.tolist(), ended.tolist(), strict=True):
            if not over:
                answer.append(token)
        if step == new_tokens - 1 or ended.all():
            break
        positions = (lengths + step).clamp(max=block_size - 1)[:, None]  # (B, 1)
        mask = visible[:, None, None, : T + step + 1]  # (B, 1, 1, S)
        hidden = model.hidden(tokens[:, None], cache, positions, mask)[:, 0]
    return answers


def _new_cache(model: GPT, batch_size: int, length: int) -> KVCache:
    return KVCache(model.config, batch_size, length, model.wte.weight.dtype, model.wte.weight.device)


# --- command -------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.input is not None and args.instruction is None:
        parser.error("argument --input: not allowed without argument --instruction")
    return run(lambda: _print_samples(args))


def _print_samples(args: argparse.Namespace) -> None:
    """Prints the first sample as it comes, and the others, generated beside it, after it."""
    model, tokenizer = weights.load_with_tokenizer(args.model)
    prompt, shown = _prompt(args)
    ids = encode_prompt(tokenizer, prompt)
    if len(ids) > (limit := model.config.block_size):
        print(f"note: the model sees the last {limit} of the prompt's {len(ids)} tokens", file=sys.stderr)
    steps = generate(
        model,
        ids,
        args.new_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        seed=args.seed,
        samples=args.samples,
        stop=tokenizer.eot,
    )
    headers = [f"--- sample {i + 1} of {args.samples} ---\n" if args.samples > 1 else "" for i in range(args.samples)]
    print(headers[0] + shown, end="", flush=True)
    rest = [header + shown for header in headers[1:]]
    for first, *others in _decode(tokenizer, steps, args.samples):
        print(first, end="", flush=True)
        rest = [text + piece for text, piece in zip(rest, others, strict=True)]
    print("", *rest, sep="\n")


def _prompt(args: argparse.Namespace) -> tuple[str, str]:
    """What the model continues, and what of it is printed: of an instruction, nothing but the answer is."""
    if args.instruction is not None:
        return alpaca.prompt(_text(os.fsencode(args.instruction)), _text(os.fsencode(args.input or ""))), ""
    prompt = _text(sys.stdin.buffer.read() if args.prompt == "-" else os.fsencode(args.prompt))
    return prompt, prompt


def _text(given: bytes) -> str:
    return given.decode(errors="replace")


def _decode(tokenizer: Tokenizer, steps: Iterator[list[int]], samples: int) -> Iterator[list[str]]:
    """The text that each step adds to each sample; a character split over tokens is held back until it is whole."""
    decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in range(samples)]
    for tokens in steps:
        read = (b"" if token == tokenizer.eot else tokenizer.token_bytes(token) for token in tokens)
        yield [decoder.decode(data) for decoder, data in zip(decoders, read, strict=True)]
    yield [decoder.decode(b"", final=True) for decoder in decoders]


def _parser() -> Parser:
    parser = Parser(prog="python -m gpt2.generate", description="Continues a text, or answers an instruction.")
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory with its tokenizer")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--prompt", default="", metavar="TEXT", help="what to continue; -: standard input; default: a new document"
    )
    begin.add_argument("--instruction", type=_filled, metavar="TEXT", help="answer this, as a tuned model learned to")
    add("--input", metavar="TEXT", help="what the instruction is about; may be empty")
    add("--new-tokens", type=_within(int, 1), default=64, metavar="N", help="at most so many; default: %(default)s")
    heat = parser.add_mutually_exclusive_group()
    heat.add_argument(
        "--temperature", type=_within(float, 0, 100), default=0.8, metavar="T", help="0 is greedy; default: %(default)s"
    )
    heat.add_argument("--greedy", action="store_const", const=0.0, dest="temperature", help="as --temperature 0")
    add(
        "--top-k",
        type=_within(int, 0),
        default=50,
        metavar="K",
        help="most likely tokens; 0: all; default: %(default)s",
    )
    add("--top-p", type=_within(float, 0, 1), default=1.0, metavar="P", help="nucleus; default: %(default)s, all")
    add("--seed", type=_within(int, 0, 2**63 - 1), default=1337, metavar="N", help="default: %(default)s")
    add("--samples", type=_within(int, 1), default=1, metavar="N", help="continuations; default: %(default)s")
    return parser


def _filled(text: str) -> str:
    """An argparse type: a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a text")
    return text


def _within(kind: type, low: float, high: float = math.inf) -> Callable[[str], float]:
    """An argparse type: an int or float from `low` to `high`."""
    wanted = f"{kind.__name__} of at least {low}" if high == math.inf else f"{kind.__name__} from {low} to {high}"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {wanted}")
        return value

    return parse


if __name__ == "__main__":
    start(main)
