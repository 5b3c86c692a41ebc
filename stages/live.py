"""The curve of a training run while it trains, in csv files and, on request, in TensorBoard or Weights & Biases."""

import atexit
import csv
from collections.abc import Callable, Iterable
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import csv_row
from stages.stage import Stage, root

Log = Callable[[str, dict], None]  # called with the split, train or val, and a row


def curves(stage: Stage, section: str, targets: str = "targets") -> Log:
    """Returns a function that adds a row to `reports/<section>/train.csv` or `val.csv` and to the logger.

    The files grow in their final place, so `tail -f` and `dvc plots show` show the run so far, and what they hold stays
    if the stage fails. `targets` is the name of the column of scored targets. Only the main process may call this.
    """
    paths = {split: stage.live(f"reports/{section}/{split}.csv") for split in ("train", "val")}
    columns = ("step", targets, "lr", "loss", "grad_norm")
    writers = {"train": _writer(paths["train"], columns)}  # a run of no steps has a header too
    logger = {"none": _no_logger, "tensorboard": _tensorboard, "wandb": _wandb}[stage.machine.logger](stage)

    def log(split: str, row: dict) -> None:
        row = {targets if name == "targets" else name: value for name, value in row.items()}
        if split not in writers:
            writers[split] = _writer(paths[split], row)
        writers[split].writerow(csv_row(row))
        logger(split, row)

    return log


def _writer(path: Path, columns: Iterable[str]) -> csv.DictWriter:
    """Starts a csv file whose lines reach the disk as they are written."""
    path.unlink(missing_ok=True)  # of an earlier run, if DVC did not start this one
    file = open(path, "w", encoding="utf-8", newline="", buffering=1)  # noqa: SIM115 (open as long as the stage runs)
    writer = csv.DictWriter(file, list(columns), lineterminator="\n")
    writer.writeheader()
    return writer


def _no_logger(stage: Stage) -> Log:
    return lambda split, row: None


def _tensorboard(stage: Stage) -> Log:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("machine.logger = 'tensorboard': not installed: pip install tensorboard") from None
    folder = root() / ".scratch/tensorboard" / f"{stage.name}-{stage.scratch.name}"
    writer = SummaryWriter(str(folder), purge_step=0)  # a resumed run logs its earlier rows again
    atexit.register(writer.close)

    def log(split: str, row: dict) -> None:
        for name, value in row.items():
            writer.add_scalar(f"{split}/{name}", value, row["step"])
        if split == "val":
            writer.flush()

    return log


def _wandb(stage: Stage) -> Log:
    try:
        import wandb
    except ImportError:
        raise InputError("machine.logger = 'wandb': not installed: pip install wandb") from None
    folder = root() / ".scratch"
    folder.mkdir(exist_ok=True)
    config = stage.values | {"machine": stage.machine.model_dump()}
    try:
        run = wandb.init(
            project="gpt2-laboratory", group=stage.name, name=stage.scratch.name, dir=folder, config=config
        )
    except wandb.Error as error:  # no key, or no connection
        line = str(error).splitlines()[0]
        raise InputError(
            f"machine.logger = 'wandb': {line}; WANDB_MODE=offline needs neither account nor network"
        ) from None
    for split in ("train", "val"):  # each with its own steps: a resumed run logs all rows of one, then all of the other
        run.define_metric(f"{split}/*", step_metric=f"{split}/step")
    return lambda split, row: run.log({f"{split}/{name}": value for name, value in row.items()})
