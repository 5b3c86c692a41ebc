"""Models explored: what is kept is what was computed, and what is written says the same."""

import base64
import json

import numpy as np
import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.interpret import heads, scores
from gpt2.interpret.heads import Explored
from gpt2.model.checkpoint import from_hf, load_state, read_state
from gpt2.model.gpt import GPT, initial_model
from gpt2.model.openai import openai_config
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import byte_tokenizer, small_model

PROMPTS = ("a cat sat", "né\n", 'a,"b"\r\n\u202e\x00', "</script>😀", "שלום")


def explore(model: GPT, prompts=PROMPTS) -> Explored:
    return heads.explore("m", "a model", model, byte_tokenizer(), prompts, 0, "attention.prompts")


def captured(model: GPT, text: str) -> torch.Tensor:
    return scores.capture(model, torch.tensor([byte_tokenizer().encode(text)]))[:, 0]


@pytest.fixture(scope="module")
def model() -> GPT:
    return small_model(vocab_size=257)


@pytest.fixture(scope="module")
def explored(model) -> Explored:
    return explore(model)


def test_readings_keep_the_weights_and_what_each_token_spells(model, explored):
    for reading, text in zip(explored.readings, PROMPTS, strict=True):
        assert b"".join(reading.spelt) == text.encode() and reading.ids == byte_tokenizer().encode(text)
        assert all(token.isprintable() for token in reading.tokens)
        np.testing.assert_allclose(reading.weights, captured(model, text).numpy(), rtol=0, atol=0.51 / 65535)


def test_scores_are_means_over_texts(model, explored):
    expected = torch.stack([scores.entropy(captured(model, text)) for text in PROMPTS]).mean(0)
    np.testing.assert_allclose(explored.scores["entropy"], expected.numpy(), rtol=1e-5)
    repeated = scores.capture(model, scores.repeated_tokens(257, 16, seed=0))
    expected = scores.induction(repeated, period=8).mean(1)
    np.testing.assert_allclose(explored.scores["induction"], expected.numpy(), rtol=1e-4)
    assert all(
        score.shape == (2, 4) and (score >= 0).all() and (score <= 1).all() for score in explored.scores.values()
    )
    assert explored.uniform["entropy"] == pytest.approx(1)


def test_a_fresh_model_looks_at_all_positions_nearly_alike():
    fresh = explore(initial_model(openai_config("gpt2").model_copy(update={"n_layer": 2, "vocab_size": 257}), 1).eval())
    assert fresh.scores["entropy"].min() > 0.9
    for name, score in fresh.scores.items():
        assert score.max() == pytest.approx(fresh.uniform[name], abs=0.05), name


@pytest.mark.parametrize("text", ["ab", "", "seventeen letters", "x" * 129])
def test_a_prompt_that_is_too_short_or_too_long_is_named(text):
    block_size = 16 if len(text) < 100 else 1024
    longest = min(block_size, 128)
    message = rf"attention.prompts\[1\].*{len(text)} tokens for the model it: expected 3 to {longest}"
    with pytest.raises(InputError, match=message):
        heads.encode_prompts(byte_tokenizer(), ["fine", text], block_size, "it", "attention.prompts")


def test_what_utf8_cannot_hold_is_shown_as_the_model_reads_it():
    (reading,) = explore(small_model(vocab_size=257), ["a\ud800b"]).readings
    assert reading.text == "a\ufffdb" and b"".join(reading.spelt) == reading.text.encode()


def test_a_prompt_may_fill_the_context():
    assert explore(small_model(vocab_size=257), ["sixteen letters."]).readings[0].weights.shape == (2, 4, 16, 16)


# --- what is written -----------------------------------------------------------------------------------------------


def test_the_viewer_s_numbers_are_the_weights(model, explored):
    (data,) = json.loads(json.dumps(heads.viewer_data([explored])))["models"]
    assert (data["name"], data["title"], data["n_layer"], data["n_head"]) == ("m", "a model", 2, 4)
    assert [prompt["text"] for prompt in data["prompts"]] == list(PROMPTS)
    for prompt, text in zip(data["prompts"], PROMPTS, strict=True):
        size = len(text.encode())
        assert prompt["ids"] == byte_tokenizer().encode(text) and len(prompt["tokens"]) == size
        assert b"".join(map(bytes.fromhex, prompt["bytes"])) == text.encode()
        A = captured(model, text)
        for layer, head in np.ndindex(2, 4):
            packed = base64.b64decode(prompt["weights"][layer][head])
            numbers = [int.from_bytes(packed[i : i + 2], "little") / 65535 for i in range(0, len(packed), 2)]
            assert len(numbers) == size * (size + 1) // 2
            for t in range(size):
                row = numbers[t * (t + 1) // 2 :][: t + 1]
                assert row == pytest.approx(A[layer, head, t, : t + 1].tolist(), abs=1 / 65535)
    for name, score in explored.scores.items():
        np.testing.assert_allclose(data["scores"][name], score, rtol=0, atol=0.51e-4)


def test_the_mapping_names_the_three_positions_of_most_weight(model, explored):
    rows = list(heads.mapping_rows(explored))
    assert len(rows) == 2 * 4 * sum(len(text.encode()) for text in PROMPTS)
    found = {tuple(row[key] for key in ("prompt", "layer", "head", "position")): row for row in rows}
    for prompt, reading in enumerate(explored.readings):
        A, labels = captured(model, reading.text), reading.tokens
        for layer, head, t in np.ndindex(A.shape[:3]):
            row = found[prompt, layer, head, t]
            assert row["token"] == labels[t]
            places = [to["position"] for to in row["attends_to"]]
            assert [to["token"] for to in row["attends_to"]] == [labels[place] for place in places]
            top = A[layer, head, t, : t + 1].topk(min(t + 1, 3)).values.tolist()
            assert [to["weight"] for to in row["attends_to"]] == pytest.approx(top, abs=1e-4)
            assert A[layer, head, t][places].tolist() == pytest.approx(top, abs=2 / 65535)


def test_of_equal_weights_the_first_position_comes_first():
    order = heads.most_attended(scores.uniform(5).numpy())
    assert order[0, 0, 4].tolist() == [0, 1, 2] and order[0, 0, 1, :2].tolist() == [0, 1]


def test_metrics_name_the_strongest_heads(explored):
    initial = explore(initial_model(small_model(vocab_size=257).config, seed=3).eval())
    rows = list(heads.head_rows(explored))
    assert [(row["model"], row["layer"], row["head"]) for row in rows] == [
        ("m", i, j) for i in range(2) for j in range(4)
    ]
    metrics = heads.metrics(explored, initial)
    best = metrics["induction"]
    assert best["value"] == pytest.approx(max(row["induction"] for row in rows), abs=1e-6)
    assert best["value"] == pytest.approx(rows[4 * best["layer"] + best["head"]]["induction"], abs=1e-6)
    assert best["initial"] == pytest.approx(initial.scores["induction"].max(), abs=1e-6)
    assert metrics["mean_entropy"] == pytest.approx(np.mean([row["entropy"] for row in rows]), abs=1e-6)
    assert metrics["mean_entropy"] < metrics["mean_entropy_initial"]
    json.dumps(metrics)


# --- a known head --------------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_openai_s_small_model_has_its_known_induction_head(real_data, monkeypatch):
    directory = real_data / "gpt2"
    if not (directory / "model.safetensors").is_file():
        pytest.skip("GPT2_REAL_DATA holds no gpt2/model.safetensors, OpenAI's weights")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(real_data / "tiktoken"))
    with torch.device("meta"):
        model = GPT(openai_config("gpt2")).eval()
    load_state(model, from_hf(read_state(directory)), directory)
    prompts = ["The cat sat on the mat because the cat was tired."]
    explored = heads.explore("openai", "it", model, Tokenizer.gpt2(), prompts, 0, "prompts")
    induction = explored.scores["induction"]
    strongest = np.argsort(-induction, axis=None)[:5]
    assert (5, 5) in {tuple(map(int, np.unravel_index(place, induction.shape))) for place in strongest}
    assert induction[5, 5] > 0.5
