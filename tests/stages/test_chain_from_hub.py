"""The chain in the shape of the profile finetune-openai, everything fetched from a hub on this machine.

The hub holds real text and, as its gpt2, a small random checkpoint that transformers wrote.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from stages.params import read_yaml
from stages.profile import merge
from tests.loopback_hub import LoopbackHub
from tests.repository import Repository

pytestmark = [pytest.mark.chain, pytest.mark.realdata]

FINEWEB = ("dataset", "HuggingFaceFW/fineweb-edu")
FINEWEB_README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*/*
- config_name: sample-10BT
  data_files:
  - split: train
    path: sample/10BT/*
---
"""
REDUCED = {  # on top of finetune-openai: the corpus from the hub too, and all of it in a minute or two
    "data": {
        "corpus": {"source": "hub", "max_documents": 55},
        "instructions": {"max_train": 120, "max_eval": 20},
        "classification": {"max_train": 200, "max_eval": 40},
        "hellaswag": {"max_examples": 40},
    },
    "tokens": {"heldout": 0.1},
    "train": {"val_tokens": 2048},
    "classification": {"steps": 10, "warmup_steps": 1, "eval_every": 5},
    "instruction": {"steps": 6, "warmup_steps": 1, "eval_every": 3},
    "responses": {"examples": 2, "max_new_tokens": 4},
    "parity": {"prompts": 1, "tokens": 8},
}


def checkpoint(directory: Path, text: list[str]) -> dict[str, Path]:
    """The files of a repository with a random GPT-2 and its vocabulary."""
    tokenizer = Tokenizer(train_bpe(text, 500))
    end = {"bos_token_id": tokenizer.eot, "eos_token_id": tokenizer.eot}
    shape = GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=512, vocab_size=tokenizer.vocab_size, **end)
    GPT2LMHeadModel(shape).save_pretrained(directory)
    tokenizer.save(directory)
    return {path.name: path for path in directory.iterdir()}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("from_hub")


@pytest.fixture(scope="module")
def hub(place, real_data):
    wikitext = real_data / "wikitext2" / "valid.parquet"
    alpaca = place / "alpaca.parquet"
    pd.read_json(real_data / "instructions" / "instruction-data.json").to_parquet(alpaca)
    hellaswag = real_data / "hellaswag" / "hellaswag_val_first1000.jsonl"
    sst2 = {"train.tsv": real_data / "sst2" / "train.tsv", "dev.tsv": real_data / "sst2" / "dev.tsv"}
    text = pd.read_parquet(wikitext).text.tolist()
    with LoopbackHub() as hub:
        files = dict.fromkeys(("data/CC-MAIN-2024-10/000_00000.parquet", "sample/10BT/000_00000.parquet"), wikitext)
        fineweb = {"README.md": FINEWEB_README.encode(), **files}
        hub.add(*FINEWEB, fineweb)
        hub.add("dataset", "tatsu-lab/alpaca", {"data/train-00000-of-00001.parquet": alpaca})
        hub.add("dataset", "stanfordnlp/sst2", sst2)
        hub.add("dataset", "Rowan/hellaswag", {"data/validation.jsonl": hellaswag})
        hub.add("model", "openai-community/gpt2", checkpoint(place / "gpt2", text))
        yield hub


@pytest.fixture(scope="module")
def chain(hub, place) -> Repository:
    (place / "copy").mkdir()
    repository = Repository(place / "copy", "finetune-openai", **hub.environment(place / "home"))
    params = read_yaml(repository.path / "params.yaml")
    merge(params, REDUCED, "REDUCED")
    YAML().dump(params, repository.path / "params.yaml")
    repository.commit()
    repository.ok("dvc", "repro")
    return repository


def test_the_report_names_the_data_sets(chain):
    page = " ".join((chain.path / "reports" / "index.html").read_text().split())
    assert "HellaSwag (Zellers et al. 2019), 40 examples of its validation split" in page
    assert "HellaSwag’s form" not in page
    for repo in ("HuggingFaceFW/fineweb-edu", "tatsu-lab/alpaca", "stanfordnlp/sst2", "openai-community/gpt2"):
        assert repo in page
    assert "up to date" in chain.ok("dvc", "status")
    chain.ok("dvc", "plots", "diff", "--json")


def test_the_manifests_record_what_was_fetched(chain, hub):
    for name, source in (("data/raw/corpus", FINEWEB), ("data/models/gpt2", ("model", "openai-community/gpt2"))):
        assert chain.json(f"{name}/manifest.json")["commit"] in hub.repos[source].commits
    (file,) = chain.json("data/raw/corpus/manifest.json")["files"]
    assert file["file"] == "sample/10BT/000_00000.parquet" and file["rows"] == 55


def test_the_weights_are_the_hub_s_and_pretraining_did_not_change_them(chain, place):
    theirs = GPT2LMHeadModel.from_pretrained(place / "gpt2").state_dict()
    ours = AutoModelForCausalLM.from_pretrained(chain.path / "data" / "models" / "pretrain").state_dict()
    assert theirs.keys() == ours.keys() and all((theirs[name] == ours[name]).all() for name in theirs)
    metrics = chain.json("reports/pretrain/metrics.json")
    assert metrics["steps"] == 0 and metrics["initial_loss"] == metrics["val_loss"]


def test_offline_the_files_come_from_the_cache(chain, hub):
    """Another run from nothing, with the hub forbidden, makes the same files."""
    before = chain.json("data/raw/instructions/manifest.json")
    shutil.rmtree(chain.path / "data" / "raw" / "instructions")
    asked = len(hub.requests)
    chain.environment["HF_HUB_OFFLINE"] = "1"
    chain.ok("python", "-m", "stages.download_instructions")
    chain.environment.pop("HF_HUB_OFFLINE")
    assert chain.json("data/raw/instructions/manifest.json") == before and len(hub.requests) == asked
