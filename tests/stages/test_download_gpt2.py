"""The stage download_gpt2 refuses a checkpoint that the stages after it could not read, in one line that names it."""

from pathlib import Path

import pytest
import transformers

from gpt2.common.errors import InputError
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.tokenizer.tokenizer import Tokenizer
from stages import download_gpt2
from stages.stage import Stage
from tests.small import small_model
from tests.stages.pretrained import write_repository

SHAPE = {"n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 256, "eos_token_id": 256}


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    write_repository(tmp_path, {1: small_model(vocab_size=257)}, data={"gpt2": {"source": "local", "repo": "a/b"}})
    (tmp_path / "data" / "local" / "gpt2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(kind: type[transformers.PreTrainedModel], vocab_size: int, *added: str) -> None:
    """Runs the stage on a checkpoint that transformers saves."""
    place = Path("data/local/gpt2")
    kind(transformers.GPT2Config(vocab_size=vocab_size, **SHAPE)).save_pretrained(place)
    Tokenizer([]).save(place)
    theirs = transformers.AutoTokenizer.from_pretrained(place)
    theirs.add_tokens(list(added))
    theirs.save_pretrained(place)
    with Stage("download_gpt2") as stage:
        download_gpt2.main(stage)


@pytest.mark.parametrize("added", [(), ("[PAD]",)])
def test_a_checkpoint_of_transformers_is_taken(repository, added):
    run(transformers.GPT2LMHeadModel, 258, *added)
    model, tokenizer = load_with_tokenizer(repository / "data/models/gpt2")
    assert model.config.vocab_size == 258 and tokenizer.vocab_size == 257 + len(added)


@pytest.mark.parametrize(
    ("kind", "vocab_size", "added", "message"),
    [
        (transformers.GPT2LMHeadModel, 257, ("[PAD]",), ": the tokenizer has 258 tokens, the model 257: expected a ro"),
        (transformers.GPT2ForSequenceClassification, 257, (), ": a classifier, expected a language model; `python -m"),
    ],
)
def test_a_checkpoint_that_pretrain_could_not_read_is_refused(repository, kind, vocab_size, added, message):
    before = (repository / "data/models/gpt2/manifest.json").read_bytes()
    with pytest.raises(InputError) as caught:
        run(kind, vocab_size, *added)
    assert str(caught.value).startswith(f"data.gpt2: data/local/gpt2{message}")
    assert [path.name for path in (repository / "data/models/gpt2").iterdir()] == ["manifest.json"]
    assert (repository / "data/models/gpt2/manifest.json").read_bytes() == before
