"""Stage download_gpt2: OpenAI's weights from the hub or from data/local/gpt2, or a manifest without weights."""

from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import write_json
from gpt2.sources.gpt2 import copy_model, fetch_model
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("data.gpt2")
    out = stage.out("data/models/gpt2")
    match params.source:
        case "hub":
            manifest = fetch_model(params.repo, out)
            check(out, params.repo)
        case "local":
            source = stage.dep("data/local/gpt2")
            manifest = copy_model(source, out)
            check(out, str(source))
        case "none":
            manifest = {"source": "none"}
    write_json(out / "manifest.json", manifest)


def check(directory: Path, name: str) -> None:
    """Reads the checkpoint, so that one that later stages could not read is refused here. `name` is for messages."""
    from gpt2.model.checkpoint import (
        load_with_tokenizer,  # imports torch, which a chain without weights need not wait for
    )

    try:
        load_with_tokenizer(directory, "cpu")
    except InputError as error:
        raise InputError(f"data.gpt2: {error}".replace(str(directory), name)) from None


if __name__ == "__main__":
    run("download_gpt2", main)
