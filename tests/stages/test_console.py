"""What the console blocks of the pages do: each command runs, and prints what the page shows.

The blocks of a page run in order, in one shell, in a clone of the finished smoke chain.
"""

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.pages import PAGES, Example, console_blocks, read
from tests.repository import Clone

pytestmark = pytest.mark.chain
SKIPPED = {  # pattern of a command: why the block that has it does not run
    r"^(GPT2_REAL_DATA=\S+ )?make\b|apt-get|-m pytest": "installs the environment or runs these tests",
    r"benchmarks\.|kill_chain": "takes minutes and compares nothing that a page shows",
    r"profile (gpt2-124m|finetune-openai)|rehearsal|data/models/gpt2": "needs the hub, and a GPU",
    r"--nnodes|git push|example\.org": "needs another machine",
    r"judge\.url": "needs a server with a language model",
    r"cp book\.txt\.gz|seed=1,2": "runs a whole chain",
    r"gpt2 (export|import)": "needs an adapter, or a checkpoint of another make",
}
VARIES = {  # pattern of a command: why only the fact that it prints something is checked
    r"stages\.times": "another machine takes other times",
    r"gpt2 (generate|classify|shards)|data/(models|tokenizer)|[ \"]reports/": "the smoke profile has other values",
}
NUMBERS_VARY = r"^(dvc|git) "  # hashes, times, metrics: any word with a digit matches any other
MARK = "@@@ exit status"


def readers_files(place: Path) -> None:
    """Writes the files that the pages leave to the reader."""
    sentences = [f"Sentence {n} about {'graphs' if n % 2 else 'the grammar of sentences'}." for n in range(120)]
    reviews = pd.DataFrame({"review": sentences, "stars": [f"{n % 2 + 4} stars" for n in range(120)]})
    reviews.to_csv(place / "reviews.csv", index=False)
    reviews[::-1].to_csv(place / "reviews.tsv", index=False, sep="\t", columns=["stars", "review"])
    reviews.to_parquet(place / "reviews.parquet")
    (place / "book.txt").write_text("\n".join(sentences))
    (place / "prompt.txt").write_text(sentences[0])


def run(examples: list[Example], clone: Clone) -> list[tuple[int, list[str]]]:
    """The exit status of each command and the lines that it printed."""
    script = clone.path.with_name("page.sh")
    commands = (f"{example.command}\nprintf '\\n{MARK} %s\\n' $?\n" for example in examples)
    script.write_text("exec 2>&1\n" + "".join(commands))
    parts = re.split(rf"^{MARK} (\d+)\n", clone.run("bash", str(script)).stdout, flags=re.MULTILINE)
    return [
        (int(status), re.split(r"[\r\n]+", printed)) for printed, status in zip(parts[::2], parts[1::2], strict=False)
    ]


def pattern(line: str, numbers_vary: bool) -> str:
    """What a shown line matches: `...` stands for anything, and any space for any other."""
    words = []
    for word in line.split():
        anything = ".*".join(map(re.escape, word.split("...")))
        words.append(r"\S+" if numbers_vary and re.search(r"\d", word) else anything)
    return r"\s+".join(words)


def missing(example: Example, printed: list[str]) -> str | None:
    """The first line that the page shows and that the command did not print, after the lines before it."""
    if any(re.search(varying, example.command) for varying in VARIES):
        return "any output" if example.shown and not any(printed) else None
    rest = iter(printed)
    numbers_vary = re.search(NUMBERS_VARY, example.command) is not None
    for line in example.shown:
        wanted = re.compile(pattern(line, numbers_vary))
        if not any(wanted.fullmatch(actual.strip()) for actual in rest):
            return line
    return None


def executed(page: str) -> list[Example]:
    """The examples of a page whose blocks are not skipped."""
    blocks = console_blocks(read(page))
    skipped = [any(re.search(pattern, e.command) for e in block for pattern in SKIPPED) for block in blocks]
    return [example for block, skip in zip(blocks, skipped, strict=True) if not skip for example in block]


@pytest.mark.parametrize("page", filter(executed, PAGES))
def test_the_commands_of_a_page_print_what_it_shows(page, finished, tmp_path):
    clone = Clone(finished, tmp_path)
    readers_files(clone.path)
    results = run(executed(page), clone)
    assert len(results) == len(executed(page))
    for example, (status, printed) in zip(executed(page), results, strict=True):
        output = "\n".join(printed)
        where = f"{page}: $ {example.command}\nended with status {status} and printed:\n{output[-3000:]}"
        assert status == 0 or example.shown or "nothing to commit" in output, where
        assert "Traceback" not in output, where
        line = missing(example, printed)
        assert line is None, f"{where}\nThe page shows, and the command did not print: {line}"
