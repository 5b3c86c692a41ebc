"""Does Hugging Face transformers compute the same? Logits, loss, greedy tokens, token ids, text and parameter shapes.

Both directions are tried: our checkpoint read by transformers, and a full-size GPT-2 of theirs read by us.

Shapes: P prompts, T time (tokens), V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from gpt2 import weights
from gpt2.config import OPENAI_SHAPES, ParityParams, openai_config
from gpt2.errors import InputError
from gpt2.generation import complete, continuations
from gpt2.model import GPT
from gpt2.sampling import GREEDY
from gpt2.tokenizer import Tokenizer

LOGIT_TOLERANCE = 1e-4  # largest absolute difference: float32 sums in another order
LOSS_TOLERANCE = 1e-5  # nats a token

TEXT_PROMPTS = ("Returns the", "The cat sat on", "If x is None,")
HOSTILE_TEXTS = (
    "",
    " ",
    "   leading and trailing   ",
    "tabs\tand\r\nline\n\n\nends\n",
    "don't, can't, WE'LL and y'all've",
    "1234567890 3.14159e-10 0xFF ½ ²³ ٣٤٥ 一二三",
    "naïve café, e\u0301 is not é; Ångström, ﬁ, ẞ",
    "日本語のテキスト 中文文本 한국어 ไทย עברית العربية हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇺🇳",
    "zero\u200bwidth, no\u00a0break, ideographic\u3000space, next\u0085line, line\u2028separator",
    "\x00\x01\x1b[31m\x7f \ufeff \ufffd \U0010ffff",
    "<|endoftext|> spelt out, <|endof text|>, <pad> and [MASK]",
    "def f(x):\n    return {k: v**2 for k, v in x.items() if v != -1}  # ok\n",
    "a" * 300 + " " + "!?" * 100,
)


def compare(directory: Path, params: ParityParams, seed: int) -> tuple[dict, list[dict]]:
    """Compares the checkpoint and tokenizer in `directory`, and a GPT-2 of theirs, in float32 on the CPU.

    Returns the metrics `max_abs_logit_diff` and `loss_diff` (largest of all cases), `greedy_match` (share of greedy
    tokens that are equal), `cases` and `cases_passed`; and one row a case: what was compared, how many of it, the
    value (a largest absolute difference, or the share that differs), and the tolerance that it must not exceed.

    Raises InputError where the checkpoint is malformed or its context too short for the prompts asked for.
    """
    ours, tokenizer = weights.load(directory).eval(), Tokenizer.load(directory)
    context = min(ours.config.block_size, openai_config("gpt2").block_size)
    if params.prompt_tokens + params.new_tokens > context:
        raise InputError(
            f"parity.prompt_tokens + parity.new_tokens = {params.prompt_tokens} + {params.new_tokens}: "
            f"expected at most block_size = {context}"
        )
    with _quiet():
        cases = [
            *_model_cases("checkpoint", ours, _their_checkpoint(directory), params, seed),
            *_model_cases("gpt2, random weights", *_full_size(seed), params, seed),
            _tokenizer_case(directory, tokenizer),
            _text_case(directory, ours, tokenizer, params),
            *(_shape_case(name) for name in OPENAI_SHAPES),
        ]
    return _metrics(cases), cases


def _case(case: str, quantity: str, compared: int, value: float, tolerance: float) -> dict:
    return {
        "case": case,
        "quantity": quantity,
        "compared": compared,
        "value": value,
        "tolerance": tolerance,
        "passed": value <= tolerance,
    }


def _metrics(cases: list[dict]) -> dict:
    def of(quantity: str) -> list[dict]:
        return [case for case in cases if case["quantity"] == quantity]

    greedy = of("greedy tokens")
    differing = sum(case["value"] * case["compared"] for case in greedy)
    return {
        "max_abs_logit_diff": max(case["value"] for case in of("logits")),
        "loss_diff": max(case["value"] for case in of("loss")),
        "greedy_match": 1 - differing / sum(case["compared"] for case in greedy),
        "cases": len(cases),
        "cases_passed": sum(case["passed"] for case in cases),
    }


# --- models --------------------------------------------------------------------------------------------------------


def _their_checkpoint(directory: Path) -> torch.nn.Module:
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel.from_pretrained(directory, local_files_only=True).eval()


def _full_size(seed: int) -> tuple[GPT, torch.nn.Module]:
    """A GPT-2 of 124M random parameters, made by transformers: as our model, and as theirs.

    A fresh model repeats one token and has no biases. This one's are random, and its matrices five times as large, so
    that what it writes depends on everything before.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        theirs = GPT2LMHeadModel(GPT2Config()).eval()
        for parameter in theirs.transformer.h.parameters():
            parameter.mul_(5) if parameter.dim() == 2 else parameter.add_(0.1 * torch.randn_like(parameter))
    with torch.device("meta"):
        ours = GPT(openai_config("gpt2")).eval()
    weights.load_state(ours, weights.from_hf(theirs.state_dict()), Path("transformers.GPT2LMHeadModel"))
    return ours, theirs


@torch.inference_mode()
def _model_cases(name: str, ours: GPT, theirs: torch.nn.Module, params: ParityParams, seed: int) -> list[dict]:
    """Logits, loss and greedy continuations of random prompts."""
    shape = (params.prompts, params.prompt_tokens + 1)
    tokens = torch.randint(ours.config.vocab_size, shape, generator=torch.Generator().manual_seed(seed))
    prompts, targets = tokens[:, :-1], tokens[:, 1:]  # (P, T)
    expected = theirs(tokens, labels=tokens)  # predicts each token from those before it, so drops the last logits
    logits = (ours(prompts) - expected.logits[:, :-1]).abs()  # (P, T, V)
    loss = abs(ours(prompts, targets).item() / targets.numel() - expected.loss.item())
    greedy = torch.tensor(continuations(ours, prompts.tolist(), params.new_tokens, GREEDY))
    differing = greedy != _their_greedy(theirs, prompts, params.new_tokens)
    return [
        _case(name, "logits", logits.numel(), logits.max().item(), LOGIT_TOLERANCE),
        _case(name, "loss", targets.numel(), loss, LOSS_TOLERANCE),
        _case(name, "greedy tokens", differing.numel(), differing.double().mean().item(), 0.0),
    ]


def _their_greedy(theirs: torch.nn.Module, prompts: Tensor, new_tokens: int) -> Tensor:
    """What transformers' own loop, on its own cache, adds to `prompts` (P, T): (P, new_tokens)."""
    theirs.generation_config.eos_token_id = None  # a text that ended early would leave less to compare
    generated = theirs.generate(
        prompts, attention_mask=torch.ones_like(prompts), do_sample=False, max_new_tokens=new_tokens, use_cache=True
    )
    return generated[:, prompts.size(1) :]


def _shape_case(name: str) -> dict:
    """Names and shapes of all parameters of one of OpenAI's four models; on the meta device, which takes no memory."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        ours = GPT(openai_config(name)).state_dict()
        theirs = weights.from_hf(GPT2LMHeadModel(GPT2Config(**OPENAI_SHAPES[name])).state_dict())
    names = ours.keys() | theirs.keys()
    differing = [n for n in names if n not in ours or n not in theirs or ours[n].shape != theirs[n].shape]
    return _case(name, "names and shapes", len(names), len(differing) / len(names), 0.0)


# --- text ----------------------------------------------------------------------------------------------------------


def _tokenizer_case(directory: Path, ours: Tokenizer) -> dict:
    """Token ids of texts that trip tokenizers. Ours never reads a special token in a text; theirs is told not to."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    differing = [text for text in HOSTILE_TEXTS if ours.encode(text) != theirs.encode(text, split_special_tokens=True)]
    return _case("tokenizer", "texts", len(HOSTILE_TEXTS), len(differing) / len(HOSTILE_TEXTS), 0.0)


def _text_case(directory: Path, ours: GPT, tokenizer: Tokenizer, params: ParityParams) -> dict:
    """Greedy text of `transformers.pipeline`, given nothing but the directory."""
    from transformers import pipeline

    theirs = pipeline("text-generation", model=str(directory), device="cpu")
    differing = 0
    for text in TEXT_PROMPTS:
        prompt = tokenizer.decode(tokenizer.encode(text)[: params.prompt_tokens])  # so that it fits the context
        (expected,) = theirs(prompt, do_sample=False, max_new_tokens=params.new_tokens)
        continuation = complete(ours, tokenizer, prompt, params.new_tokens, GREEDY)
        differing += prompt + continuation != expected["generated_text"]
    return _case("pipeline", "texts", len(TEXT_PROMPTS), differing / len(TEXT_PROMPTS), 0.0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' advice and progress bars off standard error, and leaves its settings as they were."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
