"""Checkpoints in Hugging Face's layout, read and written, and the errors for those that do not fit."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, write_json
from gpt2.config.params import GPTConfig
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT

CONFIG = GPTConfig(block_size=16, n_layer=2, n_embd=32, n_head=2, dropout=0.1, vocab_size=50)
THEIR_CONFIG = GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, eos_token_id=49)
IDX = torch.arange(48).view(3, 16)


@pytest.fixture(scope="module")
def model() -> GPT:
    """Random in every tensor, biases and layer norms too."""
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def saved(model, tmp_path):
    checkpoint.save(model, tmp_path)
    return tmp_path


def assert_same_logits(ours: GPT, theirs: GPT2LMHeadModel) -> None:
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(IDX), theirs.eval()(IDX).logits, rtol=0, atol=1e-5)


def test_transformers_reads_what_we_write(model, saved):
    theirs, info = GPT2LMHeadModel.from_pretrained(saved, output_loading_info=True)
    assert not any(info.values())
    assert theirs.config.eos_token_id == 49
    assert_same_logits(model, theirs)


@pytest.mark.parametrize("architecture", [GPT2LMHeadModel, GPT2Model, GPT2ForSequenceClassification])
def test_we_read_what_transformers_writes(architecture, tmp_path):
    """GPT2Model writes keys without a prefix; a classifier writes a `score` head, which no language model has."""
    torch.manual_seed(0)
    theirs = architecture(THEIR_CONFIG)
    theirs.save_pretrained(tmp_path)
    assert_same_logits(checkpoint.load(tmp_path), GPT2LMHeadModel.from_pretrained(tmp_path))


def test_openai_layout_is_read(model, saved):
    """The released file has no prefix, and causal masks among its tensors."""
    path = saved / "model.safetensors"
    state = {name.removeprefix(checkpoint.PREFIX): tensor for name, tensor in load_file(path).items()}
    state["h.0.attn.bias"] = torch.ones(1, 1, 16, 16)
    save_file(state, path)
    torch.testing.assert_close(checkpoint.load(saved).state_dict(), model.state_dict(), rtol=0, atol=0)


def test_round_trip_is_exact_and_bytes_are_stable(model, saved, tmp_path):
    loaded = checkpoint.load(saved)
    assert loaded.config == CONFIG
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    checkpoint.save(loaded, tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_half_precision_is_read_as_float32(model, saved):
    path = saved / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    loaded = checkpoint.load(saved)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=1e-3, atol=1e-6)


def test_a_copy_of_the_embeddings_may_be_stored_as_the_head_but_no_other_matrix(saved):
    """transformers does not tie a head that differs, so that the loss is another."""
    path = saved / "model.safetensors"
    state = load_file(path)
    head = state["transformer.wte.weight"].clone()
    save_file({**state, "lm_head.weight": head}, path)
    assert_same_logits(checkpoint.load(saved), GPT2LMHeadModel.from_pretrained(saved))
    with torch.no_grad():
        logits = checkpoint.load(saved).eval()(IDX)
    head[3, 4] += 0.5
    save_file({**state, "lm_head.weight": head}, path)
    with torch.no_grad():
        theirs = GPT2LMHeadModel.from_pretrained(saved).eval()(IDX).logits
    assert (theirs - logits)[..., 3].abs().max() > 0.01
    with pytest.raises(
        InputError, match=r"model\.safetensors: lm_head\.weight differs from wte\.weight: expected tied"
    ):
        checkpoint.load(saved)


def test_weights_that_were_left_out(tmp_path):
    """Other directories with a manifest, such as that of the snapshots, only lack a model."""
    for manifest, message in (
        ({"source": "none"}, r"OpenAI's weights were left out; set data\.gpt2\.source to hub or local"),
        ({"step": 1, "tokens": 2, "snapshots": []}, r"config\.json: no such file"),
    ):
        write_json(tmp_path / "manifest.json", manifest)
        with pytest.raises(InputError, match=message):
            checkpoint.load(tmp_path)


def edit_config(directory, **changes) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_state(directory, change) -> None:
    path = directory / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


BREAKAGES = {
    r"no such model directory": shutil.rmtree,
    r"config\.json: no such file": lambda d: (d / "config.json").unlink(),
    r"config\.json: not valid JSON": lambda d: (d / "config.json").write_text("{"),
    r"config\.json: expected a GPT-2 checkpoint": lambda d: edit_config(d, model_type="llama"),
    r"config\.json: n_head = 5: must divide n_embd = 32": lambda d: edit_config(d, n_head=5),
    r"config\.json: n_layer = '2'": lambda d: edit_config(d, n_layer="2"),
    r"no file model\.safetensors or pytorch_model\.bin$": lambda d: (d / "model.safetensors").unlink(),
    r"model\.safetensors: not a readable": lambda d: (d / "model.safetensors").write_bytes(b"\x00" * 100),
    r"ln_f\.bias contains infinity or NaN": lambda d: edit_state(
        d, lambda s: s["transformer.ln_f.bias"].fill_(float("nan"))
    ),
    r"pytorch_model\.bin: expected tensors only; this pickle is damaged": lambda d: (d / "model.safetensors").rename(
        d / "pytorch_model.bin"
    ),
    r"tensor ln_f\.bias is missing": lambda d: edit_state(d, lambda s: s.pop("transformer.ln_f.bias")),
    r"tensor extra is not part": lambda d: edit_state(d, lambda s: s.update({"transformer.extra": torch.ones(1)})),
    r"tensor wpe\.weight has shape \(8, 32\), expected \(16, 32\)": lambda d: edit_state(
        d, lambda s: s.update({"transformer.wpe.weight": torch.ones(8, 32)})
    ),
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_an_error_names_what_does_not_fit_in_one_line(saved, message):
    BREAKAGES[message](saved)
    with pytest.raises(InputError, match=message) as caught:
        checkpoint.load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "relu"),
        ("layer_norm_epsilon", 1e-2),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("tie_word_embeddings", False),
    ],
)
def test_an_unsupported_setting_is_refused(tmp_path, key, value):
    checkpoint.save(GPT(CONFIG), tmp_path)
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**config, key: value})
    with pytest.raises(InputError, match=f"config.json: {key} = {json.dumps(value)}: expected"):
        checkpoint.load(tmp_path)


def test_the_weights_have_the_permissions_of_the_configuration(model, tmp_path):
    checkpoint.save(model, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "config.json").stat().st_mode


def test_a_model_without_weights_is_not_initialized():
    given = torch.ones(3)
    with checkpoint.without_weights():
        model = GPT(CONFIG)
        torch.nn.init.normal_(given)
    assert all(parameter.is_meta for parameter in model.parameters()) and given.tolist() == [1, 1, 1]
