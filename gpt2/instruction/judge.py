"""Scores answers with a language model on any server that offers OpenAI's chat API: Ollama, vLLM, OpenAI.

The key in the environment variable JUDGE_API_KEY, if set, is sent to that server, but never unencrypted to another
machine.
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from time import sleep

import httpx2

from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.config.params import JudgeParams

PROMPT = (
    "You grade answers to instructions. Compare the answer with the expected one: is it correct, complete and to the "
    "point? Another wording is as good.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Expected answer:\n{expected}\n\n"
    "### Answer to grade:\n{answer}\n\n"
    "Reply with one whole number from 0 (useless) to 100 (as good as the expected answer), and nothing else."
)
REQUESTS = 8  # concurrent requests
WAITS = (1, 4, 16)  # seconds before each retry
TIMEOUT = 300  # seconds for a reply; before the first one, the server may have to load its model
LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1")
THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)  # some models write these before their reply
SCORE = re.compile(r"[^0-9]*(?<![-−.0-9])([0-9]{1,3})(?:\W*(?:/|out of)\W*100)?[^0-9]*")  # words may surround it


def scores(params: JudgeParams, rows: list[dict], answers: list[str], seed: int) -> list[int | None]:
    """Returns the judge's score of each answer to the instructions in `rows`, in their order.

    A score is 0 to 100, or None if the reply has none. Returns an empty list without `params.url`. Raises InputError
    if the judge cannot be reached or refuses.
    """
    if params.url is None:
        return []
    prompts = [
        PROMPT.format(instruction=row["instruction"], input=row["input"], expected=row["output"], answer=answer)
        for row, answer in zip(rows, answers, strict=True)
    ]
    with _client(params) as client, ThreadPoolExecutor(REQUESTS) as pool:
        ask = partial(_ask, client, params, seed)
        first = [ask(prompt) for prompt in prompts[:1]]  # alone, so that a wrong address fails only once
        replies = chain(first, pool.map(ask, prompts[1:]))
        return [parsed(reply) for reply in bar(replies, total=len(prompts), desc="judge", unit="answer")]


def parsed(reply: str) -> int | None:
    """The score in a reply such as 85, 85/100 or "Score: 85.", or None if the reply is not one number up to 100."""
    match = SCORE.fullmatch(THOUGHTS.sub("", reply))
    return int(match[1]) if match and int(match[1]) <= 100 else None


def metrics(params: JudgeParams, before: list[int | None], after: list[int | None]) -> dict:
    """Mean scores of the answers before and after tuning, over examples where both answers were scored.

    Returns an empty dict without `params.url`. The means are None if there is no such example.
    """
    if params.url is None:
        return {}
    both = [pair for pair in zip(before, after, strict=True) if None not in pair]
    means = [sum(column) / len(both) for column in zip(*both, strict=True)] or [None, None]
    return {
        "judge_score_before": means[0],
        "judge_score": means[1],
        "judge_n": len(both),
        "judge_unscored": [*before, *after].count(None),
        "judge_model": params.model,
        "judge_prompt": PROMPT,
    }


def _client(params: JudgeParams) -> httpx2.Client:
    """A client that sends the key with each request. It follows no redirects: they could leak the key."""
    try:
        url = httpx2.URL(params.url)
    except httpx2.InvalidURL as error:
        raise _failure(params, f"{type(error).__name__}: {error}") from None
    local = LOOPBACK.fullmatch(url.host) is not None
    key = os.environ.get("JUDGE_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError("JUDGE_API_KEY: expected a key in one line of ASCII")
    if key and url.scheme != "https" and not local:
        raise _failure(params, "expected https, because JUDGE_API_KEY is set and would be sent unencrypted")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.Client(headers=headers, timeout=TIMEOUT, trust_env=not local)  # no proxy for a local server


def _ask(client: httpx2.Client, params: JudgeParams, seed: int, prompt: str) -> str:
    """Returns the judge's reply. Retries after failures that may be temporary."""
    url = f"{params.url.rstrip('/')}/chat/completions"
    messages = [{"role": "user", "content": prompt}]
    body = {"model": params.model, "messages": messages, "temperature": 0, "seed": seed}
    for wait in (*WAITS, None):
        try:
            response = client.post(url, json=body)
        except httpx2.RequestError as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            if response.is_success:
                return _content(params, response)
            # Only the status, because a server may repeat the key in its message.
            problem = f"HTTP {response.status_code} {response.reason_phrase}"
            if response.status_code not in (408, 429) and response.status_code < 500:
                break
        if wait is not None:
            sleep(wait)
    raise _failure(params, problem)


def _content(params: JudgeParams, response: httpx2.Response) -> str:
    """The text of a reply, which may be empty."""
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        content = response
    if not isinstance(content, str | None):
        raise _failure(params, "the reply does not follow OpenAI's chat API")
    return content or ""


def _failure(params: JudgeParams, problem: str) -> InputError:
    return InputError(f"responses.judge.url = {params.url!r}, model {params.model!r}: {problem}")
