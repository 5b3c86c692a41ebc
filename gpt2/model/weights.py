"""Reads the tensors of a checkpoint: one file or several, safetensors or the pickles that torch.save writes."""

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gpt2.common.errors import InputError, first_line
from gpt2.common.model_files import INDEX, shard_names, weights_file


def weights_path(directory: Path) -> Path:
    """The file in `directory` that contains the weights, or lists the files that do. Raises InputError if none does."""
    return directory / weights_file({path.name for path in directory.iterdir()}, str(directory))


def read_state(directory: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint as stored. Raises InputError if a file is missing or damaged."""
    path = weights_path(directory)
    names = shard_names(path) if path.name.endswith(INDEX) else [path.name]
    return {key: tensor for name in names for key, tensor in _read(directory / name).items() if not _is_mask(key)}


def _is_mask(name: str) -> bool:
    """Whether a tensor is a causal mask, which old versions of transformers stored with the parameters."""
    return name.endswith((".attn.bias", ".attn.masked_bias"))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for name, tensor in state.items():
        if not _is_mask(name) and not _is_plain(tensor):
            kind = f"{tensor.dtype} on {tensor.device.type}, {tensor.layout}".replace("torch.", "")
            raise InputError(f"{path}: tensor {name} is {kind}: expected plain floating-point numbers")
    return state


def _is_plain(tensor: Tensor) -> bool:
    """Whether the file has each element of a tensor as a float. An expanded tensor could fill the memory."""
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    return dense and tensor.is_floating_point() and tensor.untyped_storage().nbytes() >= tensor.nbytes


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """A pickle can run any code. torch's restricted reader knows tensors and containers, and refuses all else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise InputError(f"{path}: expected tensors only; this pickle is damaged or would run other code") from None
    except Exception as error:  # damaged bytes can raise anything in torch's reader
        raise InputError(f"{path}: not a file that torch.save wrote: {first_line(error)}") from None
    pairs = state.items() if isinstance(state, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in pairs):
        raise InputError(f"{path}: expected a mapping of names to tensors")
    return state
