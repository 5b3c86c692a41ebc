"""Instruction tuning: the loss falls, the best weights are kept, adapters merge."""

import pytest

from gpt2.adapters import lora
from gpt2.config.params import InstructionParams
from gpt2.instruction.finetune import Instructed, finetune
from gpt2.instruction.responses import ResponseModel, Responses, losses
from tests.instruction.rows import BLOCK, LONG, ROWS, TOKENIZER
from tests.small import ALONE, OPTIM, RUN, small_model

LORA = {"rank": 4, "alpha": 8.0, "targets": ["attn.c_attn", "mlp.c_fc"]}


def params(**changes) -> InstructionParams:
    optim = {key: value for key, value in OPTIM.items() if key in InstructionParams.model_fields}
    return InstructionParams(**{**optim, "lora": LORA, **changes})


def tuned(scratch, world=ALONE, **changes) -> Instructed:
    """A small model, tuned on the rows."""
    return finetune(
        small_model(vocab_size=257, block_size=BLOCK, dropout=0.0),
        TOKENIZER,
        {"train": [*ROWS * 8, LONG], "val": ROWS},
        params(**changes),
        source=scratch,
        seed=0,
        scratch=scratch,
        **{**RUN, "world": world},
    )


def loss_and_bits(model) -> dict[str, float]:
    data = Responses(ROWS, TOKENIZER, BLOCK, "val.jsonl")
    found = losses(ResponseModel(model.eval()), data, 4, ALONE)
    return {"val_loss": found["loss"], "val_bits_per_byte": found["bits_per_byte"]}


@pytest.mark.parametrize(("method", "precision"), [("full", "float32"), ("lora", "auto")])
def test_tuning_lowers_the_loss_of_responses(tmp_path, method, precision):
    metrics = tuned(tmp_path, method=method, steps=40, lr=0.02, precision=precision).metrics
    assert metrics["val_loss"] < 0.85 * metrics["val_loss_before"]
    ratio = metrics["val_bits_per_byte"] / metrics["val_bits_per_byte_before"]
    assert ratio == pytest.approx(metrics["val_loss"] / metrics["val_loss_before"])
    assert (metrics["skipped_train"], metrics["skipped_val"]) == (1, 0)
    assert (metrics["trainable_share"] == 1.0) == (method == "full")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_weights_of_the_lowest_loss_are_kept_and_patience_ends_training(tmp_path, method):
    """A learning rate at which the loss soon rises."""
    done = tuned(tmp_path, method=method, steps=200, lr=0.5, eval_every=1, patience=2)
    by_step = {row["step"]: row["loss"] for row in done.history.val}
    assert done.metrics["best_step"] == min(by_step, key=by_step.get) == max(by_step) - 2 < 198
    assert done.metrics["val_loss"] == min(by_step.values())
    kept = {name: done.metrics[name] for name in ("val_loss", "val_bits_per_byte")}
    assert kept == pytest.approx(loss_and_bits(done.model), rel=1e-5)


def test_lora_ends_with_a_plain_model_and_its_adapters(tmp_path):
    """Adapters as large as the weights, so that the model before and the one after merging would tell them apart."""
    done = tuned(tmp_path, method="lora", steps=8, lr=0.1)
    assert not list(lora.adapters(done.model))
    merged = loss_and_bits(done.model)
    for name, adapter in done.adapters.items():
        done.model.set_submodule(name, adapter)
    assert list(lora.adapters(done.model)) and loss_and_bits(done.model) == pytest.approx(merged, rel=1e-3)
