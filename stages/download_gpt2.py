"""Stage download_gpt2: OpenAI's weights from the hub, or a manifest that says they were left out."""

from gpt2.files import write_json
from gpt2.sources.hub import fetch_model
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("data.gpt2")
    out = stage.out("data/models/gpt2")
    manifest = {"source": "none"} if params.source == "none" else fetch_model(params.repo, params.revision, out)
    write_json(out / "manifest.json", manifest)


if __name__ == "__main__":
    run("download_gpt2", main)
