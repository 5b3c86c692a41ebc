"""Compares ids with those of transformers and tokenizers, which read the saved files."""

import json
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from transformers import AutoTokenizer, GPT2Tokenizer

from gpt2.common.errors import InputError
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import EOT, Tokenizer
from tests.tokenizer.test_bpe import ENGLISH, awkward

HOSTILE = [
    *("", " ", "\r\n", "a\r\n\r\n  b \n", "\t\tx", "trailing   ", "a\x00\x00b", "\x1b[0m\x7f\x08", "\x1c\x1d\x1e\x1f"),
    *(
        "\x85 \u2028\u2029 \u3000x",
        "\ufeffBOM",
        "\ufffd\uffff",
        "\U0010ffff",
        "👩‍👩‍👧‍👦 🏳️‍🌈",
        "e\u0301 é n\u0303o\u0308",
    ),
    *("שלום עולם", "مرحبا ١٢٣", "日本語テキスト、漢字。", "नमस्ते ½ ² Ⅷ", "aбγ中ع1٣", "ĠĊ ! ¡"),
    *("it's I'LL we've 'S can’t d'Arc ''s", " 's", "hello,world!!  ---", "x = {'a': [1,2.5e-3]}  # ok"),
    *(EOT, f"a{EOT}b {EOT} ", "<|endoftext", "<|im_start|>", "#version: 0.2", "a" * 3000, " " * 3000 + "x", "\n" * 999),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A small vocabulary of English."""
    return Tokenizer(train_bpe(ENGLISH, 700))


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    """Its files."""
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    return directory


@pytest.fixture(scope="module")
def theirs(saved):
    """transformers' tokenizer from these files."""
    return AutoTokenizer.from_pretrained(saved)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_agrees_with_transformers(tokenizer, theirs, text):
    ids = tokenizer.encode(text)
    assert ids == theirs(text, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text == theirs.decode(ids)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


@given(text=st.one_of(st.text(), awkward, st.sampled_from(ENGLISH).map(lambda text: text[:200])))
def test_any_text_agrees_with_tokenizers(saved, tokenizer, text):
    fast = FastTokenizer.from_file(str(saved / "tokenizer.json"))
    fast.encode_special_tokens = True
    ids = tokenizer.encode(text)
    assert ids == fast.encode(text).ids
    assert tokenizer.decode(ids) == text == fast.decode(ids, skip_special_tokens=False)


def test_any_ids_decode_as_transformers_decodes_them(tokenizer, theirs):
    rng = random.Random(0)
    for _ in range(300):
        ids = [rng.randrange(tokenizer.vocab_size) for _ in range(8)]
        assert tokenizer.decode(ids) == theirs.decode(ids)


def test_transformers_loads_the_files_as_gpt2s_without_warnings(tokenizer, tmp_path, capfd, recwarn):
    tokenizer.save(tmp_path, model_max_length=64)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, GPT2Tokenizer)
    assert (len(loaded), loaded.model_max_length) == (700, 64)
    special = {loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id, loaded.pad_token_id}
    assert special == {tokenizer.eot} == {699}
    assert loaded("x " * 99, truncation=True, padding=False)["input_ids"] == tokenizer.encode("x " * 99)[:64]
    assert not recwarn.list and capfd.readouterr().err == ""


def test_end_of_text_is_a_token_in_prompts_and_text_in_documents(tokenizer, theirs):
    assert tokenizer.token_bytes(tokenizer.eot) == EOT.encode()
    assert tokenizer.decode([tokenizer.eot]) == EOT
    assert tokenizer.eot not in tokenizer.encode(EOT)
    for text in ("", "a", EOT, f"{EOT}a b", f"a {EOT} b", f"{EOT}{EOT}\n", f"<|endoftext{EOT}|>"):
        assert tokenizer.encode_prompt(text) == theirs(text)["input_ids"]
        assert tokenizer.encode_prompt(text).count(tokenizer.eot) == text.count(EOT)


def test_lone_surrogates_become_replacement_characters(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


@pytest.mark.parametrize("character", " \na.5é\x00")
def test_runs_of_over_a_million_characters(tokenizer, character):
    text = "x" + character * 1_000_001 + "b" + character * 1_000_001
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20), awkward)).map("".join), st.integers(0, 20))
def test_cutting_anywhere_changes_no_id(tokenizer, text, piece):
    with pytest.MonkeyPatch.context() as settings:
        settings.setattr("gpt2.tokenizer.tokenizer.PIECE", piece)
        assert tokenizer.encode(text) == tokenizer._encoding.encode_ordinary(text)


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20)), max_size=8))
def test_documents_follow_an_end_of_text(tokenizer, texts):
    ids = tokenizer.encode_documents(texts)
    assert ids.dtype == "uint16"
    assert ids.tolist() == [id for text in texts for id in [tokenizer.eot, *tokenizer.encode(text)]]


def test_saving_and_loading(tokenizer, saved, tmp_path):
    loaded = Tokenizer.load(saved)
    assert (loaded.vocab_size, loaded.eot, loaded.merges) == (700, 699, tokenizer.merges)
    assert loaded.fingerprint == tokenizer.fingerprint != Tokenizer(tokenizer.merges[:-1]).fingerprint
    loaded.save(tmp_path)
    names = ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    assert [path.name for path in sorted(tmp_path.iterdir())] == names
    assert all((tmp_path / name).read_bytes() == (saved / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["#version: 0.2", "a b", "b c d"], r"vocab.json or merges.txt: expected the files of a GPT-2: .*line 2"),
        (["#version: 0.2", "a b", "日 b"], r"vocab.json or merges.txt: expected the files of a GPT-2: .*日"),
        (["#version: 0.2", "b c", "a b"], r"vocab.json: 'bc' has id 257, expected 256: ids are 256 bytes, the merges"),
        (["#version: 0.2", "a b"], r"vocab.json: '<\|endoftext\|>' has id 258, expected 257"),
    ],
)
def test_merges_that_do_not_fit(tmp_path, lines, message):
    Tokenizer([(b"a", b"b"), (b"b", b"c")]).save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("vocab.json", b"{", r"vocab.json or merges.txt: expected the files of a GPT-2: .*EOF"),
        ("vocab.json", b"{}", r"vocab.json: '!' has id None, expected 0"),
        ("vocab.json", None, r"vocab.json: no such file"),
        ("merges.txt", b"#version: 0.2\n\xff\n", r"vocab.json or merges.txt: expected the files of a GPT-2: .*UTF-8"),
        ("merges.txt", None, r"merges.txt: no such file"),
    ],
)
def test_a_file_missing_or_malformed(tmp_path, name, contents, message):
    Tokenizer([]).save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / name).unlink() if contents is None else (tmp_path / name).write_bytes(contents)
    with pytest.raises(InputError, match=message):
        Tokenizer.load(tmp_path)


def test_an_added_token_is_found_where_transformers_finds_it(saved, tmp_path):
    """In tokenizer.json, which comes before vocab.json and merges.txt; the token is in neither of those."""
    theirs = AutoTokenizer.from_pretrained(saved)
    theirs.add_special_tokens({"pad_token": "[PAD]"})
    theirs.save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(saved / name, tmp_path / name)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == 701
    assert Tokenizer.load(tmp_path).encode_prompt("[PAD]") == [700]


def test_the_model_has_another_vocabulary(saved):
    """A few rows more than tokens are common; fewer, or many more, are another vocabulary."""
    for rows in (699, 1724):
        message = f"the tokenizer has 700 tokens, the model {rows}: expected a row per token, and at most 1023 more"
        with pytest.raises(InputError, match=message):
            Tokenizer.load(saved, rows)
    padded = Tokenizer.load(saved, 1723)
    assert padded.vocab_size == 700 and padded.token_bytes(1722) == b"" and padded.decode([1722, 40]) == "I"


def test_gpt2s_vocabulary_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "gpt2", None)
    monkeypatch.delitem(tiktoken.registry.ENCODINGS, "gpt2")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"could not fetch the vocabulary \(.*\); set TIKTOKEN_CACHE_DIR") as error:
        Tokenizer.gpt2()
    assert "\n" not in str(error.value)


@pytest.mark.realdata
def test_gpt2s_own_vocabulary(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(real_data / "tiktoken"))
    reference = tiktoken.get_encoding("gpt2")
    ours = Tokenizer.gpt2()
    ours.save(tmp_path, model_max_length=1024)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert (ours.vocab_size, ours.eot) == (50257, 50256)
    assert Tokenizer.load(tmp_path).fingerprint == ours.fingerprint
    openai = next(path for path in (real_data / "tiktoken").iterdir() if path.read_bytes().startswith(b"#version"))
    assert (tmp_path / "merges.txt").read_bytes() == openai.read_bytes()
    for text in HOSTILE:
        ids = reference.encode_ordinary(text)
        assert ours.encode(text) == theirs(text, split_special_tokens=True)["input_ids"] == ids
        assert ours.decode(ids) == text == theirs.decode(ids)


def real_texts(directory: Path) -> dict[str, list[str]]:
    """All texts of the real data sets, by name."""
    instructions = json.loads((directory / "instructions" / "instruction-data.json").read_text(encoding="utf-8"))
    rows = (directory / "hellaswag" / "hellaswag_val_first1000.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "wikitext2": pq.read_table(directory / "wikitext2" / "valid.parquet")["text"].to_pylist(),
        "sst2": [
            line for path in sorted((directory / "sst2").iterdir()) for line in path.read_text("utf-8").split("\n")
        ],
        "instructions": [text for row in instructions for text in row.values()],
        "hellaswag": [text for row in map(json.loads, rows) for text in [row["ctx"], *row["endings"]]],
    }


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["wikitext2", "sst2", "instructions", "hellaswag"])
def test_real_texts_have_the_ids_of_tiktokens_gpt2(real_data, tmp_path, monkeypatch, name):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(real_data / "tiktoken"))
    reference, ours = tiktoken.get_encoding("gpt2"), Tokenizer.gpt2()
    ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    texts = real_texts(real_data)[name]
    ids = reference.encode_ordinary_batch(texts)
    assert [ours.encode(text) for text in texts] == ids == theirs(texts, split_special_tokens=True)["input_ids"]
    assert ours.encode_documents(texts).tolist() == [id for document in ids for id in [ours.eot, *document]]


def test_tokenizer_json_is_enough(tokenizer, saved, tmp_path):
    AutoTokenizer.from_pretrained(saved).save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    assert Tokenizer.load(tmp_path, 700).fingerprint == tokenizer.fingerprint
    path = tmp_path / "tokenizer.json"
    raw = json.loads(path.read_text())
    for change, message in (
        ({"merges": [["q", "zz"], *raw["model"]["merges"]]}, "tokenizer.json: expected the BPE tokenizer of a GPT-2: "),
        ({"vocab": {}, "merges": []}, "tokenizer.json: '!' has id None, expected 0"),
        ({"type": "WordPiece"}, "tokenizer.json: expected the BPE tokenizer of a GPT-2: "),
    ):
        path.write_text(json.dumps(raw | {"model": raw["model"] | change}))
        with pytest.raises(InputError, match=message):
            Tokenizer.load(tmp_path)
