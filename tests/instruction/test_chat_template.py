"""The chat template renders Alpaca's prompt, and longer conversations in the same manner."""

import pytest
from transformers import AutoTokenizer

from gpt2.instruction.alpaca import HEADER, exchanges, prompt
from gpt2.instruction.chat_template import CHAT_TEMPLATE, GENERATION
from gpt2.model.checkpoint import save_with_tokenizer
from tests.instruction.rows import TOKENIZER
from tests.small import small_model


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def heading(text: str) -> str:
    return f"### Instruction:\n{text}\n\n### Response:\n"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    save_with_tokenizer(small_model(vocab_size=257), TOKENIZER, place, GENERATION, CHAT_TEMPLATE)
    return AutoTokenizer.from_pretrained(place)


@pytest.mark.parametrize("text", ["Name three colors.", " é\n\n{instruction} {{ x }} ", '"quoted" \\n', ""])
def test_one_turn_is_the_prompt_of_training_byte_for_byte(tokenizer, text):
    for asked in (True, False):
        rendered = tokenizer.apply_chat_template([user(text)], add_generation_prompt=asked, tokenize=False)
        assert rendered == prompt(text)
    ids = tokenizer.apply_chat_template([user(text)], add_generation_prompt=True)["input_ids"]
    assert ids == TOKENIZER.encode(prompt(text))


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (
            [user("a"), assistant(" b\n"), user("c"), assistant("d")],
            f"{HEADER}{heading('a')} b\n<|endoftext|>\n\n{heading('c')}d<|endoftext|>",
        ),
        ([user("a"), assistant("b"), user("c")], f"{HEADER}{heading('a')}b<|endoftext|>\n\n{heading('c')}"),
        ([{"role": "system", "content": "Be brief."}, user("a")], f"Be brief.\n\n{heading('a')}"),
    ],
    ids=["two answers", "two questions", "system"],
)
def test_conversations(tokenizer, turns, expected):
    assert tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) == expected


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief.\n"}]], ids=["plain", "system"])
def test_conversations_are_those_of_training(tokenizer, system):
    turns = [*system, user(" a"), assistant(" b\n"), user("{c}"), assistant("d"), user("e"), assistant("\n")]
    trained = "".join(f"{before}{answer}<|endoftext|>" for before, answer in exchanges({"messages": turns}))
    assert tokenizer.apply_chat_template(turns, tokenize=False) == trained


def test_an_unknown_role_is_refused(tokenizer):
    with pytest.raises(Exception, match="expected a user or assistant turn, not tool"):
        tokenizer.apply_chat_template([user("a"), {"role": "tool", "content": "b"}])
