"""The prompt of Stanford Alpaca (Taori et al. 2023), which many instruction-tuned models are trained on.

In a conversation, each question after the first comes without the header, and each answer ends with <|endoftext|>:

    Below is an instruction ...

    ### Instruction:
    Name a color.

    ### Response:
    Red.<|endoftext|>

    ### Instruction:
    Another.

    ### Response:
    Blue.<|endoftext|>

A row is {"instruction", "input", "output"} or {"messages"}: turns {"role", "content"} of user and assistant that end
with an answer, perhaps after a turn of role system, which takes the place of the header.
"""

HEADER = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
QUESTION = "### Instruction:\n{instruction}\n\n### Response:\n"
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = HEADER + QUESTION


def prompt(instruction: str, input: str = "") -> str:
    """Formats an instruction as the text that comes before a response."""
    template = WITH_INPUT if input else WITHOUT_INPUT
    return template.format(instruction=instruction, input=input)


def exchanges(row: dict) -> list[tuple[str, str]]:
    """The answers of a row in their order, each with the text between it and the <|endoftext|> of the one before."""
    if "messages" not in row:
        return [(prompt(row["instruction"], row["input"]), row["output"])]
    header, turns = HEADER, row["messages"]
    if turns[0]["role"] == "system":
        header, turns = f"{turns[0]['content']}\n\n", turns[1:]
    contents = [turn["content"] for turn in turns]
    questions = [QUESTION.format(instruction=content) for content in contents[::2]]
    before = [header, *["\n\n"] * (len(questions) - 1)]
    return [
        (start + question, answer) for start, question, answer in zip(before, questions, contents[1::2], strict=True)
    ]


def question(row: dict) -> dict[str, str]:
    """A row as a person reads it: instruction, input, output. A conversation's instruction is its earlier turns."""
    if "messages" not in row:
        return row
    *earlier, last = row["messages"]
    instruction = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in earlier)
    return {"instruction": instruction, "input": "", "output": last["content"]}
