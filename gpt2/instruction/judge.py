"""A language model that scores answers, behind any server that speaks OpenAI's API for chats: Ollama, vLLM, OpenAI."""

import os
import re
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
WAITS = (1, 4, 16)  # seconds before each further try
TIMEOUT = 300  # seconds for a reply: the first has to wait until the server has read its model
THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)  # that some models put before a reply
SCORE = re.compile(r"[^0-9]*(?<![-−.0-9])([0-9]{1,3})(?:\W*(?:/|out of)\W*100)?[^0-9]*")  # words may stand around


def scores(params: JudgeParams, rows: list[dict], answers: list[str], seed: int) -> list[int | None]:
    """The judge's score of each answer to the instructions in `rows`, 0 to 100, or None where its reply holds none.

    An empty list without `params.url`. The key in the environment variable OPENAI_API_KEY is sent where there is one.
    Raises InputError where the judge cannot be asked.
    """
    if params.url is None:
        return []
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError("OPENAI_API_KEY: expected a key in one line of ASCII")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    prompts = [
        PROMPT.format(instruction=row["instruction"], input=row["input"], expected=row["output"], answer=text)
        for row, text in zip(rows, answers, strict=True)
    ]
    try:
        client = httpx2.Client(headers=headers, timeout=TIMEOUT)
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:  # HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE, ...
        raise _failure(params, f"the environment's variables for proxies or certificates are amiss: {error}") from None
    with client:
        return [parsed(_ask(client, params, prompt, seed)) for prompt in bar(prompts, desc="judge", unit="answer")]


def parsed(reply: str) -> int | None:
    """The score that a reply gives, such as 85, 85/100 or "Score: 85."; None where that is not one number up to 100."""
    found = SCORE.fullmatch(THOUGHTS.sub("", reply))
    return int(found[1]) if found and int(found[1]) <= 100 else None


def metrics(params: JudgeParams, before: list[int | None], after: list[int | None]) -> dict:
    """Mean scores of the answers before and after tuning, over the examples where both were scored.

    Empty without `params.url`; the means are None where no example was scored.
    """
    if params.url is None:
        return {}
    both = [pair for pair in zip(before, after, strict=True) if None not in pair]
    means = [sum(given) / len(both) for given in zip(*both, strict=True)] or [None, None]
    return {
        "judge_score_before": means[0],
        "judge_score": means[1],
        "judge_n": len(both),
        "judge_unscored": [*before, *after].count(None),  # replies
        "judge_model": params.model,
        "judge_prompt": PROMPT,
    }


def _ask(client: httpx2.Client, params: JudgeParams, prompt: str, seed: int) -> str:
    """The judge's reply. What another try may mend is tried again, with longer and longer waits."""
    url = f"{params.url.rstrip('/')}/chat/completions"
    messages = [{"role": "user", "content": prompt}]
    body = {"model": params.model, "messages": messages, "temperature": 0, "seed": seed}
    for wait in (*WAITS, None):
        try:
            response = client.post(url, json=body)
        except (httpx2.RequestError, httpx2.InvalidURL, UnicodeError) as error:
            problem, transient = f"{type(error).__name__}: {error}", isinstance(error, httpx2.TransportError)
        else:
            if response.is_success:
                return _content(params, response)
            # The status alone: a server may repeat the key in its words.
            problem = f"HTTP {response.status_code} {response.reason_phrase}"
            transient = response.status_code in (408, 429) or response.status_code >= 500
        if wait is None or not transient:
            break
        sleep(wait)
    raise _failure(params, problem)


def _content(params: JudgeParams, response: httpx2.Response) -> str:
    """The text of a reply; a model may give none."""
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        content = response
    if not isinstance(content, str | None):
        raise _failure(params, "the reply is not one of OpenAI's API for chats")
    return content or ""


def _failure(params: JudgeParams, problem: str) -> InputError:
    return InputError(f"instruction.judge.url = {params.url!r}, model {params.model!r}: {problem}")
