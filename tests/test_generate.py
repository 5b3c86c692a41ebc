"""Generation: greedy equals transformers, sampling has the right distribution, the command says what is wrong."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel, LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper, pipeline

from gpt2 import alpaca, weights
from gpt2.bpe import train_bpe
from gpt2.generate import _decode, choose, complete, generate, generate_batch, main
from gpt2.model import GPT
from gpt2.tokenizer import Tokenizer
from tests.small import CONFIG, exit_status, small_model

PROMPT = [5, 250, 17]
TEXT = "the cat sat on the mat, and the dog sat on the log. " * 20


@pytest.fixture(scope="module")
def model() -> GPT:
    """Weights so large that its greedy text varies: one that repeats a token would hide what it sees."""
    model = small_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A checkpoint with a tokenizer, as a stage leaves it."""
    directory = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(train_bpe([TEXT], 270))
    tokenizer.save(directory)
    weights.save(small_model(block_size=64, vocab_size=tokenizer.vocab_size), directory)
    return directory


def sampled(model: GPT, ids: list[int], new_tokens: int, **sampling) -> list[list[int]]:
    """The tokens of each sample."""
    return [list(tokens) for tokens in zip(*generate(model, ids, new_tokens, **sampling), strict=True)]


def greedy(model: GPT, ids: list[int], new_tokens: int, stop: int | None = None) -> list[int]:
    (tokens,) = sampled(model, ids, new_tokens, temperature=0, stop=stop)
    return tokens


def test_greedy_equals_transformers_and_no_cache(model, tmp_path):
    weights.save(model, tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path)
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(torch.tensor([PROMPT]), do_sample=False, max_new_tokens=13, pad_token_id=0)[0].tolist()
    assert PROMPT + greedy(model, PROMPT, 13) == expected
    ids = list(PROMPT)
    for _ in range(13):
        ids.append(model(torch.tensor([ids]))[0, -1].argmax().item())
    assert ids == expected


def test_a_text_longer_than_the_context_goes_on_from_its_later_half(model):
    block_size = CONFIG.block_size
    ids, window = list(PROMPT), list(PROMPT)
    for _ in range(3 * block_size):
        ids.append(model(torch.tensor([window]))[0, -1].argmax().item())
        window = ids[-(block_size // 2) :] if len(window) == block_size else [*window, ids[-1]]
    assert PROMPT + greedy(model, PROMPT, 3 * block_size) == ids


@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_any_context_is_long_enough(block_size):
    assert len(greedy(small_model(block_size=block_size), PROMPT, 10)) == 10


def test_of_a_long_prompt_the_end_is_seen(model):
    ids = list(range(100, 140))
    assert greedy(model, ids, 20) == greedy(model, ids[-CONFIG.block_size :], 20)


def test_same_seed_same_tokens(model):
    first, again, other = (sampled(model, PROMPT, 30, seed=seed, samples=3) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len({tuple(tokens) for tokens in first}) == 3


def test_samples_share_the_prompt_and_leave_the_global_generator_alone(model):
    shapes = []
    hook = model.wte.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    state = torch.get_rng_state()
    samples = sampled(model, PROMPT, 4, temperature=0, samples=3)
    hook.remove()
    assert shapes == [(1, 3), (3, 1), (3, 1), (3, 1)]
    assert samples == [greedy(model, PROMPT, 4)] * 3
    assert torch.equal(torch.get_rng_state(), state)


def test_tokens_come_one_by_one(model):
    calls = []
    hook = model.wte.register_forward_hook(lambda *_: calls.append(1))
    steps = generate(model, PROMPT, 10)
    next(steps)
    hook.remove()
    assert len(calls) == 1
    assert not torch.is_inference_mode_enabled()


def test_a_sample_that_has_stopped_stays_so():
    model = small_model()
    stop = sampled(model, PROMPT, 5, seed=3, samples=4)[0][4]
    samples = sampled(model, PROMPT, 200, seed=3, samples=4, stop=stop)
    assert all(stop in tokens for tokens in samples)
    assert max(tokens.index(stop) for tokens in samples) == len(samples[0]) - 1
    for tokens in samples:
        assert set(tokens[tokens.index(stop) :]) == {stop}


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1, 0, 1), (0.5, 0, 1), (2, 4, 1), (1, 0, 0.7), (1.5, 6, 0.6)]
)
def test_draws_follow_the_distribution_of_transformers(temperature, top_k, top_p):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, 12, generator=generator)
    warpers = LogitsProcessorList()
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    expected = warpers(None, logits / temperature).softmax(dim=1)[0]
    n = 40_000
    drawn = choose(logits.expand(n, -1), temperature, top_k, top_p, generator).bincount(minlength=12) / n
    assert not drawn[expected == 0].any()
    deviation = (expected * (1 - expected) / n).sqrt()
    assert ((drawn - expected).abs() <= 5 * deviation).all()


@pytest.mark.parametrize("sampling", [{"temperature": 1e-320}, {"top_k": 1}, {"top_p": 0.0}], ids=str)
def test_extremes_of_sampling_are_greedy(sampling):
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    arguments = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "generator": torch.Generator()} | sampling
    assert torch.equal(choose(logits, **arguments), logits.argmax(dim=1))


def test_a_batch_equals_one_by_one(model):
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(300, (length,), generator=generator).tolist() for length in (1, 9, 4, 4, 12, 2, 7)]
    alone = [greedy(model, prompt, 5) for prompt in prompts]
    assert generate_batch(model, prompts, 5, eot=None) == [
        tokens[: CONFIG.block_size - len(prompt) + 1] for prompt, tokens in zip(prompts, alone, strict=True)
    ]
    eot = alone[2][3]
    expected = [tokens[: tokens.index(eot)] if eot in tokens else tokens for tokens in alone]
    assert {len(tokens) for tokens in expected} >= {3, 5}
    assert generate_batch(model, prompts, 5, eot) == expected


def test_a_row_of_a_batch_ends_with_its_context(model):
    prompts = [list(range(40)), list(range(14)), [1, 2]]
    answers = generate_batch(model, prompts, 30, eot=None)
    assert [len(answer) for answer in answers] == [1, 3, 15]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer == greedy(model, prompt, len(answer))


def test_autocast_is_no_obstacle(model):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert len(greedy(model, PROMPT, 30)) == 30
        assert len(generate_batch(model, [PROMPT, [1]], 5, eot=None)[1]) == 5


# --- text and command ----------------------------------------------------------------------------------------------


@pytest.fixture
def command(directory, capsys):
    """Runs the command; gives its status and what it wrote."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return exit_status(main, ["--model", str(directory), *arguments]), *capsys.readouterr()

    return run


@pytest.mark.parametrize("prompt", ["the cat", "日本語 the dog's"])
def test_greedy_text_equals_the_pipeline(directory, command, prompt):
    theirs = pipeline("text-generation", model=str(directory), device="cpu")
    (expected,) = theirs(prompt, do_sample=False, max_new_tokens=30)
    status, out, _ = command("--prompt", prompt, "--greedy", "--new-tokens", "30")  # transformers wrote on stderr
    assert (status, out) == (0, expected["generated_text"] + "\n")
    model, tokenizer = weights.load_with_tokenizer(directory)
    assert prompt + complete(model, tokenizer, prompt, 30, temperature=0) == expected["generated_text"]


def test_split_characters_are_held_back(directory):
    tokenizer = Tokenizer.load(directory)
    letters, accent, thumb = [tokenizer.encode(text) for text in ("ab", "é", "👍")]
    assert (len(accent), len(thumb)) == (2, 4)
    rows = [*letters, *accent, *thumb, tokenizer.eot], [*thumb[:3], *letters, tokenizer.eot, *accent, accent[0]]
    pieces = list(_decode(tokenizer, map(list, zip(*rows, strict=True)), samples=2))
    first, second = (list(texts) for texts in zip(*pieces, strict=True))
    assert first == ["a", "b", "", "é", "", "", "", "👍", "", ""]
    assert second == ["", "", "", "\ufffda", "b", "", "", "é", "", "\ufffd"]


def test_several_samples_follow_one_another(directory, command):
    arguments = ("--prompt", "the", "--new-tokens", "20", "--seed", "3")
    status, out, err = command(*arguments, "--samples", "3")
    model, tokenizer = weights.load_with_tokenizer(directory)
    texts = [
        "the" + tokenizer.decode([token for token in tokens if token != tokenizer.eot])
        for tokens in sampled(
            model, tokenizer.encode("the"), 20, temperature=0.8, top_k=50, seed=3, samples=3, stop=tokenizer.eot
        )
    ]
    assert out == "".join(f"--- sample {i} of 3 ---\n{text}\n" for i, text in enumerate(texts, start=1))
    assert (status, err) == (0, "")
    assert command(*arguments, "--samples", "3")[1] == out
    assert command(*arguments, "--seed", "4", "--samples", "3")[1] != out


def test_the_prompt_may_come_from_standard_input(command, monkeypatch):
    expected = command("--prompt", "the café\n", "--greedy")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("the café\n".encode())))
    assert command("--prompt", "-", "--greedy") == expected


def test_an_empty_prompt_begins_a_document(directory, command):
    model, tokenizer = weights.load_with_tokenizer(directory)
    tokens = greedy(model, [tokenizer.eot], 64, stop=tokenizer.eot)
    assert command("--greedy")[1] == tokenizer.decode([token for token in tokens if token != tokenizer.eot]) + "\n"


def test_a_long_prompt_is_used_with_a_note(command):
    status, out, err = command("--prompt", "x" * 100, "--greedy", "--new-tokens", "3")
    assert status == 0
    assert out.startswith("x" * 100)
    assert err == "note: the model sees the last 64 of the prompt's 100 tokens\n"


@pytest.mark.parametrize(("input", "more"), [(None, ()), ("the dog", ("--input", "the dog"))])
def test_an_instruction_is_asked_in_alpaca_s_words_and_the_answer_alone_is_printed(directory, command, input, more):
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
        (("--temperature", "nan"), "--temperature: 'nan': expected float from 0 to 100"),
        (("--top-k", "1.5"), "--top-k: '1.5': expected int of at least 0"),
        (("--top-p", "1.1"), "--top-p: '1.1': expected float from 0 to 1"),
        (("--new-tokens", "0"), "--new-tokens: '0': expected int of at least 1"),
        (("--samples", "many"), "--samples: 'many': expected int of at least 1"),
        (("--seed", "-1"), "--seed: '-1': expected int from 0"),
        (("--greedy", "--temperature", "1"), "not allowed with"),
        (("--prompt", "a", "--instruction", "b"), "--instruction: not allowed with argument --prompt"),
        (("--input", "a"), "--input: not allowed without argument --instruction"),
        (("--instruction", " "), "--instruction: ' ': expected a text"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_mistakes_are_one_line(command, arguments, message):
    status, out, err = command(*arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_a_tokenizer_must_be_there_and_fit(directory, command, tmp_path):
    weights.save(small_model(), tmp_path)
    assert "merges.txt: no such file" in command("--model", str(tmp_path))[2]
    Tokenizer.load(directory).save(tmp_path)
    status, _, err = command("--model", str(tmp_path))
    assert status == 1
    assert "the tokenizer has 270 tokens, the model 300" in err


def test_text_streams_and_an_interrupt_is_quiet(directory):
    arguments = ["--model", str(directory), "--prompt", "the cat", "--new-tokens", "100000000", "--top-k", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "gpt2.generate", *arguments],
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_standard_output_is_one_line(directory):
    arguments = ["--model", str(directory), "--prompt", "the cat", "--new-tokens", "3"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "gpt2.generate", *arguments], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"error: standard output: No space left on device\n")
