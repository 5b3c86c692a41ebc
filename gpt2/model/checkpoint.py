"""Converts GPT-2 weights to and from Hugging Face's checkpoint layout.

A checkpoint is a directory with `config.json` and `model.safetensors`, or other files that `gpt2/model/weights.py` can
read. It differs from our modules in two ways: keys begin with `transformer.` (OpenAI's released files lack this
prefix), and the matrices of attention and MLP are stored as (in, out), as in OpenAI's TensorFlow code, while nn.Linear
stores (out, in).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, replacing, write_json
from gpt2.common.model_files import GENERATION_FILE, check_settings, refuse_adapter
from gpt2.config.params import GPTConfig
from gpt2.config.schema import parse
from gpt2.model.gpt import GPT
from gpt2.model.weights import read_state, weights_path
from gpt2.tokenizer.tokenizer import Tokenizer

TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
HEAD = "lm_head.weight"  # the tied copy of wte
PREFIX = "transformer."
ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")  # <|endoftext|> has all of them
SUPPORTED = {  # settings of config.json that change the outputs: the values that are supported
    "activation_function": (None, "gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (None, 1e-5),
    **dict.fromkeys(("scale_attn_weights", "tie_word_embeddings"), (None, True)),
    **dict.fromkeys(("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"), (None, False)),
    "add_cross_attention": (None, False),
    **dict.fromkeys(("quantization_config", "rope_scaling"), (None,)),
    # other names of n_positions and so on, which transformers prefers
    **dict.fromkeys(("max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads"), (None,)),
}
OTHER_DROPOUTS = ("embd_pdrop", "attn_pdrop")  # GPTConfig has one dropout, that of resid_pdrop


def to_hf(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under Hugging Face's keys and orientation; contiguous float32 tensors."""
    return {
        PREFIX + name: (tensor.t() if name.endswith(TRANSPOSED) else tensor).detach().float().cpu().contiguous()
        for name, tensor in state.items()
    }


def from_hf(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's GPT-2 state dict, with or without the prefix, under our keys and orientation, in float32."""
    return {
        name.removeprefix(PREFIX): (tensor.t() if _is_transposed(name, tensor) else tensor).float().contiguous()
        for name, tensor in state.items()
        if name != HEAD
    }


def _is_transposed(name: str, tensor: Tensor) -> bool:
    """Whether Hugging Face stores a matrix as (in, out). A tensor that is no matrix is refused later, by its shape."""
    return name.endswith(TRANSPOSED) and tensor.ndim == 2


def hf_config(config: GPTConfig, eot: int | None = None) -> dict:
    """The `config.json` of a model of this shape.

    `eot` is the id of `<|endoftext|>`, which begins, ends and pads texts; by default the last of the vocabulary.
    """
    eot = config.vocab_size - 1 if eot is None else eot
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "activation_function": "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        **dict.fromkeys(ROLES, eot),
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def save_checkpoint(directory: Path, config: dict, state: dict[str, Tensor]) -> None:
    """Writes `config.json` and `model.safetensors`, the state already under Hugging Face's keys."""
    write_json(directory / "config.json", config)
    with replacing(directory / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})  # a second metadata key would make the bytes unstable
        temporary.chmod((directory / "config.json").stat().st_mode)  # safetensors makes files private to their owner


def save(model: GPT, directory: Path, eot: int | None = None) -> None:
    """Writes the model as a checkpoint for `transformers.GPT2LMHeadModel.from_pretrained`."""
    save_checkpoint(directory, hf_config(model.config, eot), to_hf(model.state_dict()))


def save_with_tokenizer(
    model: GPT, tokenizer: Tokenizer, directory: Path, generation: dict, chat_template: str | None = None
) -> None:
    """Writes the model, its tokenizer and `generation_config.json`: all that transformers needs to generate text.

    `generation` has the settings with which transformers' `generate` then continues a text by default, up to half a
    context. `chat_template` is a Jinja template of a conversation.
    """
    save(model, directory, tokenizer.eot)
    block_size = model.config.block_size
    tokenizer.save(directory, block_size, chat_template=chat_template)
    settings = {**dict.fromkeys(ROLES, tokenizer.eot), "max_new_tokens": (block_size + 1) // 2, **generation}
    write_json(directory / GENERATION_FILE, settings)


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
    refuse_adapter({file.name for file in directory.iterdir()}, str(directory))
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("model_type") != "gpt2":
        raise InputError(f"{path}: expected a GPT-2 checkpoint, with model_type = 'gpt2'")
    check_settings(path, raw, SUPPORTED)
    dropout = raw.get("resid_pdrop", 0.1)
    for key in OTHER_DROPOUTS:
        if raw.get(key, 0.1) != dropout:
            reason = f"expected resid_pdrop, {dropout!r}: only training drops out, and at one rate"
            raise InputError(f"{path}: {key} = {raw.get(key, 0.1)!r}: {reason}")
    n_embd, n_inner = raw.get("n_embd"), raw.get("n_inner")
    shape = {
        "block_size": raw.get("n_positions", 1024),
        "n_layer": raw.get("n_layer"),
        "n_embd": n_embd,
        "n_head": raw.get("n_head"),
        "n_inner": None if isinstance(n_embd, int) and n_inner == 4 * n_embd else n_inner,
        "dropout": dropout,
        "vocab_size": raw.get("vocab_size"),
    }
    return parse(GPTConfig, shape, str(path)), raw


def load(directory: Path) -> GPT:
    """Reads a GPT-2 checkpoint, ours or Hugging Face's, into a float32 model.

    Raises InputError naming the file, and the tensor that is missing, has the wrong shape or is not finite, and for a
    checkpoint whose output projection is not the matrix of its token embeddings.
    """
    config, _ = read_config(directory)
    stored, path = read_state(directory), weights_path(directory)
    state = {name: tensor for name, tensor in from_hf(stored).items() if not name.startswith("score.")}
    check_depth(config, state, path)
    with without_weights():
        model = GPT(config)
    load_state(model, state, path)
    head = stored.get(HEAD)
    if head is not None and not torch.equal(head.float(), model.wte.weight):
        raise InputError(f"{path}: lm_head.weight differs from wte.weight: expected tied weights, as in GPT-2")
    return model


def load_with_tokenizer(directory: Path, device: torch.device | str = "cpu") -> tuple[GPT, Tokenizer]:
    """The model of a checkpoint directory, in eval mode and on `device`, and its tokenizer.

    Raises InputError if either is missing or malformed, if their vocabularies differ in size, or if it is a classifier.
    """
    tokenizer, model = read_tokenizer(directory), load(directory)
    return model.to(device).eval(), tokenizer


def read_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a language model, of which the weights are not needed.

    Raises InputError if it or `config.json` is missing or malformed, or does not fit the other, or for a classifier.
    """
    config, raw = read_config(directory)
    if raw.get("architectures") == ["GPT2ForSequenceClassification"]:
        raise InputError(f"{directory}: a classifier, expected a language model; `python -m gpt2 classify` reads it")
    return Tokenizer.load(directory, config.vocab_size)


def check_depth(config: GPTConfig, state: dict[str, Tensor], path: Path) -> None:
    """Raises InputError if `state`, under our keys, lacks the last layer: before a huge `n_layer` is built."""
    if f"h.{config.n_layer - 1}.ln_1.weight" not in state:
        raise InputError(f"{path}: contains no layer {config.n_layer}, which n_layer of config.json counts")


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside, the parameters of new models take no memory and are not initialized: for models that get others."""
    with torch.device("meta"), _SkipInit():
        yield


class _SkipInit(TorchFunctionMode):
    """Leaves out the functions of torch.nn.init. On the meta device they do nothing, but import torch's compiler, which
    takes a second."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        initializes = getattr(function, "__module__", None) == torch.nn.init.__name__
        return kwargs["tensor"] if initializes else function(*args, **kwargs)


def load_state(model: torch.nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Loads exactly the tensors of `state`. Raises InputError naming `path` and the first that does not fit `model`."""
    expected = model.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            raise InputError(f"{path}: tensor {name} is {'missing' if name in expected else 'not part of this model'}")
        if state[name].shape != expected[name].shape:
            shapes = f"{tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
            raise InputError(f"{path}: tensor {name} has shape {shapes}")
        if not all(end.isfinite() for end in state[name].aminmax()):  # a tenth of the time of isfinite on all numbers
            raise InputError(f"{path}: tensor {name} contains infinity or NaN, expected finite numbers")
    model.load_state_dict(state, assign=True)
