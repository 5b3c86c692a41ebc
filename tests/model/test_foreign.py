"""Other people's GPT-2 checkpoints: each is read with transformers' logits and ids, or refused in one line.

Both readers, the commands' `--model` and `data.gpt2`, take and refuse the same.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AddedToken,
    AutoTokenizer,
    GPT2Config,
    GPT2DoubleHeadsModel,
    GPT2LMHeadModel,
    GPT2Model,
    PreTrainedTokenizerFast,
)

from gpt2.commands.cli import run
from gpt2.common.errors import InputError
from gpt2.common.files import read_json, write_json
from gpt2.config.params import TrainParams
from gpt2.model.checkpoint import load_with_tokenizer, read_tokenizer
from gpt2.pretraining.pretrain import TokenWindows, openai_model, pretrain
from gpt2.sources.gpt2 import copy_model
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import EOT, Tokenizer
from gpt2.tokens.shards import TokenStream
from tests.small import OPTIM, RUN, write_shards
from tests.tokenizer.test_bpe import ENGLISH
from tests.tokenizer.test_tokenizer import HOSTILE

BASE = Tokenizer(train_bpe(ENGLISH, 300))
EOT_ID = {"bos_token_id": 299, "eos_token_id": 299}
SHAPE = {"n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 300, **EOT_ID}
SPECIAL = ["[PAD]", "a [PAD] b[PAD]", f"x {EOT}\n[PAD]", "<|im_start|>user\nhi<|im_end|>\n", " <mask> the  <mask>\n"]
TEXTS = [*HOSTILE, *SPECIAL, "the newword and newwords", "covid19 or Covid19", "\ud800 [PAD]", "é[PAD]é 👩‍👩‍👧‍👦[PAD]"]


def make(place: Path, kind: type = GPT2LMHeadModel, **changes) -> torch.nn.Module:
    """Saves a seeded model in which every tensor is random, with the base tokenizer."""
    torch.manual_seed(5)
    model = kind(GPT2Config(**SHAPE | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(place)
    BASE.save(place)
    return model


def to_bin(place: Path, legacy: bool = False) -> None:
    """Replaces safetensors by the pickle that torch.save writes, today or before torch 1.6."""
    state = load_file(place / "model.safetensors")
    torch.save(state, place / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    (place / "model.safetensors").unlink()


def edit_state(place: Path, change: Callable[[dict], dict]) -> None:
    path = place / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def edit(place: Path, name: str, **changes) -> None:
    path = place / name
    write_json(path, (read_json(path) if path.exists() else {}) | changes)


def add_tokens(place: Path, rows: int, *tokens, **roles) -> None:
    """Adds tokens with transformers, grows the embedding and saves both."""
    model, tokenizer = GPT2LMHeadModel.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    tokenizer.add_tokens(list(tokens))
    tokenizer.add_special_tokens(roles)
    model.resize_token_embeddings(rows)
    model.save_pretrained(place)
    for name in ("vocab.json", "merges.txt"):
        (place / name).unlink()
    tokenizer.save_pretrained(place)


def pickled(place: Path) -> None:
    make(place)
    to_bin(place)


def pickled_before_torch_16(place: Path) -> None:
    make(place)
    to_bin(place, legacy=True)


def bare_keys_and_causal_masks(place: Path) -> None:
    """As OpenAI's released checkpoint."""
    make(place, GPT2Model)
    masks = {"h.0.attn.bias": torch.ones(1, 1, 16, 16), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    edit_state(place, lambda state: state | masks)


def prefixed_with_masks_and_head(place: Path) -> None:
    """As transformers 2 to 4 saved."""
    make(place)
    mask = torch.ones(1, 1, 16, 16).tril().bool()
    head = GPT2LMHeadModel.from_pretrained(place).lm_head.weight.detach().clone()
    edit_state(place, lambda state: state | {"transformer.h.1.attn.bias": mask, "lm_head.weight": head})
    to_bin(place)


def sharded_safetensors(place: Path) -> None:
    model = make(place)
    (place / "model.safetensors").unlink()
    model.save_pretrained(place, max_shard_size="40KB")
    assert len(list(place.glob("model-*.safetensors"))) > 1


def sharded_pickles(place: Path) -> None:
    sharded_safetensors(place)
    for path in place.glob("model-*.safetensors"):
        torch.save(load_file(path), place / f"pytorch_{path.stem}.bin")
        path.unlink()
    index = read_json(place / "model.safetensors.index.json")
    (place / "model.safetensors.index.json").unlink()
    names = {key: f"pytorch_{Path(name).stem}.bin" for key, name in index["weight_map"].items()}
    write_json(place / "pytorch_model.bin.index.json", index | {"weight_map": names})


def float16(place: Path) -> None:
    make(place).half().save_pretrained(place)


def bfloat16_pickle(place: Path) -> None:
    make(place).bfloat16().save_pretrained(place)
    to_bin(place)


def six_layers_wide_inside(place: Path) -> None:
    """DistilGPT-2's depth, and an MLP of another width."""
    make(place, n_layer=6, n_inner=80)


def padded_rows(place: Path) -> None:
    make(place, vocab_size=320)


def added_pad(place: Path) -> None:
    """By transformers 5: the token is in tokenizer.json alone."""
    make(place)
    add_tokens(place, 301, pad_token="[PAD]")


def added_chat_tokens_and_words(place: Path) -> None:
    make(place)
    mask = AddedToken("<mask>", lstrip=True, rstrip=True, special=True)
    words = ["covid19", AddedToken("newword", single_word=True)]
    add_tokens(place, 320, *words, mask, pad_token="[PAD]", additional_special_tokens=["<|im_start|>", "<|im_end|>"])
    edit(place, "generation_config.json", eos_token_id=[299, 305])


def added_pad_as_transformers_4_saved(place: Path) -> None:
    """Every file there is, with merges as strings."""
    make(place, vocab_size=301)
    flags = {"lstrip": False, "rstrip": False, "single_word": False}
    eot = {"content": EOT, "normalized": True, "special": True, **flags}
    pad = {"content": "[PAD]", "normalized": False, "special": True, **flags}
    edit(place, "added_tokens.json", **{"[PAD]": 300})
    roles = {"bos_token": EOT, "eos_token": EOT, "unk_token": EOT, "pad_token": "[PAD]"}
    edit(place, "special_tokens_map.json", **roles)
    decoder = {"299": eot, "300": pad}
    edit(place, "tokenizer_config.json", added_tokens_decoder=decoder, clean_up_tokenization_spaces=True, **roles)
    edit(place, "tokenizer.json", added_tokens=[{"id": 299, **eot}, {"id": 300, **pad}])


def vocabulary_and_merges_as_transformers_3_saved(place: Path) -> None:
    """Without tokenizer.json; the added tokens have files of their own."""
    make(place, vocab_size=302)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place / name).unlink()
    edit(place, "added_tokens.json", **{"[PAD]": 301, "newword": 300})
    edit(place, "special_tokens_map.json", pad_token={"content": "[PAD]", "lstrip": False, "normalized": False})
    to_bin(place)


def a_role_that_no_list_has(place: Path) -> None:
    make(place, vocab_size=301)
    edit(place, "tokenizer_config.json", pad_token="[PAD]")


def generic_fast_tokenizer(place: Path) -> None:
    """tokenizer_class is not GPT-2's, so that transformers takes tokenizer.json as it is; merges are pairs."""
    make(place, vocab_size=301)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(place / "tokenizer.json"), pad_token="[PAD]", eos_token=EOT)
    theirs.save_pretrained(place)
    assert isinstance(read_json(place / "tokenizer.json")["model"]["merges"][0], list)


def safetensors_beside_another_pickle(place: Path) -> None:
    make(place)
    torch.save({}, place / "pytorch_model.bin")


TAKEN = [
    pickled,
    pickled_before_torch_16,
    bare_keys_and_causal_masks,
    prefixed_with_masks_and_head,
    sharded_safetensors,
    sharded_pickles,
    float16,
    bfloat16_pickle,
    six_layers_wide_inside,
    padded_rows,
    added_pad,
    added_chat_tokens_and_words,
    added_pad_as_transformers_4_saved,
    vocabulary_and_merges_as_transformers_3_saved,
    a_role_that_no_list_has,
    generic_fast_tokenizer,
    safetensors_beside_another_pickle,
]


def assert_same_as_transformers(place: Path, reference: Path) -> None:
    """Compares the checkpoint in `place`, read by us, with that in `reference`, read by transformers."""
    model, tokenizer = load_with_tokenizer(place, "cpu")
    theirs = GPT2LMHeadModel.from_pretrained(reference, dtype=torch.float32).eval()
    ids = torch.randint(theirs.config.vocab_size, (4, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, rtol=0, atol=1e-5)
    their_tokenizer = AutoTokenizer.from_pretrained(reference)
    assert tokenizer.vocab_size == len(their_tokenizer)
    for text in TEXTS:
        clean = text.replace("\ud800", "\ufffd")
        assert tokenizer.encode_prompt(text) == their_tokenizer(clean)["input_ids"], text
        document = their_tokenizer(clean, split_special_tokens=True)["input_ids"]
        assert tokenizer.encode(text) == document, text
        assert tokenizer.encode_documents([clean]).tolist() == [tokenizer.eot, *document], text
    assert tokenizer.decode([*range(model.config.vocab_size)]) == their_tokenizer.decode([*range(len(their_tokenizer))])


@pytest.mark.parametrize("maker", TAKEN, ids=lambda maker: maker.__name__)
def test_a_checkpoint_is_read_as_transformers_reads_it(maker, tmp_path):
    """By the commands, by data.gpt2 from its copy, and after an import."""
    place, copy, plain = (tmp_path / name for name in ("place", "copy", "plain"))
    copy.mkdir()
    maker(place)
    copy_model(place, copy, read_tokenizer)
    assert_same_as_transformers(copy, place)
    assert run("import", [str(place), str(plain)]) == 0
    assert sorted(path.name for path in plain.glob("*.safetensors")) == ["model.safetensors"]
    assert_same_as_transformers(plain, plain)
    ours, again = (load_with_tokenizer(directory, "cpu") for directory in (copy, plain))
    torch.testing.assert_close(again[0].state_dict(), ours[0].state_dict(), rtol=0, atol=0)
    assert again[1].fingerprint == ours[1].fingerprint
    assert all(again[1].encode_prompt(text) == ours[1].encode_prompt(text) for text in TEXTS)
    theirs, anew = (AutoTokenizer.from_pretrained(directory) for directory in (place, plain))
    for name in ("special_tokens_map", "padding_side", "chat_template"):
        assert getattr(anew, name) == getattr(theirs, name)
    for path in (place / "config.json", *place.glob("generation_config.json")):
        assert read_json(plain / path.name)["eos_token_id"] == read_json(path)["eos_token_id"]


class Payload:
    """Unpickled without restrictions, it would write a file."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def config(**changes) -> Callable[[Path], None]:
    return lambda place: edit(place, "config.json", **changes)


def tokenizer_config(**changes) -> Callable[[Path], None]:
    return lambda place: edit(place, "tokenizer_config.json", **changes)


def tokenizer_json(part: str, **changes) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        part_before = read_json(place / "tokenizer.json")[part] or {}
        edit(place, "tokenizer.json", **{part: part_before | changes})

    return change


def listed(*contents: str, first: int = 299, **flags) -> Callable[[Path], None]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | flags
    tokens = [{"id": id, "content": content, **flags} for id, content in enumerate(contents, start=first)]
    return lambda place: edit(place, "tokenizer.json", added_tokens=tokens)


def index(name: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        (place / "model.safetensors").rename(place / "other.safetensors")
        weights = {"weight_map": {"transformer.wte.weight": name}}
        write_json(place / "model.safetensors.index.json", weights)

    return change


def bin_of(contents: object) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        (place / "model.safetensors").unlink()
        torch.save(contents, place / "pytorch_model.bin")

    return change


def damaged(place: Path) -> None:
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(b"\x80\x02junk")


def of_wpe(change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    key = "transformer.wpe.weight"
    return lambda place: edit_state(place, lambda state: state | {key: change(state[key]).contiguous()})


def template(place: Path) -> None:
    bos = {"SpecialToken": {"id": EOT, "type_id": 0}}
    single = [bos, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {EOT: {"id": EOT, "ids": [299], "tokens": [EOT]}}
    processor = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    edit(place, "tokenizer.json", post_processor=processor)


def rename_eot(place: Path) -> None:
    path = place / "tokenizer.json"
    path.write_text(path.read_text().replace(EOT, "</s>"))


def merges_out_of_order(place: Path) -> None:
    """The merge of "ab" and "c" comes before the merge that makes "ab" from the pair that the text has first."""
    make(place, vocab_size=262)
    Tokenizer([(b"a", b"b"), (b"b", b"c"), (b"a", b"bc"), (b"c", b"d"), (b"ab", b"cd")]).save(place)


def another_format(place: Path) -> None:
    (place / "model.safetensors").rename(place / "tf_model.h5")


def a_gap_in_the_ids(place: Path) -> None:
    (place / "tokenizer.json").unlink()
    edit(place, "added_tokens.json", **{"[PAD]": 310})


def unlisted(place: Path) -> None:
    (place / "tokenizer.json").unlink()
    edit(place, "vocab.json", **{"[X]": 300})


def contradicting_lists(place: Path) -> None:
    listed(EOT, "[PAD]")(place)
    edit(place, "tokenizer_config.json", added_tokens_decoder={"299": {"content": EOT, "special": True}})


def untied(place: Path) -> None:
    edit_state(place, lambda state: state | {"lm_head.weight": 2 * state["transformer.wte.weight"]})


REFUSED = {
    "place/config.json: scale_attn_by_inverse_layer_idx = true": config(scale_attn_by_inverse_layer_idx=True),
    "place/config.json: reorder_and_upcast_attn = true": config(reorder_and_upcast_attn=True),
    "place/config.json: add_cross_attention = true": config(add_cross_attention=True),
    'place/config.json: activation_function = "gelu"': config(activation_function="gelu"),
    "place/config.json: layer_norm_epsilon = 1e-06": config(layer_norm_epsilon=1e-6),
    "place/config.json: attn_pdrop = 0.0: expected resid_pdrop, 0.1": config(attn_pdrop=0.0),
    'place/config.json: quantization_config = {"bits": 4}': config(quantization_config={"bits": 4}),
    "place/config.json: tie_word_embeddings = false": config(tie_word_embeddings=False),
    "place/config.json: vocab_size = 70000: Input should be less than or equal to 65536": config(vocab_size=70000),
    "place/config.json: n_inner = 0": config(n_inner=0),
    "place/model.safetensors: lm_head.weight differs": untied,
    "tensor multiple_choice_head.summary.bias is not part": lambda place: make(place, GPT2DoubleHeadsModel),
    "place: an adapter of peft, expected a whole": lambda place: edit(place, "adapter_config.json", peft_type="LORA"),
    "place: no file model.safetensors or pytorch_model.bin; tf_model.h5 cannot": another_format,
    "index.json: '../other.safetensors': expected the name of a .safetensors file": index("../other.safetensors"),
    "index.json: '/etc/passwd': expected the name": index("/etc/passwd"),
    "lost.safetensors": index("lost.safetensors"),
    "place/pytorch_model.bin: expected tensors only; this pickle": bin_of({"x": Payload()}),
    "place/pytorch_model.bin: expected a mapping of names": bin_of({"model": {}}),
    "place/pytorch_model.bin: not a file that torch.save wrote": damaged,
    "place/model.safetensors: tensor transformer.wpe.weight is int8 on cpu, strided: expected plain": of_wpe(
        Tensor.char
    ),
    "place/pytorch_model.bin: tensor wte.weight is float32 on cpu, strided": bin_of(
        {"wte.weight": torch.zeros(1).expand(300, 32)}
    ),
    "place/pytorch_model.bin: tensor wte.weight is float32 on meta, strided": bin_of(
        {"wte.weight": torch.zeros(300, 32, device="meta")}
    ),
    "tensor wpe.weight has shape (32, 16), expected": of_wpe(Tensor.t),
    "place/model.safetensors: contains no layer 100000": config(n_layer=100000),
    "place/config.json: max_position_embeddings = 32: expected none": config(max_position_embeddings=32),
    'place/config.json: rope_scaling = {"type": "linear"}: expected none': config(rope_scaling={"type": "linear"}),
    "place/tokenizer_config.json: add_prefix_space = true": tokenizer_config(add_prefix_space=True),
    "place/tokenizer_config.json: add_bos_token = true": tokenizer_config(add_bos_token=True),
    "place/tokenizer_config.json: split_special_tokens = true": tokenizer_config(split_special_tokens=True),
    'place/tokenizer_config.json: tokenizer_class = "T5Tokenizer"': tokenizer_config(tokenizer_class="T5Tokenizer"),
    "place/tokenizer_config.json: auto_map = [": tokenizer_config(auto_map=["code.Tokenizer", None]),
    'place/tokenizer.json: normalizer.type = "Lowercase"': tokenizer_json("normalizer", type="Lowercase"),
    "place/tokenizer.json: pre_tokenizer.use_regex = false": tokenizer_json("pre_tokenizer", use_regex=False),
    "place/tokenizer.json: pre_tokenizer.add_prefix_space": tokenizer_json("pre_tokenizer", add_prefix_space=True),
    'place/tokenizer.json: pre_tokenizer.type = "Whitespace"': tokenizer_json("pre_tokenizer", type="Whitespace"),
    "place/tokenizer.json: post_processor.special_tokens = {": template,
    "place/tokenizer.json: model.dropout = 0.1": tokenizer_json("model", dropout=0.1),
    "place/tokenizer.json: '<|endoftext|>' has id None, expected 299": rename_eot,
    "place/tokenizer.json: expected <|endoftext|> among the special tokens, without": listed(EOT, lstrip=True),
    "place/tokenizer.json: '!' = 0 was added": listed("!", first=0),
    "place: the tokenizer has 301 tokens, the model 300": listed(EOT, "[PAD]"),
    "place: the tokenizer has 300 tokens, the model 2000": lambda place: make(place, vocab_size=2000),
    "place/tokenizer.json: '[PAD]' is not among the added tokens of tokenizer_config": contradicting_lists,
    "place/vocab.json: '[PAD]' = 310 was added to GPT-2's vocabulary: expected new tokens": a_gap_in_the_ids,
    "place/vocab.json: '[X]' = 300: it is neither made": unlisted,
    "place/tokenizer.json: 'abc' is cut by earlier merges": merges_out_of_order,
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_checkpoint_that_would_give_other_results_is_refused_in_one_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place, copy = Path("place"), Path("copy")
    make(place)
    REFUSED[line](place)
    capsys.readouterr()
    with pytest.raises(InputError) as caught:
        load_with_tokenizer(place, "cpu")
    assert line in str(caught.value) and "\n" not in str(caught.value)
    copy.mkdir()
    with pytest.raises(InputError) as from_data:
        copy_model(place, copy, read_tokenizer)
        load_with_tokenizer(copy, "cpu")
    assert line.removeprefix("place") in str(from_data.value)
    assert run("import", ["place", "plain"]) == 1 and not Path("plain").exists() and not Path("ran").exists()
    assert capsys.readouterr().err == f"error: {caught.value}\n"


def test_generate_stops_where_the_checkpoint_says_and_names_the_settings_that_it_does_not_apply(tmp_path, capsys):
    make(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path)
    prompt = torch.tensor([tokenizer.encode("the")])
    greedy = theirs.generate(prompt, max_new_tokens=10, do_sample=False, pad_token_id=299)[0].tolist()
    stop = next(token for token in greedy[4:] if token not in greedy[:4])
    edit(tmp_path, "generation_config.json", eos_token_id=[299, stop], repetition_penalty=1.3, temperature=0.5)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path)
    (expected,) = theirs.generate(prompt, max_new_tokens=10, do_sample=False, pad_token_id=299, repetition_penalty=1.0)
    assert expected[-1] == stop
    assert run("generate", ["--model", str(tmp_path), "--prompt", "the", "--greedy", "--new-tokens", "10"]) == 0
    out, err = capsys.readouterr()
    assert out == tokenizer.decode(expected[:-1].tolist()) + "\n"
    assert f"note: {tmp_path}/generation_config.json: repetition_penalty = 1.3 is not applied" in err
    assert "temperature" not in err


def test_a_model_with_added_tokens_and_padded_rows_is_pretrained_further(tmp_path, capsys):
    """From a token stream of its own vocabulary, in which words that were added are one token."""
    added_chat_tokens_and_words(tmp_path / "model")
    Tokenizer.load(tmp_path / "model").save(tmp_path / "tokenizer")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer")
    model = openai_model(tmp_path / "model", tokenizer)
    texts = [f"a newword, covid19 and [PAD]: {text}" for text in HOSTILE[:20]]
    write_shards(tmp_path / "tokens", [("train", texts), ("val", texts[:5])], tokenizer, 1000)
    data = [TokenWindows(TokenStream(tmp_path / "tokens", split, tokenizer), 16) for split in ("train", "val")]
    assert (data[0].stream.read(0, len(data[0].stream)) == tokenizer.encode("covid19")[0]).sum() == len(texts)
    params = TrainParams(**OPTIM | {"steps": 4}, init="gpt2", val_tokens=64)
    done = pretrain(model, *data, tokenizer, params, seed=1, scratch=tmp_path / "scratch", **RUN)
    assert done.metrics["vocab_size"] == 320 and done.metrics["val_loss"] < done.metrics["initial_loss"]
    assert run("shards", ["verify", str(tmp_path / "tokens")]) == 0
    assert f"ok: train: {len(texts)} documents" in capsys.readouterr().out


def test_a_shape_with_the_usual_inner_width_is_equal_to_one_that_does_not_name_it(tmp_path):
    make(tmp_path, n_inner=128)
    assert json.loads((tmp_path / "config.json").read_text())["n_inner"] == 128
    assert load_with_tokenizer(tmp_path, "cpu")[0].config.n_inner is None
