"""The same weights twice: in our model, and in that of transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt2.evaluation.parity.cases import Case, Kind
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.model.openai import OPENAI_SHAPES, openai_config

DEPTHS = {"gpt2-large": 3, "gpt2-xl": 2}  # blocks that are compared: each model would take 3 and 6 GB, and as much time


@dataclass(frozen=True)
class Pair:
    """Our GPT and their GPT2LMHeadModel, both in eval mode, under the name that the table gives them."""

    name: str
    ours: GPT
    theirs: torch.nn.Module

    def case(self, kind: Kind, quantity: str, compared: int, value: float, tolerance: float) -> Case:
        """A case of this pair."""
        return Case(self.name, kind, quantity, compared, value, tolerance)


def from_checkpoint(name: str, directory: Path) -> Pair:
    """A checkpoint on the disk, read by both."""
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel.from_pretrained(directory, local_files_only=True).eval()
    return Pair(name, checkpoint.load(directory).eval(), theirs)


def shape_of(directory: Path) -> str | None:
    """Which of OpenAI's four shapes a checkpoint has, if any."""
    config, _ = checkpoint.read_config(directory)
    return next((shape for shape in OPENAI_SHAPES if config == openai_config(shape)), None)


def openai_pair(directory: Path, shape: str) -> Pair:
    """OpenAI's weights on the disk, read by transformers; of the two largest models the first blocks."""
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel.from_pretrained(directory, local_files_only=True, n_layer=_depth(shape)).eval()
    return Pair(f"OpenAI's {shape}{_cut(shape)}", _as_ours(theirs, shape), theirs)


def random_pair(shape: str, seed: int) -> Pair:
    """A model of one of OpenAI's shapes, with random weights that transformers made, as theirs and as ours.

    A fresh model repeats one token and has no biases. This one's are random, and the matrices of its blocks five times
    as large, so that what it writes depends on everything before.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):  # their own initialization, on the CPU, would take longer than what is compared
        theirs = GPT2LMHeadModel(GPT2Config(**OPENAI_SHAPES[shape] | {"n_layer": _depth(shape)})).eval()
    theirs.to_empty(device="cpu").tie_weights()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(std=0.02 if name.endswith(("wte.weight", "wpe.weight")) else 0.1, generator=generator)
            if parameter.dim() == 1 and name.endswith("weight"):  # of a layer norm
                parameter += 1
    return Pair(f"{shape}, random weights{_cut(shape)}", _as_ours(theirs, shape), theirs)


def _depth(shape: str) -> int:
    return DEPTHS.get(shape, OPENAI_SHAPES[shape]["n_layer"])


def _cut(shape: str) -> str:
    return f", {DEPTHS[shape]} of {OPENAI_SHAPES[shape]['n_layer']} blocks" if shape in DEPTHS else ""


def _as_ours(theirs: torch.nn.Module, shape: str) -> GPT:
    """Their weights in a model of ours."""
    with torch.device("meta"):  # the parameters come from theirs: none need be initialized
        ours = GPT(openai_config(shape).model_copy(update={"n_layer": _depth(shape)}))
    checkpoint.load_state(ours, checkpoint.from_hf(theirs.state_dict()), Path("transformers.GPT2LMHeadModel"))
    return ours.eval()


def weights_case(pair: Pair) -> Case:
    """Our parameters, given back in Hugging Face's layout, are all of theirs bit by bit."""
    theirs = {name: tensor for name, tensor in pair.theirs.state_dict().items() if name != "lm_head.weight"}
    ours = pair.ours.state_dict()
    equal = 0
    for name, tensor in ours.items():  # one by one: a second copy of all of them would take much memory
        ((key, converted),) = checkpoint.to_hf({name: tensor}).items()
        equal += key in theirs and torch.equal(converted, theirs[key])
    compared = max(len(ours), len(theirs))
    return pair.case("weights", "weights, ours into transformers", compared, 1 - equal / compared, 0.0)


def shape_case(name: str, shape: str) -> Case:
    """Names and shapes of all parameters of one of OpenAI's four models; on the meta device, which takes no memory."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        ours = GPT(openai_config(shape)).state_dict()
        theirs = checkpoint.from_hf(GPT2LMHeadModel(GPT2Config(**OPENAI_SHAPES[shape])).state_dict())
    names = ours.keys() | theirs.keys()
    differing = [n for n in names if n not in ours or n not in theirs or ours[n].shape != theirs[n].shape]
    return Case(name, "shapes", "names and shapes of the whole model", len(names), len(differing) / len(names), 0.0)


@contextmanager
def quiet() -> Iterator[None]:
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
