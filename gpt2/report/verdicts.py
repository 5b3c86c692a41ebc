"""The verdict table: each claim of the page beside its reference, and the rule that decides it."""

import math
from dataclasses import dataclass
from statistics import median

INITIAL_LOSS_PER_CHANNEL = 0.0002  # nats above ln V: half of 0.02², since initial logits have variance 0.02² C
INITIAL_LOSS_TOLERANCE = 0.1  # nats; freshly initialized models start within 0.08 of the expected loss
VAL_LOSS_MARGIN = 1.8  # nats below the entropy of the token frequencies
ACCURACY_MARGIN = 0.25  # above the accuracy of always answering the most common label
RESPONSE_LOSS_RATIO = 0.85  # of the loss before tuning
CHANCE = 0.25  # one of four endings
STANDARD_ERRORS = 2  # above chance, or above another effect
INDUCTION_SCORE = 0.2  # from which a head looks like an induction head
OPENAI_REPO = "openai-community/gpt2"
HELLASWAG = {"repo": "Rowan/hellaswag", "split": "validation", "n": 10042}
# OpenAI's 124M on all of it: in completion style as build-nanogpt measured it, and by lm-evaluation-harness.
HELLASWAG_REFERENCES = {
    "completion": {"prefix": "", "acc": 0.2859, "acc_norm": 0.2955, "norm": "mean per token"},
    "harness": {"prefix": "harness_", "acc": 0.2892, "acc_norm": 0.3114, "norm": "mean per character"},
}
HELLASWAG_TOLERANCE = 0.002  # covers rounding near ties
# Nats per token of OpenAI's 124M over windows of 1,024 tokens, on documents held out of the samples of ten billion
# tokens: measured on FineWeb by llm.c, and on FineWeb-Edu by build-nanogpt.
LOSS_REFERENCES = {"HuggingFaceFW/fineweb": ("FineWeb", 3.425), "HuggingFaceFW/fineweb-edu": ("FineWeb-Edu", 3.292)}
LOSS_SELECTION = {"config": "sample-10BT", "split": "train"}
LOSS_WINDOW = 1024
OPENAI_TOKENIZER = "af0cef9ba46f5448ba140da917cbe92e677a268d56c731855633f7db19bc7bcf"  # fingerprint of its vocabulary

PASS, FAIL, NOT_RUN = "pass", "fail", "not run"


@dataclass(frozen=True)
class Verdict:
    """One row of the table."""

    name: str  # of the claim, in reports/metrics.json
    claim: str
    ours: str
    reference: str
    same_protocol: str
    status: str
    n: int | None = None  # examples, or values compared


def verdicts(data: dict) -> list[Verdict]:
    """Decides every claim; `data` is the data of the page."""
    return [
        _initial_loss(data["pretrain"]["metrics"]),
        _context(data["pretrain"]["metrics"]),
        _classification(data["classification"]["metrics"]),
        _instruction(data["instruction"]["metrics"]),
        _completion(data["hellaswag"]["metrics"]),
        _induction_head([row for row in data["attention"]["heads"] if row["model"] == "trained"]),
        *_parity(data["parity"]["metrics"], data["parity"]["cases"]),
        *(_openai(data, protocol) for protocol in HELLASWAG_REFERENCES),
    ]


def _status(passed: bool) -> str:
    return PASS if passed else FAIL


def _share(value: float, stderr: float) -> str:
    return f"{value:.3f} ± {stderr:.3f}"


def _initial_loss(metrics: dict) -> Verdict:
    from_scratch = metrics["init"] == "scratch"
    expected = math.log(metrics["vocab_size"]) + INITIAL_LOSS_PER_CHANNEL * metrics["n_embd"]
    formula = f"ln {metrics['vocab_size']:,} + {INITIAL_LOSS_PER_CHANNEL} · {metrics['n_embd']:,}"
    return Verdict(
        name="initial_loss",
        claim="Before training, the loss is ln V + 0.0002 C, with V tokens and C channels",
        ours=f"{metrics['initial_loss']:.3f}",
        reference=f"{formula} = {expected:.3f}, within {INITIAL_LOSS_TOLERANCE}",
        same_protocol="yes: follows from GPT-2's initialization" if from_scratch else "no: pretrained weights",
        status=_status(abs(metrics["initial_loss"] - expected) <= INITIAL_LOSS_TOLERANCE) if from_scratch else NOT_RUN,
    )


def _context(metrics: dict) -> Verdict:
    limit = metrics["unigram_entropy"] - VAL_LOSS_MARGIN
    return Verdict(
        name="context",
        claim="The model uses context: its validation loss is far below the entropy of the token frequencies",
        ours=f"{metrics['val_loss']:.3f}",
        reference=f"{metrics['unigram_entropy']:.3f} − {VAL_LOSS_MARGIN} = {limit:.3f} or less",
        same_protocol="yes: same tokens",
        status=_status(metrics["val_loss"] <= limit),
    )


def _classification(metrics: dict) -> Verdict:
    limit = metrics["majority_accuracy"] + ACCURACY_MARGIN
    return Verdict(
        name="classification",
        claim="The fine-tuned classifier is far better than always answering the most common label",
        ours=_share(metrics["accuracy"], metrics["accuracy_stderr"]),
        n=metrics["n"],
        reference=f"{metrics['majority_accuracy']:.3f} + {ACCURACY_MARGIN} = {limit:.3f} or more",
        same_protocol="yes: same test texts",
        status=_status(metrics["accuracy"] >= limit),
    )


def _instruction(metrics: dict) -> Verdict:
    limit = RESPONSE_LOSS_RATIO * metrics["test_loss_before"]
    return Verdict(
        name="instructions",
        claim="Instruction tuning lowers the loss on the responses of the test set by 15% or more",
        ours=f"{metrics['test_loss']:.3f}",
        n=metrics["test_examples"],
        reference=f"{RESPONSE_LOSS_RATIO} · {metrics['test_loss_before']:.3f} = {limit:.3f} or less",
        same_protocol="yes: same test examples",
        status=_status(metrics["test_loss"] <= limit),
    )


def _completion(metrics: dict) -> Verdict:
    value, stderr = metrics["acc_norm"], metrics["acc_norm_stderr"]
    return Verdict(
        name="completions",
        claim="The model picks the true one of four endings more often than chance",
        ours=_share(value, stderr),
        n=metrics["n"],
        reference=f"more than {CHANCE}, by {STANDARD_ERRORS} standard errors",
        same_protocol="yes: same examples",
        status=_status(value - STANDARD_ERRORS * stderr > CHANCE),
    )


def _induction_head(heads: list[dict]) -> Verdict:
    """Whether the head with the highest induction score is one: whether predicting repeated tokens needs it."""
    best = max(heads, key=lambda row: float(row["induction"]))
    score, repeated, text = (float(best[name]) for name in ("induction", "ablation_repeated", "ablation_text"))
    stderrs = [float(best[f"ablation_{kind}_stderr"]) for kind in ("repeated", "text")]
    typical = median(float(row["ablation_repeated"]) for row in heads)
    found = score >= INDUCTION_SCORE
    effect = f"without it {repeated:+.3f} ± {stderrs[0]:.3f} on repeated tokens, {text:+.3f} ± {stderrs[1]:.3f} on text"
    return Verdict(
        name="induction_head",
        claim="The head that looks most like an induction head is one: without it, the loss on repeated random tokens "
        "rises, and far more than on text",
        ours=f"score {score:.3f}, layer {best['layer']}, head {best['head']}{f': {effect}' if found else ''}",
        reference=f"score {INDUCTION_SCORE} or more; then more than on text by {STANDARD_ERRORS} standard errors, and "
        f"more than without the median head ({typical:+.3f})",
        same_protocol="yes: same tokens, each head replaced by its mean",
        status=_status(repeated > max(text + STANDARD_ERRORS * math.hypot(*stderrs), typical)) if found else NOT_RUN,
    )


def _parity(metrics: dict, cases: list[dict]) -> list[Verdict]:
    """One verdict per kind of comparison and one for all; every case must be within its own tolerance."""
    logits = f"{metrics['max_abs_logit_diff']:.1e} at most"
    gradients = f"{metrics['max_gradient_diff']:.1e} of a gradient at most"
    greedy, sampled = f"{metrics['greedy_match']:.3f}", f"{metrics['sampled_match']:.3f}"
    return [
        _cases("logits", "transformers computes the same logits from the same weights", logits, cases),
        _cases("gradients", "transformers computes the same gradients, parameter by parameter", gradients, cases),
        _cases("greedy tokens", "transformers continues every prompt with the same greedy tokens", greedy, cases),
        _cases("sampled tokens", "transformers samples the same tokens from the same random numbers", sampled, cases),
        Verdict(
            name="parity",
            claim="Every comparison with transformers agrees, including those of loss, bfloat16 and tokenizer",
            ours=f"{_passed(cases)} of {len(cases)} cases",
            n=len(cases),
            reference="all cases",
            same_protocol="yes: same weights and tokens",
            status=_status(_passed(cases) == len(cases)),
        ),
    ]


def _cases(kind: str, claim: str, ours: str, cases: list[dict]) -> Verdict:
    """A claim about all cases of one kind."""
    cases = [case for case in cases if case["kind"] == kind]
    tolerance = max(float(case["tolerance"]) for case in cases)
    return Verdict(
        name=kind.replace(" ", "_"),
        claim=claim,
        ours=ours,
        n=sum(int(case["compared"]) for case in cases),
        reference=f"{tolerance:g} or less" if tolerance else "1.000",
        same_protocol="yes: same weights and tokens",
        status=_status(_passed(cases) == len(cases)),
    )


def _passed(cases: list[dict]) -> int:
    return sum(case["passed"] == "True" for case in cases)


def loss_reference(data: dict) -> tuple[str, float] | None:
    """The name of the corpus and the published loss of OpenAI's 124M on documents held out of it.

    None unless corpus, tokenizer and window are those of the published measurement.
    """
    corpus = data["sets"]["corpus"]
    comparable = (
        corpus.get("selection") == LOSS_SELECTION
        and data["tokens"]["tokenizer"] == OPENAI_TOKENIZER
        and data["pretrain"]["metrics"]["block_size"] == LOSS_WINDOW
    )
    return LOSS_REFERENCES.get(corpus.get("repo")) if comparable else None


def is_whole_hellaswag(data: dict) -> bool:
    """Whether the completions are all of HellaSwag's validation split, for which published scores exist."""
    completions, n = data["sets"]["hellaswag"], data["hellaswag"]["metrics"]["n"]
    whole = completions.get("repo") == HELLASWAG["repo"] and completions["selection"]["split"] == HELLASWAG["split"]
    return whole and n == HELLASWAG["n"]


def _openai(data: dict, protocol: str) -> Verdict:
    """Compares the score of OpenAI's own weights with the published one, if the page is about those weights."""
    model, metrics = data["pretrain"]["metrics"], data["hellaswag"]["metrics"]
    differences = []
    if not is_whole_hellaswag(data):
        differences.append("the completions are not HellaSwag's whole validation split")
    if data["gpt2"].get("repo") != OPENAI_REPO or model["init"] != "gpt2" or model["steps"] > 0:
        differences.append("the weights are not OpenAI's, or were trained further")
    reference = HELLASWAG_REFERENCES[protocol]
    expected = reference["acc_norm"]
    value, stderr = (metrics[f"{reference['prefix']}{name}"] for name in ("acc_norm", "acc_norm_stderr"))
    return Verdict(
        name=f"openai_{protocol}",
        claim=f"OpenAI's GPT-2 124M reaches its published HellaSwag score ({protocol} protocol)",
        ours="not measured" if differences else _share(value, stderr),
        n=None if differences else metrics["n"],
        reference=f"{expected}, by {reference['norm']}, within {HELLASWAG_TOLERANCE}",
        same_protocol=f"no: {'; '.join(differences)}" if differences else f"yes: {protocol}, {reference['norm']}",
        status=NOT_RUN if differences else _status(abs(value - expected) <= HELLASWAG_TOLERANCE),
    )
