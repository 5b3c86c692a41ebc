"""A GPT-2 checkpoint from the hub and from a folder."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, sha256
from gpt2.model.checkpoint import load
from gpt2.sources.gpt2 import NEEDED, OPTIONAL, copy_model

FETCH = """
from gpt2.sources.pretrained import fetch_model
from pathlib import Path
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small random GPT-2 as transformers writes it, with files that look like its tokenizer's."""
    place = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(3)
    config = transformers.GPT2Config(vocab_size=300, n_positions=16, n_embd=32, n_layer=2, n_head=4)
    transformers.GPT2LMHeadModel(config).save_pretrained(place)
    (place / "vocab.json").write_text('{"a": 0}')
    (place / "merges.txt").write_text("#version: 0.2\n")
    (place / "pytorch_model.bin").write_bytes(b"a pickle")
    return place


def served(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def test_a_model_from_the_hub_is_byte_for_byte_the_one_served(hub, client, checkpoint, tmp_path):
    commit = hub.add("model", "owner/gpt2", served(checkpoint))
    out = tmp_path / "out"
    out.mkdir()
    manifest = client.run(f"{FETCH}show(fetch_model('owner/gpt2', 'main', Path({str(out)!r})))")
    assert sorted(path.name for path in out.iterdir()) == sorted(NEEDED)
    assert manifest == {
        "source": "hub",
        "repo": "owner/gpt2",
        "revision": "main",
        "commit": commit,
        "files": [
            {"file": name, "bytes": (checkpoint / name).stat().st_size, "sha256": sha256(checkpoint / name)}
            for name in sorted(NEEDED)
        ],
    }
    (out / "config.json").write_text("{}")  # does not reach the cache
    again = tmp_path / "again"
    again.mkdir()
    assert manifest == client.run(
        f"{FETCH}show(fetch_model('owner/gpt2', 'main', Path({str(again)!r})))", HF_HUB_OFFLINE="1"
    )
    assert not any("pytorch_model.bin" in each.path for each in hub.requests)

    tokens = torch.arange(16)[None]
    theirs = transformers.GPT2LMHeadModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        ours = load(again).eval()(tokens)
        torch.testing.assert_close(ours[..., :300], theirs(tokens).logits, rtol=1e-4, atol=1e-4)


def test_transformers_reads_the_model_from_the_same_cache(hub, client, checkpoint, tmp_path):
    hub.add("model", "owner/gpt2", served(checkpoint))
    client.run(f"{FETCH}show(fetch_model('owner/gpt2', 'main', Path({str(tmp_path)!r})))")
    shapes = client.run("""
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("owner/gpt2")
show([list(model.transformer.wte.weight.shape), model.transformer.wte.weight[7, 7].item()])""")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(checkpoint).transformer.wte.weight
    assert shapes == [[300, 32], theirs[7, 7].item()]
    assert len([each for each in hub.requests if each.path.endswith("model.safetensors") and each.sent]) == 1


def test_a_repository_that_lacks_a_file_is_no_gpt2(hub, client, checkpoint, tmp_path):
    files = served(checkpoint)
    del files["merges.txt"]
    hub.add("model", "owner/bare", files)
    line = client.run(f"{FETCH}show(refusal(fetch_model, 'owner/bare', 'main', Path({str(tmp_path)!r})))")
    assert line == "data.gpt2.repo = 'owner/bare': no merges.txt at revision 'main'; expected a GPT-2"


def test_a_model_from_a_folder(checkpoint, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(checkpoint, source)
    (source / OPTIONAL[0]).write_text("{}")
    out.mkdir()
    manifest = copy_model(source, out)
    names = sorted([*NEEDED, OPTIONAL[0]])
    assert sorted(path.name for path in out.iterdir()) == [file["file"] for file in manifest["files"]] == names
    assert manifest["files"][0]["sha256"] == sha256(source / "config.json")
    assert read_json(out / "config.json") == read_json(source / "config.json")
    assert manifest["source"] == "local"
    (source / "vocab.json").unlink()
    with pytest.raises(InputError, match="vocab.json: no such file; data.gpt2.source = 'local' needs config.json"):
        copy_model(source, out)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    "config.json: not valid JSON": lambda folder: (folder / "config.json").write_text("{"),
    "config.json: model_type = None: expected 'gpt2'": lambda folder: (folder / "config.json").write_text("[]"),
    "config.json: model_type = 'bert'": lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
    "model.safetensors: not a whole safetensors file": lambda folder: truncate(folder / "model.safetensors"),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_a_damaged_or_foreign_checkpoint_is_refused_before_it_is_copied(hub, client, checkpoint, tmp_path, said):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(checkpoint, source)
    out.mkdir()
    DAMAGE[said](source)
    with pytest.raises(InputError, match=said):
        copy_model(source, out)
    hub.add("model", "owner/gpt2", served(source))
    assert said in client.run(f"{FETCH}show(refusal(fetch_model, 'owner/gpt2', 'main', Path({str(out)!r})))")
    assert not list(out.iterdir())
