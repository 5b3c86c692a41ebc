"""The command prints the text of the library and of transformers, streams it, and reports errors in one line."""

import io
import shutil
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from transformers import pipeline

from gpt2.commands.cli import run
from gpt2.commands.generate import _decode
from gpt2.common.files import read_json, write_json
from gpt2.generation.generate import complete
from gpt2.generation.sampling import GREEDY, Sampling
from gpt2.instruction import alpaca
from gpt2.model import checkpoint
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import exit_status, small_model

main = partial(run, "generate")

TEXT = "the cat sat on the mat, and the dog sat on the log. " * 20


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A checkpoint with a tokenizer, as a stage leaves it."""
    directory = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(train_bpe([TEXT], 270))
    tokenizer.save(directory)
    checkpoint.save(small_model(block_size=64, vocab_size=tokenizer.vocab_size), directory)
    return directory


@pytest.fixture
def command(directory, capsys):
    """Runs the command; returns its status and output."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return exit_status(main, ["--model", str(directory), *arguments]), *capsys.readouterr()

    return run


@pytest.mark.parametrize("prompt", ["the cat", "日本語 the dog's"])
def test_greedy_text_equals_the_pipeline(directory, command, prompt):
    theirs = pipeline("text-generation", model=str(directory), device="cpu")
    (expected,) = theirs(prompt, do_sample=False, max_new_tokens=30)
    status, out, _ = command("--prompt", prompt, "--greedy", "--new-tokens", "30")  # transformers wrote on stderr
    assert (status, out) == (0, expected["generated_text"] + "\n")
    model, tokenizer = checkpoint.load_with_tokenizer(directory)
    assert prompt + complete(model, tokenizer, prompt, 30, GREEDY) == expected["generated_text"]


def test_a_padded_batch_of_the_pipeline_gives_the_texts_of_one_at_a_time(directory):
    theirs = pipeline("text-generation", model=str(directory), device="cpu")
    prompts, options = ["the cat", "a", "the dog sat on the"], {"do_sample": False, "max_new_tokens": 20}
    assert theirs(prompts, batch_size=3, **options) == [theirs(prompt, **options) for prompt in prompts]


def test_a_prompt_that_begins_with_a_dash(command):
    status, out, err = command("--prompt", "-the", "--greedy")
    assert (status, out) == (1, "")
    hint = "a value that begins with - follows an equals sign: --prompt=-value"
    assert err == f"error: argument --prompt: expected one argument; {hint}\n"
    assert command("--prompt=-the", "--greedy")[1].startswith("-the")


def test_split_characters_wait_until_they_are_complete(directory):
    tokenizer = Tokenizer.load(directory)
    letters, accent, thumb = [tokenizer.encode(text) for text in ("ab", "é", "👍")]
    assert (len(accent), len(thumb)) == (2, 4)
    rows = [*letters, *accent, *thumb, tokenizer.eot], [*thumb[:3], *letters, tokenizer.eot, *accent, accent[0]]
    pieces = list(_decode(tokenizer, map(list, zip(*rows, strict=True)), samples=2, stop={tokenizer.eot}))
    first, second = (list(texts) for texts in zip(*pieces, strict=True))
    assert first == ["a", "b", "", "é", "", "", "", "👍", "", ""]
    assert second == ["", "", "", "\ufffda", "b", "", "", "é", "", "\ufffd"]


def test_several_samples_follow_one_another(directory, command):
    arguments = ("--prompt", "the", "--new-tokens", "20", "--seed", "3")
    status, out, err = command(*arguments, "--samples", "3")
    model, tokenizer = checkpoint.load_with_tokenizer(directory)
    settings = Sampling(temperature=0.8, top_k=50)
    texts = ["the" + complete(model, tokenizer, "the", 20, settings, seed=seed) for seed in (3, 4, 5)]
    assert out == "".join(f"--- sample {i} of 3 ---\n{text}\n" for i, text in enumerate(texts, start=1))
    assert (status, err) == (0, "")
    assert command(*arguments, "--samples", "3")[1] == out
    assert command(*arguments, "--seed", "4", "--samples", "3")[1] != out


def test_the_prompt_may_come_from_standard_input(command, monkeypatch):
    expected = command("--prompt", "the café\n", "--greedy")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("the café\n".encode())))
    assert command("--prompt", "-", "--greedy") == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffthe café\n".encode())))
    assert command("--prompt", "-", "--greedy") == expected


def test_an_empty_prompt_begins_a_document(directory, command):
    model, tokenizer = checkpoint.load_with_tokenizer(directory)
    text = complete(model, tokenizer, "", 64, GREEDY) + "\n"
    assert command("--greedy") == (0, text, "")
    note = "note: the prompt is empty, so a new document begins\n"
    assert command("--greedy", "--prompt", "") == (0, text, note)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_the_model_computes_in_the_precision_asked_for(directory, command, precision, dtype):
    asked = ("--precision", precision, "--device", "cpu")
    status, out, err = command("--prompt", "the cat", "--greedy", "--new-tokens", "8", *asked)
    model, tokenizer = checkpoint.load_with_tokenizer(directory)
    text = complete(model.to(dtype), tokenizer, "the cat", 8, GREEDY)
    assert (status, out, err) == (0, f"the cat{text}\n", "")


def test_a_long_prompt_is_used_with_a_note(command):
    status, out, err = command("--prompt", "x" * 100, "--greedy", "--new-tokens", "3")
    assert status == 0
    assert out.startswith("x" * 100)
    assert err == "note: the model sees the last 64 of the prompt's 100 tokens\n"


@pytest.mark.parametrize(("input", "more"), [(None, ()), ("the dog", ("--input", "the dog"))])
def test_an_instruction_is_put_into_alpaca_s_prompt_and_only_the_answer_is_printed(directory, command, input, more):
    arguments = ("--greedy", "--new-tokens", "12")
    status, out, err = command("--instruction", "the cat sat", *more, *arguments)
    asked = alpaca.prompt("the cat sat", input or "")
    assert (status, asked + out) == (0, command("--prompt", asked, *arguments)[1])
    assert err.startswith("note: ")  # the small model's context is shorter than the wording


def test_a_prompt_that_is_not_utf8_is_printed_with_replacements(command):
    assert command("--prompt", "the \udcff", "--new-tokens", "1")[1].startswith("the \ufffd")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "/nowhere"), "/nowhere: no such model directory"),
        (("--temperature", "-1"), "--temperature: '-1': expected float from 0 to 100"),
        (("--new-tokens", "0"), "--new-tokens: '0': expected int of at least 1"),
        (("--samples", "100000000"), "--samples: '100000000': expected int from 1 to 1000"),
        (("--prompt", "a", "--instruction", "b"), "--instruction: not allowed with argument --prompt"),
        (("--input", "a"), "--input: not allowed without argument --instruction"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_errors_are_one_line(command, arguments, message):
    status, out, err = command(*arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_a_device_that_the_machine_lacks_is_an_error(command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, out, err = command("--device", "cuda")
    assert (status, out) == (1, "") and err.startswith(
        "error: device = 'cuda': torch finds none here; expected auto or"
    )


def test_a_classifier_is_not_a_language_model(command, directory, tmp_path):
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    config = read_json(tmp_path / "config.json") | {"architectures": ["GPT2ForSequenceClassification"]}
    write_json(tmp_path / "config.json", config)
    assert "a classifier, expected a language model" in command("--model", str(tmp_path))[2]


def test_text_streams_and_an_interrupt_is_quiet(directory):
    arguments = ["--model", str(directory), "--prompt", "the cat", "--new-tokens", "100000000", "--top-k", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "gpt2", "generate", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    ) as process:
        try:
            assert process.stdout.read(20).startswith(b"the cat")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, b"")
