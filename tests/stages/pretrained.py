"""A repository in which pretraining has run: the inputs of the stages that read its models."""

import shutil
from pathlib import Path

from ruamel.yaml import YAML

from gpt2.common.files import write_json
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.model.snapshots import Snapshot, snapshot_directory, write_manifest
from tests.conftest import ROOT
from tests.small import byte_tokenizer, write_shards

TOKENS = 64  # per step


def write_repository(place: Path, models: dict[int, GPT], **params: dict) -> None:
    """Writes the code and params, with changed values in some sections, tokens, and the models by step; the last is
    final."""
    for name in ("gpt2", "stages"):
        (place / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "dvc.yaml", place)
    yaml = YAML()
    values = yaml.load(ROOT / "params.yaml")
    for section, changes in params.items():
        values[section].update(changes)
    yaml.dump(values, place / "params.yaml")
    directory, final = place / "data/models/snapshots", max(models)
    kept = [Snapshot(step, TOKENS * step, snapshot_directory(directory, step)) for step in models if step != final]
    write_manifest(directory, kept, final, TOKENS * final)
    for step, model in models.items():
        place_of_model = place / "data/models/pretrain" if step == final else snapshot_directory(directory, step)
        checkpoint.save(model, place_of_model)
        byte_tokenizer().save(place_of_model)
    texts = [("train", ["the cat sat"]), ("val", ["the cats and the dogs sat on the mats. " * 9])]
    write_shards(place / "data/tokens", texts, byte_tokenizer(), 1000)
    write_json(place / "data/models/gpt2/manifest.json", {"source": "none"})
