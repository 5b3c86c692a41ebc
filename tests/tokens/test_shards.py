"""Shards hold the stream that was written, whatever the cuts; damage ends in one line that names the file."""

import errno
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.commands.shards import main, stats, verify
from gpt2.common.errors import InputError
from gpt2.common.files import sha256
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import EOT, Tokenizer
from gpt2.tokens.shards import BINS, TokenStream, histogram, open_shard, read_manifest
from gpt2.tokens.writer import ShardWriter
from tests.conftest import ROOT
from tests.small import exit_status, write_shards
from tests.tokenizer.test_bpe import ENGLISH

SHARD = {"file": "val_000000.npy", "tokens": 4, "sha256": ""}
TEXTS = {"train": [*ENGLISH, EOT, *ENGLISH[:2]], "val": ["one", "two words", ENGLISH[0]]}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A small vocabulary."""
    return Tokenizer(train_bpe(ENGLISH, 400))


@pytest.fixture
def tokens(tokenizer, tmp_path) -> Path:
    """A directory of shards."""
    write_shards(tmp_path, TEXTS.items(), tokenizer, shard_tokens=1000)
    return tmp_path


def expected(tokenizer: Tokenizer, split: str) -> list[int]:
    """The stream of a split, made one document at a time."""
    return [id for text in TEXTS[split] for id in [tokenizer.eot, *tokenizer.encode(text)]]


@pytest.mark.parametrize("split", TEXTS)
def test_the_stream_is_the_documents_each_after_an_end_of_text(tokens, tokenizer, split):
    stream, ids = TokenStream(tokens, split, tokenizer), expected(tokenizer, split)
    assert len(stream) == len(ids)
    assert stream.read(0, len(ids)).tolist() == ids
    manifest = read_manifest(tokens)
    assert manifest.splits[split].documents == len(TEXTS[split])
    assert manifest.splits[split].tokens == len(ids)
    assert [shard.tokens for shard in manifest.splits[split].shards[:-1]] == [1000] * ((len(ids) - 1) // 1000)


def test_any_window_reads_the_same_across_files(tokens, tokenizer):
    stream, ids = TokenStream(tokens, "train", tokenizer), expected(tokenizer, "train")
    rng = random.Random(0)
    windows = [(rng.randrange(len(ids)), rng.randrange(3000)) for _ in range(500)]
    for start, count in [*windows, (0, 0), (999, 1), (999, 2), (1000, 1), (1000, 1000), (len(ids), 0)]:
        count = min(count, len(ids) - start)
        window = stream.read(start, count)
        assert window.dtype == np.uint16 and window.tolist() == ids[start : start + count]


@given(st.lists(st.lists(st.integers(0, 65535), max_size=20), min_size=1, max_size=10), st.integers(1, 30))
def test_cuts_keep_the_stream(tmp_path_factory, arrays, shard_tokens):
    directory = tmp_path_factory.mktemp("shards")
    writer = ShardWriter(directory, "train", shard_tokens)
    for array in arrays:
        writer.add(np.array(array, dtype=np.uint16))
    writer.flush()
    stream = [id for array in arrays for id in array]
    pieces = [open_shard(directory, shard, 65536).tolist() for shard in writer.shards]
    assert pieces == [stream[i : i + shard_tokens] for i in range(0, len(stream), shard_tokens)]
    assert [shard.file for shard in writer.shards] == [f"train_{n:06d}.npy" for n in range(len(pieces))]
    assert [shard.sha256 for shard in writer.shards] == [sha256(directory / shard.file) for shard in writer.shards]


def test_bytes_do_not_depend_on_batches(tokens, tokenizer, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    write_shards(again, [(split, [text]) for split in ("val", "train") for text in TEXTS[split]], tokenizer, 1000)
    assert sorted(os.listdir(again)) == sorted(os.listdir(tokens))
    assert all((again / name).read_bytes() == (tokens / name).read_bytes() for name in os.listdir(tokens))


def resave(path: Path, change) -> None:
    """Writes a changed array in place of a shard's."""
    np.save(path, change(np.load(path)))


def edit(path: Path, change) -> None:
    """Rewrites JSON in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"train_000001\.npy: no such file, but the manifest lists it"),
        (lambda path: path.write_bytes(b""), r"train_000001\.npy: not a whole npy file"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), r"train_000001\.npy: not a whole npy file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"train_000001\.npy: not a whole npy file"),
        (lambda path: path.write_bytes(path.read_bytes() + b"1"), r"train_000001\.npy: 2129 bytes .* end at 2128"),
        (lambda path: resave(path, lambda a: a[:12]), r"train_000001\.npy: holds 12 tokens, the manifest says 1000"),
        (lambda path: resave(path, lambda a: a.astype(np.int32)), r"train_000001\.npy: holds int32 of shape \(1000,\)"),
        (lambda path: resave(path, lambda a: a[None]), r"train_000001\.npy: holds uint16 of shape \(1, 1000\)"),
    ],
)
def test_a_shard_that_is_not_what_the_manifest_says(tokens, tokenizer, damage, message):
    damage(tokens / "train_000001.npy")
    with pytest.raises(InputError, match=message) as error:
        TokenStream(tokens, "train", tokenizer)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=message):
        verify(tokens)


def test_a_damaged_header_never_ends_in_another_error(tokens):
    path, shard = tokens / "val_000000.npy", read_manifest(tokens).splits["val"].shards[0]
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(128)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            assert len(open_shard(tokens, shard, 400)) == shard.tokens
        except InputError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("tokenizer"), r"manifest\.json: tokenizer is missing"),
        (lambda m: m.update(vocab_size="400"), r"manifest\.json: vocab_size = '400'"),
        (lambda m: m["splits"]["val"].update(documents=4), r"splits\.val\.documents = 4, but lengths add up to 3"),
        (lambda m: m["splits"]["train"].update(tokens=7), r"manifest\.json: splits\.train\.tokens = 7, but its shards"),
        (lambda m: m.update(vocab_size=401), r"manifest\.json: vocab_size = 401, the tokenizer's is 400"),
        (
            lambda m: m["splits"]["val"].update(documents=4, lengths=[4], tokens=4, shards=[SHARD]),
            r"manifest\.json: splits\.val\.tokens = 4, expected two or more for each document",
        ),
        (lambda m: m["splits"].pop("train"), r"manifest\.json: no split 'train'; it has val"),
        (lambda m: m["splits"]["val"]["shards"][0].update(file="../x.npy"), r"manifest\.json: .*file = '\.\./x\.npy'"),
    ],
)
def test_a_manifest_that_is_none(tokens, tokenizer, change, message):
    edit(tokens / "manifest.json", change)
    with pytest.raises(InputError, match=message):
        TokenStream(tokens, "train", tokenizer)


def test_another_tokenizer(tokens, tokenizer):
    with pytest.raises(InputError, match=r"manifest\.json: another tokenizer made these shards"):
        TokenStream(tokens, "train", Tokenizer(tokenizer.merges[:-1]))


def test_the_manifest_counts_documents_bytes_duplicates_and_lengths(tokens, tokenizer):
    manifest = read_manifest(tokens)
    assert (manifest.vocab_size, manifest.empty, manifest.invalid_utf8, manifest.val_in_train) == (400, 0, 0, 1)
    for name, split in manifest.splits.items():
        lengths = [len(tokenizer.encode(text)) for text in TEXTS[name]]
        assert list(split.lengths) == [
            sum(2**i <= length < 2 ** (i + 1) for length in lengths) for i in range(max(lengths).bit_length())
        ]
        assert split.bytes == sum(len(text.encode()) for text in TEXTS[name])
        assert split.duplicates == len(TEXTS[name]) - len(set(TEXTS[name]))


@given(st.lists(st.integers(1, 2**31), max_size=20))
def test_a_histogram_has_a_bin_for_each_power_of_two(lengths):
    counts = histogram(np.array(lengths, dtype=np.int64))
    assert counts.tolist() == [sum(2**i <= length < 2 ** (i + 1) for length in lengths) for i in range(BINS)]


def test_verify_finds_what_opening_does_not(tokens, tokenizer):
    assert verify(tokens).startswith(f"ok: train: {len(TEXTS['train'])} documents, ")
    path, manifest = tokens / "train_000000.npy", tokens / "manifest.json"
    edit(manifest, lambda m: m["splits"]["val"].update(lengths=[0, 2, 0, 0, 0, 0, 1]))
    with pytest.raises(InputError, match=r"manifest\.json: splits\.val\.lengths = \[.*\], but there are \["):
        verify(tokens)
    resave(path, lambda a: np.where(np.arange(len(a)) == 500, 300, a).astype(np.uint16))
    TokenStream(tokens, "train", tokenizer)
    with pytest.raises(InputError, match=r"train_000000\.npy: sha256 \w+, the manifest says"):
        verify(tokens)


def test_verify_looks_for_files_that_do_not_belong(tokens):
    (tokens / "train_000099.npy").write_bytes((tokens / "val_000000.npy").read_bytes())
    with pytest.raises(InputError, match=r"train_000099\.npy: not in the manifest"):
        verify(tokens)
    (tokens / "val_000000.npy").unlink()
    edit(tokens / "manifest.json", lambda m: m["splits"]["val"]["shards"][0].update(file="train_000099.npy"))
    with pytest.raises(InputError, match=r"splits\.val lists train_000099\.npy, a file of another split"):
        verify(tokens)
    edit(tokens / "manifest.json", lambda m: m.update(splits={}))
    for work in (verify, stats):
        with pytest.raises(InputError, match=r"manifest\.json: splits is empty"):
            work(tokens)


def test_more_shards_than_files_may_be_open(tokenizer, tmp_path):
    """Where the limit can be raised it is; where not, the line names it."""
    write_shards(tmp_path, [("train", ENGLISH * 3)], tokenizer, shard_tokens=40)
    assert len(list(tmp_path.glob("train_*"))) > 100
    tokenizer.save(tmp_path / "tokenizer")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from gpt2.tokens.shards import TokenStream; from gpt2.tokenizer.tokenizer import Tokenizer\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[2])))\n"
        "print(len(TokenStream(Path(sys.argv[1]), 'train', Tokenizer.load(Path(sys.argv[1], 'tokenizer')))))"
    )
    for hard, expected in ((4096, r"^\d+$"), (64, r"train_\d+\.npy: Too many open files$")):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path, str(hard)], cwd=ROOT, capture_output=True, text=True
        )
        assert re.search(expected, (done.stdout + done.stderr).strip().splitlines()[-1])


def test_an_id_beyond_the_vocabulary_is_found_on_opening(tokens, tokenizer):
    resave(tokens / "train_000001.npy", lambda a: np.where(np.arange(len(a)) == 500, 400, a).astype(np.uint16))
    for work in (lambda: TokenStream(tokens, "train", tokenizer), lambda: verify(tokens), lambda: stats(tokens)):
        with pytest.raises(InputError, match=r"train_000001\.npy: id 400 in a vocabulary of 400"):
            work()


def test_a_full_disk_keeps_its_name(tmp_path):
    """A limit on the size of files fails a write as a full disk does, part of it done."""
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from gpt2.tokens.writer import ShardWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: ShardWriter(Path(sys.argv[1]), 'train', 60_000).add(np.zeros(60_000, dtype=np.uint16))\n"
        "except OSError as error: print(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{errno.EFBIG}\n", "")
    assert not list(tmp_path.iterdir())


def test_the_command_verify(tokens, capsys):
    assert main(["verify", str(tokens)]) == 0
    assert capsys.readouterr().out == f"{verify(tokens)}\n"
    (tokens / "train_000001.npy").unlink()
    for work in ("verify", "stats"):
        assert main([work, str(tokens)]) == 1
        out, err = capsys.readouterr()
        last = err.splitlines()[-1]  # after progress bars
        assert out == "" and last.startswith("error: ") and "train_000001.npy" in last


@pytest.mark.parametrize("arguments", [[], ["count", "x"], ["verify"]])
def test_a_wrong_command_is_one_line(arguments, capsys):
    assert exit_status(main, arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_the_command_stats(tokens, capsys):
    assert main(["stats", str(tokens)]) == 0
    (out, err), manifest = capsys.readouterr(), read_manifest(tokens)
    assert err == ""
    rows = dict(zip(("train", "val"), manifest.splits.values(), strict=True))
    lines = {line[:22].strip(): line[22:].split() for line in out.splitlines()}
    assert lines["documents"] == [f"{split.documents:,}" for split in rows.values()]
    assert lines["duplicates"] == ["2", "0"]
    assert lines["bytes per token"] == [
        f"{split.bytes / (split.tokens - split.documents):.3f}" for split in rows.values()
    ]
    bars = [line.split() for line in out.partition("val: documents by tokens\n")[2].splitlines()]
    assert [int(bar[1]) for bar in bars] == np.trim_zeros(np.array(manifest.splits["val"].lengths)).tolist()
