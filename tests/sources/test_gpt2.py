"""A GPT-2 checkpoint from the hub and from a folder."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from gpt2.common.errors import InputError
from gpt2.common.files import sha256, write_json
from gpt2.model.checkpoint import load, load_with_tokenizer, read_tokenizer
from gpt2.sources.gpt2 import copy_model, fetch_model
from gpt2.tokenizer.tokenizer import Tokenizer

PLAIN = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
TAKEN = sorted([*PLAIN, "merges.txt", "vocab.json"])


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
    assert fetch_model("owner/gpt2", out, read_tokenizer) == {
        "source": "hub",
        "repo": "owner/gpt2",
        "revision": "main",
        "commit": commit,
        "license": None,
        "files": [
            {"file": name, "bytes": (checkpoint / name).stat().st_size, "sha256": sha256(checkpoint / name)}
            for name in TAKEN
        ],
    }
    assert sorted(path.name for path in out.iterdir()) == TAKEN and not hub.downloads("pytorch_model.bin")
    (out / "config.json").write_text("{}")  # does not reach the cache
    fetch_model("owner/gpt2", out, read_tokenizer)
    tokens = torch.arange(16)[None]
    theirs = transformers.GPT2LMHeadModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        torch.testing.assert_close(load(out).eval()(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


def test_a_model_in_shards_is_downloaded_with_the_shards_that_its_index_names(hub, checkpoint, tmp_path, out):
    source = tmp_path / "source"
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    model.save_pretrained(source, max_shard_size="20KB")
    Tokenizer([]).save(source)
    (source / "model-of-another-index.safetensors").write_bytes(b"")
    hub.add("model", "owner/sharded", served(source))
    fetch_model("owner/sharded", out, read_tokenizer)
    names = {path.name for path in source.iterdir()} - {"model-of-another-index.safetensors"}
    assert {path.name for path in out.iterdir()} == names and len(names) > 8
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        torch.testing.assert_close(load(out).eval()(tokens), model.eval()(tokens).logits, rtol=0, atol=1e-5)


def test_the_files_that_transformers_saves_are_enough(checkpoint, tmp_path, out):
    source = tmp_path / "source"
    transformers.AutoModelForCausalLM.from_pretrained(checkpoint).save_pretrained(source)
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(source)
    assert not (source / "merges.txt").exists()
    manifest = copy_model(source, out, read_tokenizer)
    assert [file["file"] for file in manifest["files"]] == PLAIN and manifest["source"] == "local"
    assert load_with_tokenizer(out)[1].vocab_size == 257


def test_a_tokenizer_that_cannot_be_read_is_refused_before_the_weights_are_downloaded(hub, checkpoint, tmp_path, out):
    source = tmp_path / "source"
    shutil.copytree(checkpoint, source)
    write_json(source / "tokenizer_config.json", {"add_prefix_space": True})
    hub.add("model", "owner/prefix", served(source))
    with pytest.raises(InputError, match="add_prefix_space = true"):
        fetch_model("owner/prefix", out, read_tokenizer)
    assert hub.downloads("tokenizer.json") and not hub.downloads("model.safetensors")


DAMAGE = {
    "no file model.safetensors or pytorch_model.bin": lambda folder: [
        (folder / name).unlink() for name in ("model.safetensors", "pytorch_model.bin")
    ],
    "no file merges.txt; expected a GPT-2": lambda folder: [
        (folder / name).unlink() for name in ("tokenizer.json", "merges.txt")
    ],
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_an_incomplete_checkpoint_is_refused_before_it_is_copied(hub, checkpoint, tmp_path, out, reason):
    source = tmp_path / "source"
    shutil.copytree(checkpoint, source)
    DAMAGE[reason](source)
    with pytest.raises(InputError, match=reason):
        copy_model(source, out, read_tokenizer)
    hub.add("model", "owner/gpt2", served(source))
    with pytest.raises(InputError, match=reason):
        fetch_model("owner/gpt2", out, read_tokenizer)
    assert not list(out.iterdir())
