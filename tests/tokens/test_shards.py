"""Shards hold the stream that was written; damage ends in one line that names the file."""

import errno
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.commands.cli import run
from gpt2.commands.shards import stats, verify
from gpt2.common.errors import InputError
from gpt2.common.files import sha256
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import EOT, Tokenizer
from gpt2.tokens.shards import BINS, TokenStream, histogram, open_shard, read_manifest
from tests.conftest import ROOT
from tests.small import byte_tokenizer, write_shards
from tests.tokenizer.test_bpe import ENGLISH

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


def stream_of(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    """The ids of texts, encoded one at a time."""
    return [id for text in texts for id in [tokenizer.eot, *tokenizer.encode(text)]]


@pytest.mark.parametrize("split", TEXTS)
def test_any_window_reads_the_same_across_files(tokens, tokenizer, split):
    stream, ids = TokenStream(tokens, split, tokenizer), stream_of(tokenizer, TEXTS[split])
    assert len(stream) == len(ids)
    rng = random.Random(0)
    windows = [(rng.randrange(len(ids)), rng.randrange(3000)) for _ in range(500)]
    for start, count in [*windows, (0, 0), (999, 1), (999, 2), (1000, 1), (1000, 1000), (len(ids), 0), (0, len(ids))]:
        start = min(start, len(ids))
        count = min(count, len(ids) - start)
        window = stream.read(start, count)
        assert window.dtype == np.uint16 and window.tolist() == ids[start : start + count]


@pytest.mark.parametrize("shard_tokens", [9, 44, 1000])
@pytest.mark.parametrize("batch", [1, 50, 10**6])
def test_neither_batches_nor_files_change_the_stream(tmp_path, monkeypatch, shard_tokens, batch):
    texts = ["a", "ten bytes.", EOT, "é" * 40, ENGLISH[0][:70], " "]
    monkeypatch.setattr("gpt2.tokens.writer.BATCH_CHARACTERS", batch)
    write_shards(tmp_path, [("train", texts)], byte_tokenizer(), shard_tokens)
    stream, shards = stream_of(byte_tokenizer(), texts), read_manifest(tmp_path).splits["train"].shards
    pieces = [open_shard(tmp_path, shard).tolist() for shard in shards]
    assert pieces == [stream[i : i + shard_tokens] for i in range(0, len(stream), shard_tokens)]
    assert [shard.file for shard in shards] == [f"train_{n:06d}.npy" for n in range(len(pieces))]
    assert [shard.sha256 for shard in shards] == [sha256(tmp_path / shard.file) for shard in shards]


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
        (lambda path: path.unlink(), r"train_000001\.npy: No such file or directory"),
        (lambda path: path.write_bytes(b""), r"train_000001\.npy: not a whole npy file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"train_000001\.npy: not a whole npy file"),
        (lambda path: resave(path, lambda a: a[:12]), r"train_000001\.npy: .* shape \(12,\), expected .* \(1000,\)"),
        (
            lambda path: resave(path, lambda a: a.astype(np.int32)),
            r"train_000001\.npy: contains int32 of shape \(1000,\)",
        ),
    ],
)
def test_a_shard_that_is_not_as_the_manifest_says(tokens, tokenizer, damage, message):
    damage(tokens / "train_000001.npy")
    with pytest.raises(InputError, match=message) as error:
        TokenStream(tokens, "train", tokenizer)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=message):
        verify(tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("tokenizer"), r"manifest\.json: tokenizer is missing"),
        (lambda m: m.update(vocab_size="400"), r"manifest\.json: vocab_size = '400'"),
        (lambda m: m.update(tokenizer="another"), r"manifest\.json: another tokenizer made these shards"),
        (lambda m: m["splits"].pop("train"), r"manifest\.json: no split 'train'; it has val"),
        (lambda m: m["splits"]["val"]["shards"][0].update(file="../x.npy"), r"manifest\.json: .*file = '\.\./x\.npy'"),
    ],
)
def test_a_manifest_that_does_not_fit(tokens, tokenizer, change, message):
    edit(tokens / "manifest.json", change)
    with pytest.raises(InputError, match=message):
        TokenStream(tokens, "train", tokenizer)


def test_the_manifest_counts_documents_bytes_duplicates_and_lengths(tokens, tokenizer):
    manifest = read_manifest(tokens)
    assert (manifest.vocab_size, manifest.empty, manifest.invalid_utf8, manifest.val_in_train) == (400, 0, 0, 1)
    for name, split in manifest.splits.items():
        lengths = [len(tokenizer.encode(text)) for text in TEXTS[name]]
        assert list(split.lengths) == [
            sum(2**i <= length < 2 ** (i + 1) for length in lengths) for i in range(max(lengths).bit_length())
        ]
        assert (split.documents, split.tokens) == (len(TEXTS[name]), sum(lengths) + len(lengths))
        assert split.bytes == sum(len(text.encode()) for text in TEXTS[name])
        assert split.duplicates == len(TEXTS[name]) - len(set(TEXTS[name]))


@given(st.lists(st.integers(1, 2**31), max_size=20))
def test_a_histogram_has_one_bin_per_power_of_two(lengths):
    counts = histogram(np.array(lengths, dtype=np.int64))
    assert counts.tolist() == [sum(2**i <= length < 2 ** (i + 1) for length in lengths) for i in range(BINS)]


@pytest.mark.parametrize("work", [verify, stats])
def test_a_manifest_without_splits_is_an_error(tokens, work):
    edit(tokens / "manifest.json", lambda m: m.update(splits={}))
    with pytest.raises(InputError, match=r"manifest\.json: splits is empty$"):
        work(tokens)


@pytest.mark.parametrize(("key", "value"), [("documents", 9999), ("lengths", [])])
def test_stats_refuses_totals_that_contradict_each_other(tokens, key, value):
    edit(tokens / "manifest.json", lambda m: m["splits"]["val"].update({key: value}))
    with pytest.raises(InputError, match=r"splits\.val: documents, tokens and lengths contradict each other$"):
        stats(tokens)


@pytest.mark.parametrize(("key", "value"), [("documents", 4), ("tokens", 7), ("lengths", [0, 2, 0, 0, 0, 0, 1])])
def test_verify_counts_again(tokens, key, value):
    assert verify(tokens).startswith(f"ok: train: {len(TEXTS['train'])} documents, ")
    edit(tokens / "manifest.json", lambda m: m["splits"]["val"].update({key: value}))
    with pytest.raises(InputError, match=rf"manifest\.json: splits\.val\.{key} = .*, but the shards contain "):
        verify(tokens)


def test_verify_finds_what_opening_does_not(tokens, tokenizer):
    resave(tokens / "train_000000.npy", lambda a: np.where(np.arange(len(a)) == 500, 300, a).astype(np.uint16))
    TokenStream(tokens, "train", tokenizer)
    with pytest.raises(InputError, match=r"train_000000\.npy: sha256 \w+, the manifest says"):
        verify(tokens)
    (tokens / "train_000099.npy").write_bytes((tokens / "val_000000.npy").read_bytes())
    with pytest.raises(InputError, match=r"train_000099\.npy: not in the manifest"):
        verify(tokens)


def test_more_shards_than_files_may_be_open(tokenizer, tmp_path):
    """The limit is raised where the system permits it; elsewhere the error names it."""
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


def test_a_full_disk_is_reported_as_such(tmp_path):
    """A limit on the size of files makes a write fail halfway, as a full disk does."""
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from gpt2.tokens.writer import write_array\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_array(Path(sys.argv[1], 'x.npy'), np.zeros(60_000, dtype=np.uint16))\n"
        "except OSError as error: print(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{errno.EFBIG}\n", "")
    assert not list(tmp_path.iterdir())


def test_the_command_verify(tokens, capsys):
    assert run("shards", ["verify", str(tokens)]) == 0
    assert capsys.readouterr().out == f"{verify(tokens)}\n"
    (tokens / "train_000001.npy").unlink()
    assert run("shards", ["verify", str(tokens)]) == 1
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]  # after progress bars
    assert out == "" and last.startswith("error: ") and "train_000001.npy" in last


def test_the_command_stats(tokens, capsys):
    assert run("shards", ["stats", str(tokens)]) == 0
    (out, err), manifest = capsys.readouterr(), read_manifest(tokens)
    assert err == ""
    splits = manifest.splits.values()
    lines = {line[:22].strip(): line[22:].split() for line in out.splitlines()}
    assert lines["documents"] == [f"{split.documents:,}" for split in splits]
    assert lines["duplicates"] == ["2", "0"]
    assert lines["bytes per token"] == [f"{split.bytes / (split.tokens - split.documents):.3f}" for split in splits]
    bars = [line.split() for line in out.partition("val: documents by tokens\n")[2].splitlines()]
    assert [int(bar[1]) for bar in bars] == np.trim_zeros(np.array(manifest.splits["val"].lengths)).tolist()
