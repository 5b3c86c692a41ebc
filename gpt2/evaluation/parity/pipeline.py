"""Why `transformers.pipeline` and our engine write different texts: an experiment that changes one setting at a time.

There are three texts of ours: greedy, sampled with the pipeline's default settings, and sampled with other settings.
For each, the pipeline first gets all of our settings. Then each setting whose default differs from ours is left at the
default, one at a time. If the pipeline's text changes, that setting is responsible.
"""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import torch

from gpt2.evaluation.parity.cases import Case
from gpt2.evaluation.parity.pairs import silence_transformers
from gpt2.generation.generate import complete
from gpt2.generation.sampling import Sampling
from gpt2.model.checkpoint import load_with_tokenizer

# The defaults of transformers' pipeline. Temperature and length are the pipeline's own, top_k is `generate`'s. It draws
# from torch's generator in whatever state that is; seed 0 stands for that state.
DEFAULTS = {
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 50,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "max_new_tokens": 256,
    "seed": 0,
}
GREEDY = "greedy"
GOALS = {  # how our settings differ from the defaults, besides the number of tokens and the seed
    GREEDY: {"do_sample": False},
    "drawn, the pipeline's settings": {},
    "drawn, other settings": {"temperature": 1.2, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.1},
}
PROMPTS = ("Returns the", "The cat sat on", "If x is None,")
SAME, LONGER, OTHER, ERROR = "the same text", "the same, and more", "another text", "an error: the context is full"


def experiment(directory: Path, tokens: int, seed: int) -> tuple[list[dict], Case]:
    """Runs the pipeline on a checkpoint directory beside our engine, with prompts and continuations of up to `tokens`.

    Returns one row per run of the pipeline on the first prompt, and a case for the share of texts, over PROMPTS and
    GOALS, that differ although all settings are the same. A row has the goal, the setting left at its default (None, or
    `all` if the pipeline got no settings), the settings in force, the comparison of the texts (`outcome`), the number
    of characters that they share after the prompt (`same`), and both texts.
    """
    from transformers import GenerationConfig, pipeline

    silence_transformers()
    theirs = pipeline("text-generation", model=str(directory), device="cpu")
    model, tokenizer = load_with_tokenizer(directory, "cpu")
    theirs.model.generation_config = GenerationConfig(eos_token_id=tokenizer.eot)  # not the checkpoint's own settings
    rows, matched = [], []
    for text in PROMPTS:
        prompt = tokenizer.decode(tokenizer.encode(text)[:tokens])  # so that it fits the context
        for goal, changed in GOALS.items():
            settings = DEFAULTS | {"max_new_tokens": tokens, "seed": seed} | changed
            shared = {name: settings[name] for name in ("top_k", "top_p", "repetition_penalty")}
            sampling = Sampling(temperature=settings["temperature"] if settings["do_sample"] else 0.0, **shared)
            ours = complete(model, tokenizer, prompt, tokens, sampling, seed=seed)
            matched.append(_row(theirs, goal, None, prompt, settings, ours))
            if text == PROMPTS[0]:
                rows += [matched[-1], *_defaults_one_by_one(theirs, goal, prompt, settings, ours)]
    differing = sum(row["outcome"] != SAME for row in matched) / len(matched)
    return rows, Case("our checkpoint", "texts", "texts of transformers.pipeline", len(matched), differing, 0.0)


def _defaults_one_by_one(theirs, goal: str, prompt: str, settings: dict, ours: str) -> Iterator[dict]:
    """Runs the pipeline with each setting in turn left at its default.

    The first goal also has a run with all settings left but the number of tokens, whose default may exceed the context.
    """
    if goal == GREEDY:
        length = {"max_new_tokens": settings["max_new_tokens"]}
        yield _row(theirs, goal, "all", prompt, DEFAULTS | length, ours)
    for name, value in settings.items():
        if value != DEFAULTS[name] and (name != "seed" or settings["do_sample"]):
            yield _row(theirs, goal, name, prompt, settings | {name: DEFAULTS[name]}, ours)


def _row(theirs, goal: str, left: str | None, prompt: str, settings: dict, ours: str) -> dict:
    """Runs the pipeline once under `settings` and compares its text with ours."""
    passed = {name: value for name, value in settings.items() if name != "seed" and value != DEFAULTS[name]}
    try:
        with torch.random.fork_rng():
            torch.manual_seed(settings["seed"])
            (result,) = theirs(prompt, return_full_text=False, **passed)
        text = result["generated_text"]
        outcome = SAME if text == ours else LONGER if text.startswith(ours) else OTHER
    except IndexError:  # a position beyond the position embedding
        text, outcome = "", ERROR
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, ours, strict=False)))
    return {"goal": goal, "left": left, **settings, "outcome": outcome, "same": same, "text": text, "ours": ours}
