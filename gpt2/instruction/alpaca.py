"""The prompt of Stanford Alpaca (Taori et al. 2023), which many instruction-tuned models are trained on."""

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def prompt(instruction: str, input: str = "") -> str:
    """Formats an instruction as the text that comes before a response."""
    template = WITH_INPUT if input else WITHOUT_INPUT
    return template.format(instruction=instruction, input=input)
