"""Why `transformers.pipeline` writes another text than ours: by experiment, one setting at a time.

Three texts of ours are the goals: greedy, drawn with the pipeline's own settings, and drawn with other ones. For each
the pipeline is told every setting of ours; then each setting that differs from the pipeline's default is left at the
default, alone. Where its text then is another one, that setting is responsible.
"""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import torch

from gpt2.evaluation.parity.cases import Case
from gpt2.evaluation.parity.pairs import quiet
from gpt2.generation.generate import complete
from gpt2.generation.sampling import Sampling
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.model.gpt import GPT
from gpt2.tokenizer.tokenizer import Tokenizer

# What transformers' pipeline does when it is told nothing: temperature and length are its own, top_k that of
# `generate`. It draws from torch's generator in whatever state that is: seed 0 stands for it.
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
GOALS = {  # ours: what differs from the defaults, besides the number of tokens and the seed
    GREEDY: {"do_sample": False},
    "drawn, the pipeline's settings": {},
    "drawn, other settings": {"temperature": 1.2, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.1},
}
PROMPTS = ("Returns the", "The cat sat on", "If x is None,")
SAME, LONGER, OTHER, ERROR = "the same text", "the same, and more", "another text", "an error: the context is full"


def experiment(directory: Path, prompt_tokens: int, new_tokens: int, seed: int) -> tuple[list[dict], Case]:
    """Runs the pipeline, given nothing but the directory, beside our engine.

    Returns a row for each run of the pipeline on the first prompt, and the case that counts over PROMPTS and GOALS the
    texts that differ although every setting is the same. A row has the goal, the setting left at its default (None, or
    `all` where the pipeline is told nothing), the settings in force, what the pipeline's text is beside ours
    (`outcome`), how many characters after the prompt it shares with ours (`same`), and the texts of both.
    """
    from transformers import pipeline

    with quiet():
        theirs = pipeline("text-generation", model=str(directory), device="cpu")
        model, tokenizer = load_with_tokenizer(directory, "cpu")
        own = {"max_new_tokens": new_tokens, "seed": seed}
        rows, told_all = [], []
        for number, text in enumerate(PROMPTS):
            prompt = tokenizer.decode(tokenizer.encode(text)[:prompt_tokens])  # so that it fits the context
            for goal, changed in GOALS.items():
                settings = DEFAULTS | own | changed
                ours = _ours(model, tokenizer, prompt, settings)
                told_all.append(_row(theirs, goal, None, prompt, settings, ours))
                if number == 0:
                    rows += [told_all[-1], *_one_left_by_one(theirs, goal, prompt, settings, ours)]
    differing = sum(row["outcome"] != SAME for row in told_all) / len(told_all)
    return rows, Case("our checkpoint", "texts", "texts of transformers.pipeline", len(told_all), differing, 0.0)


def _one_left_by_one(theirs, goal: str, prompt: str, settings: dict, ours: str) -> Iterator[dict]:
    """The pipeline with one setting after the other left at its default; for the first goal also with all but one: its
    number of tokens may be more than the context has room for."""
    if goal == GREEDY:
        length = {"max_new_tokens": settings["max_new_tokens"]}
        yield _row(theirs, goal, "all", prompt, DEFAULTS | length, ours)
    for name, value in settings.items():
        if value != DEFAULTS[name] and (name != "seed" or settings["do_sample"]):
            yield _row(theirs, goal, name, prompt, settings | {name: DEFAULTS[name]}, ours)


def _ours(model: GPT, tokenizer: Tokenizer, prompt: str, settings: dict) -> str:
    """Our continuation."""
    sampling = Sampling(
        temperature=settings["temperature"] if settings["do_sample"] else 0.0,
        top_k=settings["top_k"],
        top_p=settings["top_p"],
        repetition_penalty=settings["repetition_penalty"],
    )
    return complete(model, tokenizer, prompt, settings["max_new_tokens"], sampling, seed=settings["seed"])


def _row(theirs, goal: str, left: str | None, prompt: str, settings: dict, ours: str) -> dict:
    """One run of the pipeline under `settings`, beside our text."""
    passed = {name: value for name, value in settings.items() if name != "seed" and value != DEFAULTS[name]}
    try:
        with torch.random.fork_rng():
            torch.manual_seed(settings["seed"])
            (result,) = theirs(prompt, return_full_text=False, **passed)
        text = result["generated_text"]
        outcome = SAME if text == ours else LONGER if text.startswith(ours) else OTHER
    except IndexError:  # a position that the model has no embedding for
        text, outcome = "", ERROR
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, ours, strict=False)))
    return {"goal": goal, "left": left, **settings, "outcome": outcome, "same": same, "text": text, "ours": ours}
