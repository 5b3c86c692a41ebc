"""The model card's table of data: where each set comes from, what it is for, and what is known of its licence."""

# As the pages of the data sets and of the weights on the hub state them.
LICENCES = {
    "HuggingFaceFW/fineweb": "ODC-By 1.0, and Common Crawl’s terms of use",
    "HuggingFaceFW/fineweb-edu": "ODC-By 1.0, and Common Crawl’s terms of use",
    "tatsu-lab/alpaca": "CC BY-NC 4.0: no commercial use",
    "stanfordnlp/sst2": "not stated",
    "Rowan/hellaswag": "MIT",
    "openai-community/gpt2": "MIT",
    "openai-community/gpt2-medium": "MIT",
    "openai-community/gpt2-large": "MIT",
    "openai-community/gpt2-xl": "MIT",
}
USES = {
    "corpus": "pretraining, its validation",
    "instructions": "instruction tuning, its validation and test",
    "classification": "training of the classifier, its validation and test",
    "hellaswag": "test",
}
WEIGHTS = "parity, attention and embeddings beside this run’s, training where init says gpt2"


def data_table(data: dict) -> list[dict]:
    """A row for each data set, and for the weights that training began from, if there are any."""
    uses = USES if data["pretrain"]["metrics"]["steps"] else USES | {"corpus": "validation of the pretrained model"}
    rows = [_row(name, uses[name], manifest) for name, manifest in data["sets"].items()]
    weights = data["gpt2"]
    return rows if weights["source"] == "none" else [*rows, _row("OpenAI’s weights", WEIGHTS, weights)]


def _row(name: str, use: str, manifest: dict) -> dict:
    return {"name": name, "use": use, "origin": _origin(manifest), "licence": _licence(manifest)}


def _origin(manifest: dict) -> str:
    if manifest["source"] == "docstrings":
        return f"docstrings of installed packages ({len(manifest['packages'])})"
    if manifest["source"] == "hub":
        return f"{manifest['repo']}, commit {manifest['commit'][:12]}"
    return "files of whoever ran this"


def _licence(manifest: dict) -> str:
    """What is known without asking anyone."""
    if manifest["source"] == "docstrings":
        return "those of the packages, each of which pip put on the machine with its licence"
    if manifest["source"] == "hub":
        return LICENCES.get(manifest["repo"], "not known here: see its page on the hub")
    return "not known here"
