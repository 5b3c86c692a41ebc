"""Stage download_gpt2: OpenAI's weights from the hub or from data/local/gpt2, or a manifest without weights."""

from collections.abc import Callable
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import write_json
from gpt2.sources.gpt2 import copy_model, fetch_model
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("data.gpt2")
    out = stage.out("data/models/gpt2")
    if params.source == "none":
        manifest = {"source": "none"}
    else:
        from gpt2.model import checkpoint  # imports torch, which a chain without weights need not wait for

        name, get = (params.repo, fetch_model) if params.source == "hub" else (stage.dep("data/local/gpt2"), copy_model)
        manifest = get(name, out, refusing(checkpoint.read_tokenizer, str(name)))
        refusing(checkpoint.load, str(name))(out)
    write_json(out / "manifest.json", manifest)


def refusing(read: Callable[[Path], object], name: str) -> Callable[[Path], None]:
    """Wraps `read`, so that its errors name `name`, which the user has set, and not the folder of the stage."""

    def check(directory: Path) -> None:
        try:
            read(directory)
        except InputError as error:
            raise InputError(f"data.gpt2: {error}".replace(str(directory), name)) from None

    return check


if __name__ == "__main__":
    run("download_gpt2", main)
