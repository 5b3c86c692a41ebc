"""Stage download_gpt2: OpenAI's weights from the hub or from data/local/gpt2, or a manifest without weights."""

from gpt2.common.files import write_json
from gpt2.sources.gpt2 import copy_model, fetch_model
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("data.gpt2")
    out = stage.out("data/models/gpt2")
    match params.source:
        case "hub":
            manifest = fetch_model(params.repo, out)
        case "local":
            manifest = copy_model(stage.dep("data/local/gpt2"), out)
        case "none":
            manifest = {"source": "none"}
    write_json(out / "manifest.json", manifest)


if __name__ == "__main__":
    run("download_gpt2", main)
