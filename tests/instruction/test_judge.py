"""The judge, against a server on 127.0.0.1: requests, replies, failures, and where the key goes."""

import threading
import time

import pytest

from gpt2.common.errors import InputError
from gpt2.config.params import JudgeParams
from gpt2.instruction import judge
from tests.loopback_judge import judging
from tests.small import free_port

ROWS = [
    {"instruction": "Add 1 and 2.", "input": "", "output": "3"},
    {"instruction": "Repeat {this}.", "input": "abc", "output": "abc"},
]
ANSWERS = ["three", "{abc}"]
OFF = JudgeParams(url=None, model=None)
KEY = "sk-secret-1234"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(judge, "WAITS", (0, 0, 0))
    monkeypatch.setenv("JUDGE_API_KEY", KEY)


def test_each_answer_is_one_request_to_openai_s_chat_api():
    with judging("85", "Score: 7/100.") as (params, script):
        assert judge.scores(params, ROWS, ANSWERS, seed=11) == [85, 7]
    assert script.paths == ["/v1/chat/completions"] * 2 and script.keys == [f"Bearer {KEY}"] * 2
    for row, answer, body in zip(ROWS, ANSWERS, script.asked, strict=True):
        (message,) = body.pop("messages")
        assert body == {"model": "grader:7b", "temperature": 0, "seed": 11}
        given = {"instruction": row["instruction"], "input": row["input"], "expected": row["output"], "answer": answer}
        assert message == {"role": "user", "content": judge.PROMPT.format(**given)}
        assert all(text in message["content"] for text in given.values())


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        *[("85", 85), (" 0\n", 0), ("100", 100), ("85/100", 85), ("**85** / 100", 85), ("I give it 40 points.", 40)],
        *[("85 out of 100", 85), ("<think>Between 70\nand 80.</think>\n75", 75), ("−5", None)],
        *[("", None), ("good", None), ("101", None), ("1000", None), ("8.5", None), ("0.85", None), ("-5", None)],
        *[("3 out of 5", None), ("between 60 and 70", None), ("8/10", None), ("٣", None)],
    ],
)
def test_one_whole_number_is_a_score_and_nothing_is_guessed(reply, score):
    assert judge.parsed(reply) == score


@pytest.mark.parametrize("fault", [429, 500, 503, 408, "hang up"])
def test_temporary_failures_are_retried(fault):
    with judging(fault, fault, "60") as (params, script):
        assert judge.scores(params, ROWS[:1], ANSWERS[:1], seed=0) == [60]
    assert script.asked[0] == script.asked[1] == script.asked[2]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([503] * 4, "HTTP 503 Service Unavailable"),
        ([401], "HTTP 401 Unauthorized"),
        ([302], "HTTP 302 Found"),
        (["hang up"] * 4, "RemoteProtocolError: Server disconnected without sending a response."),
        ([b"<html>"], "the reply does not follow OpenAI's chat API"),
        ([b'{"choices": [{"message": {"content": 85}}]}'], "the reply does not follow OpenAI's chat API"),
    ],
    ids=str,
)
def test_a_failure_is_one_line_without_the_key(answers, words):
    with judging(*answers) as (params, script), pytest.raises(InputError) as error:
        judge.scores(params, ROWS, ANSWERS, seed=0)
    assert str(error.value) == f"responses.judge.url = {params.url!r}, model 'grader:7b': {words}"
    assert not script.answers


def test_an_address_without_a_server_is_named():
    params = JudgeParams(url=f"http://127.0.0.1:{free_port()}", model="m")
    with pytest.raises(InputError, match=r"^responses\.judge\.url = 'http.*', model 'm': ConnectError: .*refused"):
        judge.scores(params, ROWS, ANSWERS, seed=0)
    with pytest.raises(InputError, match=r"^responses\.judge\.url = 'http://a:b', model 'm': InvalidURL"):
        judge.scores(JudgeParams(url="http://a:b", model="m"), ROWS, ANSWERS, seed=0)


def test_requests_run_concurrently_and_scores_keep_the_order_of_the_answers():
    together = threading.Barrier(3, timeout=30)

    def reply(prompt: str) -> str:
        answer = int(prompt.split("### Answer to grade:\n")[1].split()[0])
        if answer:  # the first is asked alone
            together.wait()
            time.sleep(0.2 / answer)  # later requests are answered sooner
        return str(10 * answer)

    with judging(*[reply] * 4) as (params, _):
        assert judge.scores(params, ROWS[:1] * 4, ["0", "1", "2", "3"], seed=0) == [0, 10, 20, 30]


# --- the key -------------------------------------------------------------------------------------------------------


def test_the_key_of_another_service_is_not_sent(monkeypatch):
    monkeypatch.delenv("JUDGE_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with judging("85") as (params, script):
        judge.scores(params, ROWS[:1], ANSWERS[:1], seed=0)
    assert script.keys == [None]


@pytest.mark.parametrize("host", ["judge.example", "10.0.0.1", "localhost.example", "127.0.0.1.example"])
def test_the_key_never_leaves_the_machine_unencrypted(host):
    params = JudgeParams(url=f"http://{host}/v1", model="m")
    with pytest.raises(InputError, match=r"^responses\.judge\.url = .*expected https, because JUDGE_API_KEY is set"):
        judge.scores(params, ROWS, ANSWERS, seed=0)


def test_a_local_server_gets_the_key_without_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with judging("85") as (params, script):
        assert judge.scores(params, ROWS[:1], ANSWERS[:1], seed=0) == [85]
    assert script.keys == [f"Bearer {KEY}"]


def test_the_error_for_a_malformed_key_does_not_repeat_it(monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", "sk-secret\nInjected: yes")
    with judging() as (params, script), pytest.raises(InputError) as error:
        judge.scores(params, ROWS, ANSWERS, seed=0)
    assert str(error.value) == "JUDGE_API_KEY: expected a key in one line of ASCII" and not script.asked


# --- metrics -------------------------------------------------------------------------------------------------------


def test_means_are_over_examples_that_were_scored_twice():
    params = JudgeParams(url="http://a/v1", model="m")
    figures = judge.metrics(params, [10, None, 30, 40], [50, 60, None, 100])
    assert figures == {
        "judge_score_before": 25.0,
        "judge_score": 75.0,
        "judge_n": 2,
        "judge_unscored": 2,
        "judge_model": "m",
        "judge_prompt": judge.PROMPT,
    }
    nothing = judge.metrics(params, [None], [5])
    assert (nothing["judge_score_before"], nothing["judge_score"], nothing["judge_n"]) == (None, None, 0)


def test_without_a_url_nothing_is_judged():
    assert judge.scores(OFF, ROWS, ANSWERS, seed=0) == []
    assert judge.metrics(OFF, [], []) == {}
