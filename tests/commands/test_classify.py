"""Labels equal those of a transformers pipeline; lines are answered as they arrive; errors are one line."""

import io
import subprocess
import sys
from functools import partial

import pytest
import torch
from transformers import pipeline

from gpt2.adapters.classifier import GPTClassifier, save
from gpt2.commands.classify import Classifier
from gpt2.commands.cli import run
from gpt2.common.files import read_json, write_json
from gpt2.model import checkpoint
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import exit_status, small_model

main = partial(run, "classify")

LABELS = ["cold", "hot", "lukewarm"]
TEXTS = ["the cat sat", "日本語 the dog's", "on the mat " * 20, "a"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A classifier with its tokenizer, as a stage leaves it; the head is large, so that probabilities differ."""
    directory = tmp_path_factory.mktemp("classifier")
    tokenizer = Tokenizer(train_bpe(["the cat sat on the mat, and the cat ate"], 270))
    base = small_model(vocab_size=tokenizer.vocab_size)
    torch.manual_seed(1)
    model = GPTClassifier(base, len(LABELS), tokenizer.eot)
    torch.nn.init.normal_(model.score.weight, std=0.3)
    save(model, LABELS, directory)
    tokenizer.save(directory, base.config.block_size, padding_side="right")
    return directory


@pytest.fixture
def command(directory, capsys, monkeypatch):
    """Runs the command with `given` as standard input; returns its status and output."""

    def run(*arguments: str, given: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        return exit_status(main, ["--model", str(directory), *arguments]), *capsys.readouterr()

    return run


def likeliest(directory, texts: list[str]) -> str:
    """The expected answers to lines with these texts, each classified alone."""
    classifier = Classifier(directory)
    shares = [classifier([text])[0] for text in texts]
    return "".join(f"{LABELS[share.argmax()]}\t{share.max():.4f}\n" for share in shares)


def test_probabilities_are_those_of_a_pipeline(directory, command):
    theirs = pipeline("text-classification", model=str(directory), device="cpu")
    expected = [theirs(text, top_k=None, truncation=True) for text in TEXTS]
    classifier = Classifier(directory)
    for share, rows in zip(classifier(TEXTS), expected, strict=True):
        scores = {row["label"]: row["score"] for row in rows}
        assert dict(zip(LABELS, share, strict=True)) == pytest.approx(scores, abs=1e-5)
    assert classifier.truncated == 1
    together = theirs(TEXTS, top_k=None, truncation=True, batch_size=3)
    for rows, alone in zip(together, expected, strict=True):
        assert [row["label"] for row in rows] == [row["label"] for row in alone]
        assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in alone], abs=1e-5)
    command()  # transformers wrote on stderr
    status, out, _ = command(TEXTS[0])
    assert (status, out) == (0, "".join(f"{row['label']}\t{row['score']:.4f}\n" for row in expected[0]))


def test_several_texts_follow_one_another(command):
    alone = [command(text)[1] for text in TEXTS[:2]]
    assert command(*TEXTS[:2]) == (0, f"--- text 1 of 2 ---\n{alone[0]}--- text 2 of 2 ---\n{alone[1]}", "")


def test_lines_of_standard_input_are_answered_in_order(directory, command):
    texts = [f"{'cat ' * (i % 20)}mat {i}" for i in range(100)]  # several batches, of other lengths
    given = "\r\n".join(texts).encode()  # and no end of line at the end
    status, out, err = command("-", given=given)
    long = sum(len(Tokenizer.load(directory).encode(text)) > 16 for text in texts)
    note = f"note: the model sees only the beginning of {long} of the texts: longer than 16 tokens\n"
    assert (status, err) == (0, note) and long > 0
    for answer, expected in zip(out.splitlines(), likeliest(directory, texts).splitlines(), strict=True):
        (label, share), (wanted, probability) = answer.split("\t"), expected.split("\t")
        assert label == wanted and float(share) == pytest.approx(float(probability), abs=2e-4)  # rounded twice
    assert command("-", given=b"") == (0, "", "")
    assert command("-", given=b"the \xff\n")[1] == likeliest(directory, ["the \ufffd"])
    assert command("-", given="\ufeffthe cat\n".encode())[1] == likeliest(directory, ["the cat"])


def test_a_blank_line_is_answered_by_a_blank_line(directory, command):
    first, second = likeliest(directory, ["the cat"]), likeliest(directory, ["a mat"])
    given = b"the cat\n \n\r\na mat\n\n"
    assert command("-", given=given) == (0, f"{first}\n\n{second}\n", "")
    assert command("-", given=b"\n") == (0, "\n", "")


def test_a_text_that_begins_with_a_dash(directory, command):
    hint = "; a text that begins with - follows --\n"
    assert command("-the") == (1, "", f"error: the following arguments are required: TEXT{hint}")
    assert command("the", "-the") == (1, "", f"error: unrecognized arguments: -the{hint}")
    assert command("--", "-the")[1].startswith(likeliest(directory, ["-the"]).splitlines()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "/nowhere", "x"), "/nowhere: no such model directory"),
        (("the cat", " "), "text 2 of 2 = ' ': expected a text that is not empty"),
        (("the cat", "-"), "-: expected no other texts"),
    ],
)
def test_errors_are_one_line(command, arguments, message):
    status, out, err = command(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1


def test_a_language_model_or_another_vocabulary_is_an_error(directory, command, tmp_path):
    Tokenizer.load(directory).save(tmp_path)
    checkpoint.save(small_model(), tmp_path)
    status, _, err = command("--model", str(tmp_path), "x")
    assert status == 1 and "no classifier: its model.safetensors has no tensor score.weight" in err
    save(GPTClassifier(small_model(vocab_size=260), 2, pad=259), LABELS[:2], tmp_path)
    status, _, err = command("--model", str(tmp_path), "x")
    assert status == 1 and "the tokenizer has 270 tokens, the model 260: expected a row per token" in err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id2label", ["a"]),
        ("id2label", {"0": 1}),
        ("pad_token_id", "x"),
        ("pad_token_id", -1),
        ("pad_token_id", 10**20),
        ("problem_type", "multi_label_classification"),
    ],
)
def test_a_malformed_configuration_is_an_error(command, tmp_path, key, value):
    save(GPTClassifier(small_model(), 2, pad=299), LABELS[:2], tmp_path)
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", config | {key: value})
    status, _, err = command("--model", str(tmp_path), "x")
    assert status == 1 and err.startswith(f"error: {tmp_path}/config.json: {key} = ") and err.count("\n") == 1


def test_a_line_is_answered_before_the_next_arrives_and_a_full_disk_is_one_line(directory):
    command = [sys.executable, "-m", "gpt2", "classify", "--model", str(directory), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for text in ("the cat", "a mat"):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().decode() == likeliest(directory, [text])
        process.stdin.close()
        assert process.wait() == 0
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, input=b"the cat\n", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"error: standard output: No space left on device\n")
