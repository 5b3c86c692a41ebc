"""A GPT-2 checkpoint from the hub and from a folder."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from gpt2.common.errors import InputError
from gpt2.common.files import sha256
from gpt2.model.checkpoint import load, load_with_tokenizer
from gpt2.sources.gpt2 import copy_model, fetch_model
from gpt2.tokenizer.tokenizer import Tokenizer

TAKEN = ["config.json", "merges.txt", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.json"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small random GPT-2 with its tokenizer, and a file that is not needed."""
    place = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(3)
    config = transformers.GPT2Config(vocab_size=257, n_positions=16, n_embd=32, n_layer=2, n_head=4)
    transformers.GPT2LMHeadModel(config).save_pretrained(place)
    Tokenizer([]).save(place)
    (place / "pytorch_model.bin").write_bytes(b"a pickle")
    return place


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def served(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def test_a_model_from_the_hub_is_byte_for_byte_the_one_served(hub, checkpoint, out):
    commit = hub.add("model", "owner/gpt2", served(checkpoint))
    assert fetch_model("owner/gpt2", out) == {
        "source": "hub",
        "repo": "owner/gpt2",
        "revision": "main",
        "commit": commit,
        "files": [
            {"file": name, "bytes": (checkpoint / name).stat().st_size, "sha256": sha256(checkpoint / name)}
            for name in TAKEN
        ],
    }
    assert sorted(path.name for path in out.iterdir()) == TAKEN and not hub.downloads("pytorch_model.bin")
    (out / "config.json").write_text("{}")  # does not reach the cache
    fetch_model("owner/gpt2", out)
    tokens = torch.arange(16)[None]
    theirs = transformers.GPT2LMHeadModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        torch.testing.assert_close(load(out).eval()(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


def test_the_files_that_transformers_saves_are_enough(checkpoint, tmp_path, out):
    source = tmp_path / "source"
    transformers.AutoModelForCausalLM.from_pretrained(checkpoint).save_pretrained(source)
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(source)
    assert not (source / "merges.txt").exists()
    manifest = copy_model(source, out)
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert [file["file"] for file in manifest["files"]] == names and manifest["source"] == "local"
    assert load_with_tokenizer(out)[1].vocab_size == 257


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    "no file model.safetensors; expected a GPT-2": lambda folder: (folder / "model.safetensors").unlink(),
    "no file merges.txt; expected a GPT-2": lambda folder: [
        (folder / name).unlink() for name in ("tokenizer.json", "merges.txt")
    ],
    "config.json: not valid JSON": lambda folder: (folder / "config.json").write_text("{"),
    "config.json: model_type = 'bert'": lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
    "model.safetensors: not a whole safetensors file": lambda folder: truncate(folder / "model.safetensors"),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_damaged_or_foreign_checkpoint_is_refused_before_it_is_copied(hub, checkpoint, tmp_path, out, reason):
    source = tmp_path / "source"
    shutil.copytree(checkpoint, source)
    DAMAGE[reason](source)
    with pytest.raises(InputError, match=reason):
        copy_model(source, out)
    hub.add("model", "owner/gpt2", served(source))
    with pytest.raises(InputError, match=reason):
        fetch_model("owner/gpt2", out)
    assert not list(out.iterdir())
