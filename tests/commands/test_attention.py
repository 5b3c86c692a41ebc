"""The command writes a page for any models and prompts; after an error of one line it leaves no file."""

import json
from functools import partial

import pytest

from gpt2.commands.cli import run
from gpt2.interpret.heads import encode_prompts, read_attention, viewer_data
from gpt2.model import checkpoint
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.report.inputs import Page
from tests.small import byte_tokenizer, exit_status, small_model

main = partial(run, "attention")

HOSTILE = "</script>😀 שלום\x1b"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two checkpoints with different shapes and vocabularies."""
    place = tmp_path_factory.mktemp("models")
    shapes = {"one": (byte_tokenizer(), {}), "two": (Tokenizer([(b"a", b"b")]), {"n_layer": 1, "n_head": 2})}
    for name, (tokenizer, shape) in shapes.items():
        tokenizer.save(place / name)
        checkpoint.save(small_model(block_size=256, vocab_size=tokenizer.vocab_size, **shape), place / name)
    return place


def test_the_page_holds_every_head_of_the_models_on_the_prompts(models, tmp_path):
    out = tmp_path / "attention.html"
    arguments = [f"--model={models / 'one'}", f"--model={models / 'two'}", "--prompt", "ababc", "--prompt", HOSTILE]
    assert main([*arguments, "--out", str(out)]) == 0
    first = out.read_bytes()
    (shown,) = Page(first.decode()).text("script", type="application/json")
    loaded = {str(models / name): load_with_tokenizer(models / name, "cpu") for name in ("one", "two")}
    expected = viewer_data(
        read_attention(name, name, *model, encode_prompts(["ababc", HOSTILE], *model, "-"), 1337)
        for name, model in loaded.items()
    )
    assert json.loads(shown) == expected
    assert main([*arguments, "--out", str(out)]) == 0 and out.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["attention.html"]


def test_a_context_too_short_for_the_scores_is_an_error(tmp_path, capsys):
    checkpoint.save(small_model(vocab_size=257, block_size=2), tmp_path / "tiny")
    byte_tokenizer().save(tmp_path / "tiny")
    arguments = ["--model", str(tmp_path / "tiny"), "--prompt", "abc", "--out", str(tmp_path / "page.html")]
    assert exit_status(main, arguments) == 1
    assert capsys.readouterr().err.startswith("error: block_size = 2: expected 3 or more, the fewest tokens that")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", "ab"), "--prompt[0] = 'ab': expected 3 tokens or more, not 2"),
        (("--prompt", "abc", "--model", "a", "--model", "a"), "--model a: given twice"),
        (("--prompt", "abc", "--model", "/nowhere"), "/nowhere: no such model directory"),
        (("--prompt", "abc", "--out", "/nowhere/page.html"), "--out = /nowhere/page.html: expected a file in an"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(models, tmp_path, capsys, arguments, message):
    out = tmp_path / "page.html"
    status = exit_status(main, ["--model", str(models / "one"), "--out", str(out), *arguments])
    err = capsys.readouterr().err
    assert status == 1 and message in err and err.startswith("error: ") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
