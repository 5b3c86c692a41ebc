"""An adapter is exported with its base, and peft loads it from another directory."""

import shutil

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

from gpt2.adapters import lora
from gpt2.commands import export
from gpt2.common.errors import InputError
from gpt2.common.files import read_json, write_json
from gpt2.config.params import LoRAParams
from gpt2.instruction.chat_template import CHAT_TEMPLATE, GENERATION
from gpt2.model.checkpoint import save_with_tokenizer
from tests.small import byte_tokenizer, exit_status, small_model

PARAMS = LoRAParams(rank=2, alpha=4.0, targets=["attn.c_attn", "mlp.c_proj"])
IDS = torch.arange(20).view(2, 10)


@pytest.fixture
def adapted(tmp_path, monkeypatch):
    """A directory with a base and its adapter, whose config names the base by a relative path; the merged model."""
    monkeypatch.chdir(tmp_path)
    model = small_model(vocab_size=257, dropout=0.0)
    save_with_tokenizer(model, byte_tokenizer(), tmp_path / "data/base", GENERATION)
    lora.add_lora(model, PARAMS)
    for _, adapter in lora.adapters(model):
        torch.nn.init.normal_(adapter.lora_B, std=0.1)
    lora.save_adapter(lora.merge(model), PARAMS, tmp_path / "data/adapter", "data/base")
    byte_tokenizer().save(tmp_path / "data/adapter", chat_template=CHAT_TEMPLATE)
    return model


def run(*arguments: str) -> int:
    return exit_status(lambda given: export.main(export.parser().parse_args(given)) or 0, list(arguments))


@torch.no_grad()
def test_peft_loads_it_from_another_directory_without_the_original(adapted, tmp_path, monkeypatch, capsys):
    for path in (tmp_path / "data").rglob("*.safetensors"):
        path.chmod(0o444)  # as DVC leaves it
    assert run("data/adapter", "exported") == 0
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "elsewhere")
    place = str(tmp_path / "exported")
    assert repr(place) in capsys.readouterr().out
    theirs = AutoPeftModelForCausalLM.from_pretrained(place).eval()
    assert (theirs(input_ids=IDS).logits - adapted.eval()(IDS)).abs().max() < 1e-5
    assert AutoTokenizer.from_pretrained(place).chat_template == CHAT_TEMPLATE
    (tmp_path / "exported/model.safetensors").write_bytes(b"")  # may be written to
    (tmp_path / "exported/base/model.safetensors").write_bytes(b"")


def test_a_base_on_the_hub_stays_there(adapted, tmp_path):
    lora.save_adapter({}, PARAMS, tmp_path / "data/adapter", "owner/gpt2", "c" * 40)
    assert run("data/adapter", "exported") == 0
    config = read_json(tmp_path / "exported/adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/gpt2", "c" * 40)
    assert not (tmp_path / "exported/base").exists()


@pytest.mark.parametrize("contents", [{}, [], {"base_model_name_or_path": None}])
def test_settings_that_are_not_an_adapters_are_one_line(tmp_path, contents):
    write_json(tmp_path / "adapter_config.json", contents)
    with pytest.raises(InputError, match=r"adapter_config.json: expected the settings of a peft adapter"):
        export.export(tmp_path, tmp_path / "out")
