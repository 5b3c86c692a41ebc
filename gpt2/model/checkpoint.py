"""Converts GPT-2 weights to and from Hugging Face's checkpoint layout.

A checkpoint is a directory with `config.json` and `model.safetensors`. It differs from our modules in two ways: keys
begin with `transformer.` (OpenAI's released files lack this prefix), and the matrices of attention and MLP are stored
as (in, out), as in OpenAI's TensorFlow code, while nn.Linear stores (out, in).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, replacing, write_json
from gpt2.config.params import GPTConfig
from gpt2.config.schema import parse
from gpt2.model.gpt import GPT
from gpt2.tokenizer.tokenizer import Tokenizer

TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
NOT_PARAMETERS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # causal masks, and the tied copy of wte
PREFIX = "transformer."
SUPPORTED = {  # settings of config.json that change the outputs: their defaults, and the values that are supported
    "activation_function": ("gelu_new", ("gelu_new", "gelu_pytorch_tanh")),
    "layer_norm_epsilon": (1e-5, (1e-5,)),
    "scale_attn_weights": (True, (True,)),
    "scale_attn_by_inverse_layer_idx": (False, (False,)),
    "tie_word_embeddings": (True, (True,)),
}


def to_hf(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under Hugging Face's keys and orientation; contiguous float32 tensors."""
    return {
        PREFIX + name: (tensor.t() if name.endswith(TRANSPOSED) else tensor).detach().float().cpu().contiguous()
        for name, tensor in state.items()
    }


def from_hf(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's GPT-2 state dict, with or without the prefix, under our keys and orientation, in float32."""
    return {
        name.removeprefix(PREFIX): (tensor.t() if name.endswith(TRANSPOSED) else tensor).float().contiguous()
        for name, tensor in state.items()
        if not name.endswith(NOT_PARAMETERS)
    }


def hf_config(config: GPTConfig) -> dict:
    """The `config.json` of a model of this shape; `<|endoftext|>` is the last id of the vocabulary."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": None,
        "activation_function": "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "bos_token_id": config.vocab_size - 1,
        "eos_token_id": config.vocab_size - 1,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def save_checkpoint(directory: Path, config: dict, state: dict[str, Tensor]) -> None:
    """Writes `config.json` and `model.safetensors`, the state already under Hugging Face's keys."""
    write_json(directory / "config.json", config)
    with replacing(directory / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})  # a second metadata key would make the bytes unstable
        temporary.chmod((directory / "config.json").stat().st_mode)  # safetensors makes files private to their owner


def save(model: GPT, directory: Path) -> None:
    """Writes the model as a checkpoint for `transformers.GPT2LMHeadModel.from_pretrained`."""
    save_checkpoint(directory, hf_config(model.config), to_hf(model.state_dict()))


def read_config(directory: Path) -> tuple[GPTConfig, dict]:
    """The shape of the checkpoint in `directory`, and its whole `config.json`.

    Raises InputError if there is no checkpoint, or if it is not a supported GPT-2.
    """
    path = directory / "config.json"
    if not directory.is_dir():
        raise InputError(f"{directory}: no such model directory")
    manifest = directory / "manifest.json"
    if not path.exists() and manifest.exists() and read_json(manifest) == {"source": "none"}:
        raise InputError(f"{directory}: OpenAI's weights were left out; set data.gpt2.source to hub or local")
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("model_type") != "gpt2":
        raise InputError(f"{path}: expected a GPT-2 checkpoint, with model_type = 'gpt2'")
    for key, (usual, allowed) in SUPPORTED.items():
        if raw.get(key, usual) not in allowed:
            supported = " or ".join(map(repr, allowed))
            raise InputError(f"{path}: {key} = {raw[key]!r}: expected {supported}; no other value is supported")
    shape = {
        "block_size": raw.get("n_positions", 1024),
        "n_layer": raw.get("n_layer"),
        "n_embd": raw.get("n_embd"),
        "n_head": raw.get("n_head"),
        "dropout": raw.get("resid_pdrop", 0.1),
        "vocab_size": raw.get("vocab_size"),
    }
    config = parse(GPTConfig, shape, str(path))
    if raw.get("n_inner") not in (None, 4 * config.n_embd):
        raise InputError(f"{path}: n_inner = {raw['n_inner']!r}: expected null or 4 * n_embd")
    return config, raw


def read_state(directory: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint as stored. Raises InputError if the file is missing or damaged."""
    path = directory / "model.safetensors"
    if not path.is_file():
        others = sorted(file.name for file in directory.glob("*model*") if file.suffix in (".safetensors", ".bin"))
        raise InputError(f"{path}: no such file" + (f"; {', '.join(others)} cannot be read" if others else ""))
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from None


def load(directory: Path) -> GPT:
    """Reads a GPT-2 checkpoint, ours or Hugging Face's, into a float32 model.

    Raises InputError naming the file, and the tensor that is missing, has the wrong shape or is not finite, and for a
    checkpoint whose output projection is not the matrix of its token embeddings.
    """
    config, _ = read_config(directory)
    with torch.device("meta"):  # the parameters come from the file, so none are initialized
        model = GPT(config)
    stored, path = read_state(directory), directory / "model.safetensors"
    state = {name: tensor for name, tensor in from_hf(stored).items() if not name.startswith("score.")}
    load_state(model, state, path)
    head = stored.get("lm_head.weight")
    if head is not None and not torch.equal(head.float(), model.wte.weight):
        raise InputError(f"{path}: lm_head.weight differs from wte.weight: expected tied weights, as in GPT-2")
    return model


def load_with_tokenizer(directory: Path, device: str | None = None) -> tuple[GPT, Tokenizer]:
    """The model of a checkpoint directory, in eval mode, and its tokenizer.

    The model is on `device`, or without one on a GPU if there is one, and else on the CPU.

    Raises InputError if either is missing or malformed, if their vocabularies differ in size, or if it is a classifier.
    """
    _, raw = read_config(directory)
    if "GPT2ForSequenceClassification" in (raw.get("architectures") or ()):
        raise InputError(f"{directory}: a classifier, expected a language model; `python -m gpt2 classify` reads it")
    model = load(directory)
    tokenizer = Tokenizer.load(directory, model.config.vocab_size)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(device).eval(), tokenizer


def load_state(model: torch.nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Loads exactly the tensors of `state`. Raises InputError naming `path` and the first that does not fit `model`."""
    expected = model.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            raise InputError(f"{path}: tensor {name} is {'missing' if name in expected else 'not part of this model'}")
        if state[name].shape != expected[name].shape:
            shapes = f"{tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
            raise InputError(f"{path}: tensor {name} has shape {shapes}")
        if not state[name].isfinite().all():
            raise InputError(f"{path}: tensor {name} contains infinity or NaN, expected finite numbers")
    model.load_state_dict(state, assign=True)
