"""The verdict table: each claim of the page beside its reference, decided by a rule that stands here."""

import math
from dataclasses import dataclass

INITIAL_LOSS_TOLERANCE = 0.15  # nats: what GPT-2's initialization leaves between the first loss and ln V
VAL_LOSS_MARGIN = 1.8  # nats below what token frequencies alone reach
ACCURACY_MARGIN = 0.25  # above always answering the commonest label
RESPONSE_LOSS = 0.85  # of that before tuning
CHANCE = 0.25  # of four endings
STANDARD_ERRORS = 2  # above chance
OPENAI_REPO = "openai-community/gpt2"
HELLASWAG = {"repo": "Rowan/hellaswag", "split": "validation", "n": 10042}
# OpenAI's 124M on the whole of it: in completion style as in build-nanogpt, and by lm-evaluation-harness.
HELLASWAG_REFERENCES = {
    "completion": {"prefix": "", "acc": 0.2859, "acc_norm": 0.2955, "norm": "mean a token"},
    "harness": {"prefix": "harness_", "acc": 0.2892, "acc_norm": 0.3114, "norm": "sum a character"},
}
HELLASWAG_TOLERANCE = 0.002  # covers rounding near ties
# Nats a token of OpenAI's 124M over windows of 1,024 tokens, on the documents that others held out of samples of ten
# billion tokens: of FineWeb in llm.c, of FineWeb-Edu in build-nanogpt.
LOSS_REFERENCES = {"HuggingFaceFW/fineweb": ("FineWeb", 3.425), "HuggingFaceFW/fineweb-edu": ("FineWeb-Edu", 3.292)}
LOSS_SELECTION = {"config": "sample-10BT", "split": "train"}
LOSS_WINDOW = 1024
OPENAI_TOKENIZER = "af0cef9ba46f5448ba140da917cbe92e677a268d56c731855633f7db19bc7bcf"  # fingerprint of its vocabulary

PASS, FAIL, NOT_RUN = "pass", "fail", "not run"


@dataclass(frozen=True)
class Verdict:
    """One row; `name` is the claim's for programs."""

    name: str
    claim: str
    ours: str
    n: int | None  # of examples or values compared, where the figure has a number of them
    reference: str
    same_protocol: str
    status: str


def verdicts(data: dict) -> list[Verdict]:
    """Decides every claim; `data` is that of the page."""
    return [
        *_pretraining(data["pretrain"]["metrics"]),
        _classification(data["classification"]["metrics"]),
        _instruction(data["instruction"]["metrics"]),
        _completion(data["hellaswag"]["metrics"]),
        *_parity(data["parity"]["metrics"], data["parity"]["cases"]),
        *(_openai(data, protocol) for protocol in HELLASWAG_REFERENCES),
    ]


def _status(passed: bool) -> str:
    return PASS if passed else FAIL


def _share(value: float, stderr: float) -> str:
    return f"{value:.3f} ± {stderr:.3f}"


def _pretraining(metrics: dict) -> list[Verdict]:
    initial, uniform = metrics["initial_loss"], math.log(metrics["vocab_size"])
    loss, limit = metrics["val_loss"], metrics["unigram_entropy"] - VAL_LOSS_MARGIN
    fresh = metrics["init"] == "scratch"
    return [
        Verdict(
            name="initial_loss",
            claim="Before training the model takes every token for equally likely: its loss is ln V",
            ours=f"{initial:.3f}",
            n=None,
            reference=f"ln {metrics['vocab_size']:,} = {uniform:.3f}, within {INITIAL_LOSS_TOLERANCE}",
            same_protocol="yes: follows from V" if fresh else "no: the weights were trained before",
            status=_status(abs(initial - uniform) <= INITIAL_LOSS_TOLERANCE) if fresh else NOT_RUN,
        ),
        Verdict(
            name="context",
            claim="Training taught it context: validation loss is far below what token frequencies alone reach",
            ours=f"{loss:.3f}",
            n=None,
            reference=f"{metrics['unigram_entropy']:.3f} − {VAL_LOSS_MARGIN} = {limit:.3f} or less",
            same_protocol="yes: same split",
            status=_status(loss <= limit),
        ),
    ]


def _classification(metrics: dict) -> Verdict:
    limit = metrics["majority_accuracy"] + ACCURACY_MARGIN
    return Verdict(
        name="classification",
        claim="Fine-tuned, it classifies texts far better than always answering the commonest label",
        ours=_share(metrics["accuracy"], metrics["accuracy_stderr"]),
        n=metrics["n"],
        reference=f"{metrics['majority_accuracy']:.3f} + {ACCURACY_MARGIN:.2f} = {limit:.3f} or more",
        same_protocol="yes: same test texts",
        status=_status(metrics["accuracy"] >= limit),
    )


def _instruction(metrics: dict) -> Verdict:
    limit = RESPONSE_LOSS * metrics["test_loss_before"]
    return Verdict(
        name="instructions",
        claim="Fine-tuning on instructions lowers the loss of responses that it has not seen by 15% or more",
        ours=f"{metrics['test_loss']:.3f}",
        n=metrics["test_examples"],
        reference=f"{RESPONSE_LOSS} * {metrics['test_loss_before']:.3f} = {limit:.3f} or less",
        same_protocol="yes: same test examples",
        status=_status(metrics["test_loss"] <= limit),
    )


def _completion(metrics: dict) -> Verdict:
    value, stderr = metrics["acc_norm"], metrics["acc_norm_stderr"]
    return Verdict(
        name="completions",
        claim="It finds the true one of four next sentences more often than chance would",
        ours=_share(value, stderr),
        n=metrics["n"],
        reference=f"more than {CHANCE} by {STANDARD_ERRORS} standard errors",
        same_protocol="yes: same examples",
        status=_status(value - STANDARD_ERRORS * stderr > CHANCE),
    )


def _parity(metrics: dict, cases: list[dict]) -> list[Verdict]:
    """Each row's own tolerance, which the table holds, decides it."""
    whole = "yes: same weights and tokens"
    return [
        _cases_verdict(
            "logits",
            "transformers computes the same logits from the same weights",
            f"{metrics['max_abs_logit_diff']:.1e} at most",
            cases,
            "logits",
            whole,
        ),
        _cases_verdict(
            "gradients",
            "Its gradients are the same, parameter by parameter",
            f"{metrics['max_gradient_diff']:.1e} of a gradient at most",
            cases,
            "gradients",
            whole,
        ),
        _cases_verdict(
            "greedy_tokens",
            "transformers continues every prompt with the same greedy tokens",
            f"{metrics['greedy_match']:.3f}",
            cases,
            "greedy tokens",
            whole,
        ),
        _cases_verdict(
            "sampled_tokens",
            "It draws the same tokens with the same random numbers: temperature, top-k, top-p, repetition penalty",
            f"{metrics['sampled_match']:.3f}",
            cases,
            "sampled tokens",
            f"{whole}, same seeds",
        ),
        _cases_verdict(
            "parity",
            "Every comparison with transformers agrees: residual stream, loss, bfloat16, tokenizer, text, shapes too",
            f"{_passed(cases)} of {len(cases)} cases",
            cases,
            None,
            "yes",
        ),
    ]


def _cases_verdict(
    name: str, claim: str, ours: str, cases: list[dict], kind: str | None, same_protocol: str
) -> Verdict:
    """A claim about all cases of a kind, or about all: each within its tolerance."""
    of = [case for case in cases if kind in (None, case["kind"])]
    largest = max(float(case["tolerance"]) for case in of)
    return Verdict(
        name=name,
        claim=claim,
        ours=ours,
        n=sum(int(case["compared"]) for case in of) if kind else len(of),
        reference=("all" if not kind else f"{largest:g} or less" if largest else "1.000"),
        same_protocol=same_protocol,
        status=_status(_passed(of) == len(of)),
    )


def _passed(cases: list[dict]) -> int:
    return sum(case["passed"] == "True" for case in cases)


def loss_reference(data: dict) -> tuple[str, float] | None:
    """The name of the corpus, and the loss that others measured for OpenAI's 124M on documents held out of it: where
    the corpus is that sample, and the tokens and the windows over which the loss is a mean are OpenAI's."""
    corpus, tokens = data["sets"]["corpus"], data["tokens"]
    same = (
        corpus.get("selection") == LOSS_SELECTION
        and tokens["tokenizer"] == OPENAI_TOKENIZER
        and data["pretrain"]["metrics"]["block_size"] == LOSS_WINDOW
    )
    return LOSS_REFERENCES.get(corpus.get("repo")) if same else None


def is_whole_hellaswag(data: dict) -> bool:
    """Whether the completions are all of HellaSwag's validation set, for which others have published scores."""
    completions, n = data["sets"]["hellaswag"], data["hellaswag"]["metrics"]["n"]
    whole = completions.get("repo") == HELLASWAG["repo"] and completions["selection"]["split"] == HELLASWAG["split"]
    return whole and n == HELLASWAG["n"]


def _openai(data: dict, protocol: str) -> Verdict:
    """OpenAI's own weights under a protocol that others measured, if that is what the page is about."""
    model, metrics = data["pretrain"]["metrics"], data["hellaswag"]["metrics"]
    differences = [
        difference
        for difference, found in {
            "the completions are not all of HellaSwag's validation set": not is_whole_hellaswag(data),
            "the model is not OpenAI's, unchanged": data["gpt2"].get("repo") != OPENAI_REPO
            or model["init"] != "gpt2"
            or model["steps"] > 0,
        }.items()
        if found
    ]
    reference = HELLASWAG_REFERENCES[protocol]
    expected, how = reference["acc_norm"], f"{protocol} protocol, {reference['norm']}"
    value, stderr = (metrics[f"{reference['prefix']}{name}"] for name in ("acc_norm", "acc_norm_stderr"))
    return Verdict(
        name=f"openai_{protocol}",
        claim=f"OpenAI's GPT-2 124M scores on HellaSwag what others measured for it ({protocol})",
        ours="not measured" if differences else _share(value, stderr),
        n=None if differences else metrics["n"],
        reference=f"{expected} by {reference['norm']}, within {HELLASWAG_TOLERANCE}",
        same_protocol=f"no: {'; '.join(differences)}" if differences else f"yes: {how}",
        status=NOT_RUN if differences else _status(abs(value - expected) <= HELLASWAG_TOLERANCE),
    )
