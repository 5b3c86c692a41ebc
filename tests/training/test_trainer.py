"""The training loop: it learns, and neither interruption nor the cut into micro-batches changes what it learns."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt2.common.errors import InputError
from gpt2.config.params import MachineParams, OptimParams
from gpt2.model.gpt import GPT
from gpt2.runtime.precision import resolve
from gpt2.runtime.world import world
from gpt2.training.batches import BatchOrder
from gpt2.training.history import SPIKE_DEVIATIONS, SPIKE_WINDOW, is_spike
from gpt2.training.loss import mean_loss
from gpt2.training.optim import constant_steps
from gpt2.training.resume import CONSTANT, read_state
from gpt2.training.trainer import Trainer
from gpt2.training.work import micro_batches, share
from tests.small import ALONE, CONFIG, MACHINE, OPTIM


class NoFloat64(TorchDispatchMode):
    """Fails where a tensor of float64 is made."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64]
        assert not made, f"{func} makes float64"
        return out


class Counting:
    """Windows of a counting sequence: the next token is this one plus one."""

    lengths = None

    def __init__(self, n: int = 40):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def batch(self, ids):
        tokens = torch.from_numpy((np.asarray(ids)[:, None] * 7 + np.arange(17)) % 50)
        return tokens[:, :-1], tokens[:, 1:]

    def targets(self, ids) -> int:
        return len(ids) * 16


def trainer(
    scratch, evaluate=None, world=ALONE, dropout=CONFIG.dropout, code=None, log=None, options=None, **changes
) -> Trainer:
    """A trainer with these changes to OPTIM and MACHINE, and these other `options`."""
    torch.manual_seed(0)
    model, data = GPT(CONFIG.model_copy(update={"dropout": dropout})).eval(), Counting()  # eval: as checkpoints load
    return Trainer(
        model,
        data,
        OptimParams(**{**OPTIM, **{key: value for key, value in changes.items() if key not in MACHINE}}),
        machine=MachineParams(**{**MACHINE, **{key: value for key, value in changes.items() if key in MACHINE}}),
        world=world,
        seed=5,
        scratch=scratch,
        code=code or {"loop.py": "1"},
        evaluate=evaluate or (lambda model, batch_size: {"loss": mean_loss(model, data, 8, world)}),
        log=log or (lambda split, row: None),
        compile=True,
        **(options or {}),
    )


def before_step(run: Trainer, number: int, action: Callable[[], None]) -> None:
    """Has `run` call `action` between the backward pass of that step and its update of the weights."""
    update = run.optimizer.step

    def step() -> None:
        if run.step == number:
            action()
        update()

    run.optimizer.step = step


def interrupted(run: Trainer, at: int) -> None:
    """Trains until step `at`, and no further."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    before_step(run, at, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.fit()


def test_it_learns_and_reports_each_step(tmp_path, capsys):
    history = trainer(tmp_path, steps=60).fit()
    assert history.val[0]["loss"] == pytest.approx(np.log(300), abs=0.15)
    assert history.val[-1]["loss"] < 1.0
    assert [row["step"] for row in history.val] == [*range(0, 60, 4), 60]
    assert [row["step"] for row in history.train] == list(range(60))
    assert history.train[-1]["targets"] == 60 * 8 * 16
    line = r"train: 100% 60/60 \[.*step/s, loss=[\d.]+, lr=[\d.e-]+, norm=[\d.]+, ms=\d+, tok/s=[\d,]+\]"
    assert re.search(line, capsys.readouterr().err)


def distance_from_3_5(model, batch_size) -> dict[str, float]:
    """A figure whose minimum lies within the run: at step 8."""
    return {"loss": abs(mean_loss(model, Counting(), 8, ALONE) - 3.5)}


@pytest.mark.parametrize(
    ("threads", "options"),
    [
        (2, {"optimizer": "adamw"}),  # two threads must not add up in any order
        (1, {"optimizer": "muon"}),
        (1, {"compile": "auto", "precision": "auto", "dropout": 0.0}),
        (1, {"options": {"keep_best": True, "patience": 2}, "evaluate": distance_from_3_5, "steps": 40}),
    ],
    ids=["adamw", "muon", "compiled", "best kept"],
)
def test_a_run_killed_at_any_step_ends_with_the_same_bits(tmp_path, threads, options):
    with world():
        torch.set_num_threads(threads)
        whole = trainer(tmp_path / "whole", **options)
        whole.fit()
        for stop in (7,) if "compile" in options else (3, 7, 11):  # before the first checkpoint, after it, after two
            interrupted(trainer(tmp_path / "parts", **options), at=stop)
        last = trainer(tmp_path / "parts", **options)
        last.fit()
    assert last.history.train == whole.history.train
    assert last.history.val == whole.history.val
    if "options" in options:
        assert (last.history.best_step, last.history.step) == (8, 16)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, last.model.state_dict()[name]), name


def test_the_world_restores_the_settings_of_torch():
    before = torch.get_num_threads()
    with pytest.raises(InputError), world():
        torch.set_num_threads(before + 1)
        assert torch.are_deterministic_algorithms_enabled()
        raise InputError("an error")
    assert torch.get_num_threads() == before and not torch.are_deterministic_algorithms_enabled()


def scripted(losses: list[float], weights: list[torch.Tensor] | None = None):
    """An `evaluate` that returns these losses and records the weights at each call."""
    given = iter(losses)

    def evaluate(model, batch_size) -> dict[str, float]:
        if weights is not None:
            weights.append(model.wte.weight.clone())
        return {"loss": next(given)}

    return evaluate


def test_the_weights_of_the_lowest_validation_loss_are_kept(tmp_path):
    shown: list[torch.Tensor] = []
    run = trainer(tmp_path, scripted([5.0, 2.0, 2.0, 3.0], shown), options={"keep_best": True})
    frozen = run.model.wpe.weight.requires_grad_(False).clone()
    history = run.fit()
    assert history.best_step == 4 and history.step == 12  # the first of equals; no patience, so to the end
    assert torch.equal(run.model.wte.weight, shown[1]) and not torch.equal(shown[1], shown[3])
    assert torch.equal(run.model.wpe.weight, frozen) and "wpe.weight" not in run.best


def test_without_keep_best_the_last_weights_stay(tmp_path):
    shown: list[torch.Tensor] = []
    run = trainer(tmp_path, scripted([5.0, 2.0, 3.0, 4.0], shown))
    assert run.fit().best_step == 4
    assert torch.equal(run.model.wte.weight, shown[3]) and not run.best


@pytest.mark.parametrize(
    ("losses", "patience", "end"),
    [
        ([5, 4, 3, 2, 1], 1, 16),
        ([5, 4, 4, 4, 4], 2, 12),  # an equal loss is not lower
        ([5, 6, 4, 6, 6], 2, 16),  # the count restarts
        ([5, 6, 6, 6, 6], 1, 4),
        ([5, 6, 6, 6, 6], None, 16),
    ],
)
def test_training_ends_when_patience_does(tmp_path, capsys, losses, patience, end):
    history = trainer(tmp_path, scripted(losses), options={"patience": patience}, steps=16).fit()
    assert history.step == len(history.train) == history.val[-1]["step"] == end
    message = f"training ends at step {end}: no lower validation loss in {patience} evaluations"
    assert (message in capsys.readouterr().err) == (end < 16)


def test_micro_batches_do_not_change_the_curve(tmp_path):
    curves = []
    for size in (8, 4, 1):
        run = trainer(tmp_path / str(size), micro_batch_size=size, steps=30, dropout=0.0)
        curves.append([row["loss"] for row in run.fit().train])
    np.testing.assert_allclose(curves[0], curves[1], atol=1e-4)
    np.testing.assert_allclose(curves[0], curves[2], atol=1e-4)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize(("batch_size", "size"), [(8, 1), (8, 2), (8, 99), (7, 2), (3, 1)])
def test_a_step_has_the_same_samples_however_it_is_shared(tmp_path, processes, batch_size, size):
    """The micro-batches of the processes, taken in turn, are the global batches."""
    read = []
    for rank in range(processes):
        run = trainer(
            tmp_path, world=dataclasses.replace(ALONE, rank=rank, size=processes), batch_size=batch_size, steps=7
        )
        run.data.batch = lambda ids: (torch.tensor(ids), torch.tensor(ids))
        parts = share(run.data, run.order, range(7), micro_batches(batch_size, processes, size), run.world)
        read.append([part.inputs if part.counts else part.inputs[:0] for part in parts])
    in_order = torch.cat([ids for turn in zip(*read, strict=True) for ids in turn])
    order = BatchOrder(40, batch_size, seed=5)
    np.testing.assert_array_equal(in_order, np.concatenate([order.ids(step) for step in range(7)]))  # two epochs


@pytest.mark.skipif(resolve("auto", ALONE.device) == "float32", reason="the processor does not support bfloat16")
@pytest.mark.parametrize(("compile", "dropout"), [("never", 0.1), ("auto", 0.0)])
def test_bfloat16_keeps_to_the_curve_of_float32(tmp_path, compile, dropout):
    exact = trainer(tmp_path / "exact", dropout=dropout, steps=40).fit()
    rounded = trainer(tmp_path / "rounded", precision="bfloat16", compile=compile, dropout=dropout, steps=40).fit()
    curves = ([row["loss"] for row in history.train] for history in (rounded, exact))
    np.testing.assert_allclose(*curves, atol=0.02)


def test_divergence_stops_the_run_and_names_the_last_good_checkpoint(tmp_path):
    run = trainer(tmp_path)
    before_step(run, 6, lambda: torch.nn.init.constant_(run.model.wte.weight, float("nan")))
    with pytest.raises(InputError, match=r"diverged at step 7: loss nan.*learning rate.*step_00000005\.pt"):
        run.fit()
    weights = run.checkpoints.load()["model"].values()
    assert all(tensor.isfinite().all() for tensor in weights)


def test_an_error_names_a_checkpoint_of_another_model(tmp_path):
    begun = trainer(tmp_path)
    begun.checkpoints.save(5, {"model": {"wte.weight": torch.zeros(2)}})
    with pytest.raises(InputError, match=r"step_00000005\.pt: not a checkpoint of this run; delete it"):
        begun.fit()


def test_a_loss_spike_is_reported_when_it_happens(tmp_path, capsys):
    run = trainer(tmp_path, steps=60)
    before_step(run, 58, lambda: run.model.wte.weight.data.mul_(30))
    assert run.fit().loss_spikes == 1
    spikes = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "spike" in line]
    assert len(spikes) == 1 and spikes[0].startswith("loss spike at step 59: ")


def test_a_spike_exceeds_the_losses_of_the_window_before():
    losses = np.random.default_rng(0).normal(3, 0.1, SPIKE_WINDOW)
    limit = losses.mean() + SPIKE_DEVIATIONS * losses.std()
    for last, expected in ((limit + 1e-9, True), (limit - 1e-9, False)):
        assert is_spike([{"loss": loss} for loss in (9, *losses, last)]) == expected
    assert not is_spike([{"loss": loss} for loss in (*losses[1:], 100)])  # too early to tell


def test_weights_that_are_not_finite_are_reported_before_training(tmp_path):
    begun = trainer(tmp_path)
    with torch.no_grad():
        begun.model.wte.weight[0, 0] = np.nan
    with pytest.raises(InputError, match=r"the validation loss at step 0 is not finite: nan"):
        begun.fit()


@pytest.mark.parametrize(
    ("batch_size", "processes", "limit", "expected"),
    [(8, 1, 4, 2), (8, 2, 4, 2), (8, 2, 99, 2), (7, 2, 4, 2), (9, 2, 4, 4), (1, 2, 4, 2), (512, 8, 32, 16)],
)
def test_a_batch_is_divided_into_few_micro_batches_of_at_most_the_limit(batch_size, processes, limit, expected):
    assert micro_batches(batch_size, processes, limit) == expected
    assert max(map(len, np.array_split(np.arange(batch_size), expected))) <= limit


def test_a_sample_that_only_fills_in_does_not_count(tmp_path):
    """Process 1 of 2 has no sample of its own in a batch of one: its gradient is zero, and so is its loss."""
    run = trainer(tmp_path, world=dataclasses.replace(ALONE, rank=1, size=2), batch_size=1, steps=1)
    (part,) = share(run.data, run.order, [0], 2, run.world)
    loss = run.model(part.inputs, part.targets) / part.n_targets * part.counts
    loss.backward()
    assert loss == 0 and all(not parameter.grad.any() for parameter in run.model.parameters())


def test_each_row_is_logged_when_it_is_known_and_again_on_resume(tmp_path):
    rows: list[tuple[str, int]] = []

    def log(split, row):
        rows.append((split, row["step"]))

    interrupted(trainer(tmp_path, log=log), at=7)
    begun = [("val", 0), *(("train", n) for n in range(4)), ("val", 4), *(("train", n) for n in range(4, 6))]
    assert rows == begun
    rows.clear()
    trainer(tmp_path, log=log, steps=12).fit()  # from the checkpoint at step 5
    assert rows[:7] == [*(("train", n) for n in range(5)), ("val", 0), ("val", 4)]
    assert rows[7:] == [
        *(("train", n) for n in range(5, 8)),
        ("val", 8),
        *(("train", n) for n in range(8, 12)),
        ("val", 12),
    ]


def test_other_code_goes_on_and_the_history_names_the_step(tmp_path, capsys):
    interrupted(trainer(tmp_path), at=7)
    run = trainer(tmp_path, code={"loop.py": "2"})
    assert run.fit().code_changed_at_step == [5]
    assert "training resumes at step 5; the code changed since then: loop.py" in capsys.readouterr().err
    again = trainer(tmp_path, code={"loop.py": "2"})  # finished: only what follows training is done again
    assert again.fit().code_changed_at_step == [5] and again.history.train == run.history.train


def test_a_checkpoint_of_earlier_code_continues(tmp_path):
    """It lacks the scale of float16 and the setting of recomputation, which were added later."""
    interrupted(trainer(tmp_path), at=7)
    run = trainer(tmp_path)
    (path, *_) = run.checkpoints.paths()
    state = read_state(path)
    del state["scaler"], state["conditions"]["recompute"]
    torch.save(state, path)
    assert run.fit().step == 12 and run.resolved["recompute"] is False


def test_how_the_work_was_begun_stays_but_a_smaller_micro_batch_takes_effect(tmp_path, capsys):
    interrupted(trainer(tmp_path, micro_batch_size=2), at=7)
    larger = trainer(tmp_path, micro_batch_size=8)
    larger.fit()
    assert larger.resolved["micro_batch_size"] == 2
    assert "micro_batch_size stays 2, as when this run began (now 8)" in capsys.readouterr().err
    smaller = trainer(tmp_path, micro_batch_size=1)
    assert smaller.fit().conditions_changed_at_step == [12]
    assert smaller.resolved["micro_batch_size"] == 1
    assert "micro_batch_size is 1, was 2" in capsys.readouterr().err


def test_training_makes_no_float64_on_the_device_which_mps_lacks(tmp_path):
    with NoFloat64():
        assert trainer(tmp_path, steps=4).fit().step == 4


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_longer_wsd_run_from_the_end_of_the_constant_phase_has_the_same_bits(tmp_path, optimizer):
    options = {"schedule": "wsd", "optimizer": optimizer, "decay_rate": 0.5}
    with world():
        whole = trainer(tmp_path / "whole", steps=24, **options)
        whole.fit()
        short = trainer(tmp_path / "short", steps=12, min_lr_rate=0.3, **options)
        short.fit()
        state = read_state(tmp_path / "short" / CONSTANT)
        assert state["history"]["step"] == constant_steps(short.params) == 6
        begun = trainer(tmp_path / "longer", steps=24, options={"start": lambda conditions: state}, **options)
        interrupted(begun, at=17)
        longer = trainer(tmp_path / "longer", steps=24, **options)
        longer.fit()
    assert begun.step == 17 and longer.history.train == whole.history.train
    assert longer.history.val == whole.history.val
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, longer.model.state_dict()[name]), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_float16_keeps_to_the_curve_of_float32(tmp_path, optimizer):
    exact = trainer(tmp_path / "exact", dropout=0.0, steps=40, optimizer=optimizer).fit()
    run = trainer(tmp_path / "scaled", dropout=0.0, steps=40, optimizer=optimizer, precision="float16")
    assert run.scaler.get_scale() > 1
    curves = ([row["loss"] for row in history.train] for history in (run.fit(), exact))
    np.testing.assert_allclose(*curves, atol=0.05)
    assert run.history.skipped_steps == 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_whose_scaled_gradient_overflows_changes_nothing_and_lowers_the_scale(tmp_path, optimizer):
    kept = []
    options = {"snapshots": (0, 1), "snapshot": lambda model, step: kept.append(model.wte.weight.clone())}
    run = trainer(tmp_path, options=options, optimizer=optimizer, precision="float16", dropout=0.0, steps=40)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    history = run.fit()
    skipped = [row["step"] for row in history.train if row["grad_norm"] is None]
    assert skipped == list(range(len(skipped))) and 0 < history.skipped_steps == len(skipped) < 35
    assert run.scaler.get_scale() == 2.0 ** (40 - len(skipped))
    assert torch.equal(*kept) and history.train[-1]["loss"] < history.train[0]["loss"] - 1


def test_an_overflow_that_no_scale_prevents_is_a_divergence(tmp_path):
    run = trainer(tmp_path, precision="float16", steps=40)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    run.model.ln_f.weight.register_hook(lambda grad: grad * torch.inf)
    with pytest.raises(InputError, match=r"^training diverged at step 1: loss 5\.\d+, gradient norm nan"):
        run.fit()


class Full(GPT):
    """A model whose memory is full if it trains with more than `limit` samples at a time."""

    limit = 2

    def forward(self, idx, targets=None):
        if self.training and len(idx) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(idx, targets)


@pytest.mark.parametrize("steps", [0, 4])
def test_auto_finds_the_largest_micro_batch_that_fits_and_changes_no_curve(tmp_path, monkeypatch, steps):
    expected = trainer(tmp_path / "plain", steps=8, dropout=0.0).fit()
    monkeypatch.setattr("tests.training.test_trainer.GPT", Full)
    run = trainer(tmp_path / "full", steps=8, dropout=0.0)
    run.search_size = True  # as it is on a GPU
    if steps:
        interrupted(run, at=6)
        run = trainer(tmp_path / "full", steps=8, dropout=0.0)
        run.search_size = True
    history = run.fit()
    assert run.resolved["micro_batch_size"] == 2 and not history.conditions_changed_at_step
    curves = ([row["loss"] for row in history.train] for history in (history, expected))
    np.testing.assert_allclose(*curves, atol=1e-5)


def test_a_full_memory_ends_in_one_line_that_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.training.test_trainer.GPT", Full)
    with pytest.raises(InputError) as error:
        trainer(tmp_path, micro_batch_size=4).fit()
    line = "out of memory at step 0 with micro-batches of 4: set machine.micro_batch_size to 2 and run again (last good"
    assert str(error.value).startswith(line)
    run = trainer(tmp_path)
    run.search_size, run.model.limit = True, 0
    with pytest.raises(InputError, match="^out of memory with a single sample: set machine.recompute to true"):
        run.fit()
