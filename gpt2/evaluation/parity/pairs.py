"""The same weights in our model and in transformers'."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from gpt2.evaluation.parity.cases import Case
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.model.openai import OPENAI_SHAPES, openai_config

# Of the three larger models only so many blocks are compared. More blocks of random weights amplify rounding until it
# exceeds the tolerances, and most weights of two blocks would be embeddings, so that the vocabulary is cut, too.
DEPTHS = dict.fromkeys(("gpt2-medium", "gpt2-large", "gpt2-xl"), 2)
CUT_VOCABULARY = 4096


@dataclass(frozen=True)
class Pair:
    """Our GPT and their GPT2LMHeadModel, both in eval mode, and the name of the pair in the table."""

    name: str
    ours: GPT
    theirs: torch.nn.Module

    def case(self, kind: str, quantity: str, compared: int, value: float, tolerance: float) -> Case:
        """A case of this pair."""
        return Case(self.name, kind, quantity, compared, value, tolerance)


def from_checkpoint(name: str, directory: Path) -> Pair:
    """Reads a checkpoint directory with both libraries."""
    theirs = GPT2LMHeadModel.from_pretrained(directory, local_files_only=True).eval()
    return Pair(name, checkpoint.load(directory).eval(), theirs)


def shape_of(directory: Path) -> str | None:
    """The name of the OpenAI model that has the same shape as a checkpoint, if there is one."""
    config, _ = checkpoint.read_config(directory)
    return next((shape for shape in OPENAI_SHAPES if config == openai_config(shape)), None)


def openai_pair(directory: Path, shape: str) -> Pair:
    """Reads OpenAI's weights with transformers; of the three larger models only the first blocks."""
    theirs = GPT2LMHeadModel.from_pretrained(directory, local_files_only=True, n_layer=_depth(shape)).eval()
    return Pair(f"OpenAI's {shape}{_cut(shape)}", _as_ours(theirs, shape), theirs)


def random_pair(shape: str, seed: int) -> Pair:
    """Makes a transformers model of one of OpenAI's shapes with random weights, and ours from its weights.

    A freshly initialized GPT-2 repeats one token and has zero biases. Here biases are random, and the matrices of the
    blocks are five times as large, so that generated text depends on everything before it.
    """
    settings, title = OPENAI_SHAPES[shape] | {"n_layer": _depth(shape)}, f"{shape}, random weights{_cut(shape)}"
    if shape in DEPTHS:
        settings |= {"vocab_size": CUT_VOCABULARY, "bos_token_id": None, "eos_token_id": None}
        title += f", {CUT_VOCABULARY:,} tokens"
    with torch.device("meta"):  # initialization on the CPU would take longer than the comparison
        theirs = GPT2LMHeadModel(GPT2Config(**settings)).eval()
    theirs.to_empty(device="cpu").tie_weights()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(std=0.02 if name.endswith(("wte.weight", "wpe.weight")) else 0.1, generator=generator)
            if parameter.dim() == 1 and name.endswith("weight"):  # the scale of a layer norm
                parameter += 1
    return Pair(title, _as_ours(theirs, shape), theirs)


def _depth(shape: str) -> int:
    return DEPTHS.get(shape, OPENAI_SHAPES[shape]["n_layer"])


def _cut(shape: str) -> str:
    return f", {DEPTHS[shape]} of {OPENAI_SHAPES[shape]['n_layer']} blocks" if shape in DEPTHS else ""


def _as_ours(theirs: torch.nn.Module, shape: str) -> GPT:
    """Copies their weights into a model of ours."""
    size = {name: getattr(theirs.config, name) for name in ("n_layer", "vocab_size")}
    with checkpoint.without_weights():
        ours = GPT(openai_config(shape).model_copy(update=size))
    checkpoint.load_state(ours, checkpoint.from_hf(theirs.state_dict()), Path("transformers.GPT2LMHeadModel"))
    return ours.eval()


def weights_case(pair: Pair) -> Case:
    """Compares our parameters, converted to Hugging Face's layout, with theirs bit by bit."""
    theirs = {name: tensor for name, tensor in pair.theirs.state_dict().items() if name != "lm_head.weight"}
    ours = pair.ours.state_dict()
    equal = 0
    for name, tensor in ours.items():  # one by one, because a second copy of all of them would take much memory
        ((key, converted),) = checkpoint.to_hf({name: tensor}).items()
        equal += key in theirs and torch.equal(converted, theirs[key])
    compared = max(len(ours), len(theirs))
    return pair.case("weights", "weights, ours into transformers", compared, 1 - equal / compared, 0.0)


def shape_case(name: str, shape: str) -> Case:
    """Compares names and shapes of all parameters of one of OpenAI's models, on the meta device, without memory."""
    with torch.device("meta"):
        ours = GPT(openai_config(shape)).state_dict()
        theirs = checkpoint.from_hf(GPT2LMHeadModel(GPT2Config(**OPENAI_SHAPES[shape])).state_dict())
    names = ours.keys() | theirs.keys()
    differing = [n for n in names if n not in ours or n not in theirs or ours[n].shape != theirs[n].shape]
    return Case(name, "shapes", "names and shapes of the whole model", len(names), len(differing) / len(names), 0.0)


def silence_transformers() -> None:
    """Keeps transformers' advice and progress bars off standard error."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
