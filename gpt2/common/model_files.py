"""The names of the files in a checkpoint directory: one rule for the code that copies and the code that reads them."""

import json
from collections.abc import Collection
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import read_json

SAFETENSORS, INDEX = "model.safetensors", ".index.json"
WEIGHTS = (
    SAFETENSORS,
    SAFETENSORS + INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX,
)  # first found, first read
OTHER_WEIGHTS = (".safetensors", ".bin", ".h5", ".msgpack", ".onnx", ".gguf", ".pt", ".pth")
VOCABULARY = ("vocab.json", "merges.txt")
TOKENIZER = (*VOCABULARY, "tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
GENERATION_FILE = "generation_config.json"


def refuse_adapter(names: Collection[str], where: str) -> None:
    """Raises InputError if `names`, the files of a directory, are those of an adapter."""
    if "adapter_config.json" in names:
        reason = "an adapter of peft, expected a whole model: save what peft's merge_and_unload() returns"
        raise InputError(f"{where}: {reason}")


def weights_file(names: Collection[str], where: str) -> str:
    """The one of `names` that contains the weights, or lists the files that do: the one that transformers reads.

    Raises InputError that begins with `where` if there is none.
    """
    for name in WEIGHTS:
        if name in names:
            return name
    others = sorted(name for name in names if "model" in name and name.endswith(OTHER_WEIGHTS))
    found = f"; {', '.join(others)} cannot be read" if others else ""
    raise InputError(f"{where}: no file {SAFETENSORS} or pytorch_model.bin{found}")


def shard_names(index: Path) -> list[str]:
    """The files that an index of weights lists, which are beside it.

    Raises InputError if the index is malformed or names a file elsewhere.
    """
    raw = read_json(index)
    listed = raw.get("weight_map") if isinstance(raw, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise InputError(f"{index}: expected an object `weight_map` with the file of each tensor")
    suffix = Path(index.name.removesuffix(INDEX)).suffix
    for name in listed.values():
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or not name.endswith(suffix):
            raise InputError(f"{index}: {name!r}: expected the name of a {suffix} file in the same folder")
    return sorted(set(listed.values()))


def check_settings(path: Path, settings: dict, supported: dict[str, tuple]) -> None:
    """Raises InputError naming the first of the `settings` in a file whose value is not supported.

    `a.b` is the setting b of object a. None among the supported values stands for a setting that is absent.
    """
    for key, allowed in supported.items():
        value = settings
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value not in allowed:
            expected = " or ".join(json.dumps(each) for each in allowed if each is not None) or "none"
            raise InputError(f"{path}: {key} = {json.dumps(value)}: expected {expected}; no other value is supported")
