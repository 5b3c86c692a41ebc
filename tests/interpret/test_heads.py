"""The attention that is read and written equals the attention that models compute."""

import base64
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.interpret import heads, scores
from gpt2.interpret.heads import ModelAttention
from gpt2.model.checkpoint import from_hf, load_state, read_state
from gpt2.model.gpt import GPT, initial_model
from gpt2.model.openai import openai_config
from gpt2.model.snapshots import Snapshot
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import byte_tokenizer, small_model

PROMPTS = ("a cat sat", "né\n", 'a,"b"\r\n\u202e\x00', "</script>😀", "שלום")


def read(model: GPT, prompts=PROMPTS) -> ModelAttention:
    tokenizer = byte_tokenizer()
    encoded = heads.encode_prompts(prompts, model, tokenizer, "attention.prompts")
    return heads.read_attention("m", "a model", model, tokenizer, encoded, 0)


def captured(model: GPT, text: str) -> torch.Tensor:
    return scores.capture(model, torch.tensor([byte_tokenizer().encode(text)]))[:, 0]


@pytest.fixture(scope="module")
def model() -> GPT:
    return small_model(vocab_size=257)


@pytest.fixture(scope="module")
def attention(model) -> ModelAttention:
    return read(model)


def test_scores_are_means_over_texts(model, attention):
    expected = torch.stack([scores.entropy(captured(model, text)) for text in PROMPTS]).mean(0)
    np.testing.assert_allclose(attention.scores["entropy"], expected.numpy(), rtol=1e-5)
    repeated = scores.capture(model, scores.repeated_tokens(256, 16, seed=0))
    expected = scores.repetition_scores(repeated)["induction"].mean(1)
    np.testing.assert_allclose(attention.scores["induction"], expected.numpy(), rtol=1e-4)
    assert all(
        score.shape == (2, 4) and (score >= 0).all() and (score <= 1).all() for score in attention.scores.values()
    )
    assert attention.uniform["entropy"] == pytest.approx(1)


def test_an_untrained_model_attends_to_all_positions_nearly_equally():
    fresh = read(initial_model(openai_config("gpt2").model_copy(update={"n_layer": 2, "vocab_size": 257}), 1).eval())
    assert fresh.scores["entropy"].min() > 0.9
    for name, score in fresh.scores.items():
        assert score.max() == pytest.approx(fresh.uniform[name], abs=0.05), name


@pytest.mark.parametrize("text", ["ab", ""])
def test_a_prompt_that_is_too_short_is_named(text):
    message = rf"attention.prompts\[1\] = '{text}': expected 3 tokens or more, not {len(text)}"
    with pytest.raises(InputError, match=message):
        read(small_model(vocab_size=257), ["fine", text])


@pytest.mark.parametrize(("block_size", "longest"), [(16, 16), (1024, 128)])
def test_a_longer_prompt_is_cut_to_its_first_tokens(capsys, block_size, longest):
    text = "".join(chr(ord("a") + i % 26) for i in range(150))
    (prompt,) = read(small_model(vocab_size=257, block_size=block_size), [text]).prompts
    assert prompt.text == text[:longest] and prompt.weights.shape[2:] == (longest, longest)
    assert f"150 tokens, cut to the first {longest}" in capsys.readouterr().err


def test_text_that_utf8_cannot_hold_is_shown_as_the_model_reads_it():
    (prompt,) = read(small_model(vocab_size=257), ["a\ud800b"]).prompts
    assert prompt.text == "a\ufffdb" and b"".join(prompt.token_bytes) == prompt.text.encode()


def test_a_prompt_may_fill_the_context(capsys):
    assert read(small_model(vocab_size=257), ["sixteen letters."]).prompts[0].weights.shape == (2, 4, 16, 16)
    assert not capsys.readouterr().err


# --- outputs -------------------------------------------------------------------------------------------------------


def test_the_viewer_s_numbers_are_the_weights(model, attention):
    (data,) = json.loads(json.dumps(heads.viewer_data([attention])))["models"]
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
    for name, score in attention.scores.items():
        np.testing.assert_allclose(data["scores"][name], score, rtol=0, atol=0.51e-4)


@pytest.mark.parametrize(("room", "kept"), [(10**9, [0, 1, 2, 3, 4]), (2000, [0, 2]), (1, [0])])
def test_as_many_snapshots_as_fit_are_kept_evenly_and_always_the_first_and_last(
    attention, monkeypatch, room, kept
):  # 8 heads of 9 tokens take 8 * 120 characters
    monkeypatch.setattr(heads, "SNAPSHOT_BYTES", room)
    training = [(Snapshot(step, 10 * step, Path()), attention) for step in range(6)]
    data = json.loads(json.dumps(heads.snapshot_data(training)))
    assert [(entry["step"], entry["tokens"]) for entry in data] == [(step, 10 * step) for step in [*kept, 5]]
    shown = heads.viewer_data([attention])["models"][0]
    for entry in data[:-1]:
        assert entry["scores"] == shown["scores"] and entry["weights"] == shown["prompts"][0]["weights"]
    assert heads.snapshot_data(training[-1:]) == [{"step": 5, "tokens": 50}]


def test_the_mapping_lists_the_three_largest_weights_of_the_strongest_heads(model, attention):
    rows = list(heads.mapping_rows(attention))
    strongest = set(heads.strongest_heads(attention).values())
    assert len(rows) == len(strongest) * sum(len(text.encode()) for text in PROMPTS)
    found = {tuple(row[key] for key in ("prompt", "layer", "head", "position")): row for row in rows}
    for number, prompt in enumerate(attention.prompts):
        A, labels = captured(model, prompt.text), prompt.tokens
        for (layer, head), t in itertools.product(strongest, range(len(labels))):
            row = found[number, layer, head, t]
            assert row["token"] == labels[t]
            places = [to["position"] for to in row["attends_to"]]
            assert [to["token"] for to in row["attends_to"]] == [labels[place] for place in places]
            top = A[layer, head, t, : t + 1].topk(min(t + 1, 3)).values.tolist()
            assert [to["weight"] for to in row["attends_to"]] == pytest.approx(top, abs=1e-4)
            assert A[layer, head, t][places].tolist() == pytest.approx(top, abs=2 / 65535)


def test_metrics_name_the_strongest_heads(attention):
    initial = read(initial_model(small_model(vocab_size=257).config, seed=3).eval())
    rows = list(heads.head_rows(attention))
    assert [(row["layer"], row["head"]) for row in rows] == [(i, j) for i in range(2) for j in range(4)]
    metrics = heads.metrics(attention, initial)
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
    encoded = heads.encode_prompts(prompts, model, Tokenizer.gpt2(), "prompts")
    attention = heads.read_attention("openai", "it", model, Tokenizer.gpt2(), encoded, 0)
    induction = attention.scores["induction"]
    strongest = np.argsort(-induction, axis=None)[:5]
    assert (5, 5) in {tuple(map(int, np.unravel_index(place, induction.shape))) for place in strongest}
    assert induction[5, 5] > 0.5
