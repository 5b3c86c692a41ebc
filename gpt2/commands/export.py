"""Copies a LoRA adapter together with its base model into a new folder, from which peft reads it in any directory.

peft looks for a base model on disk from the current directory, unless its path is absolute. The outs of the chain have
no absolute paths, because they must not depend on where the repository is.
"""

import argparse
import shutil
from pathlib import Path

from gpt2.commands.cli import PROGRAM, Parser
from gpt2.common.errors import InputError
from gpt2.common.files import new_directory, read_json, write_json

CONFIG, BASE = "adapter_config.json", "base_model_name_or_path"


def export(adapter: Path, out: Path) -> None:
    """Copies an adapter to `out` and its base to `out / "base"`. A base on the hub stays there.

    Raises InputError if `adapter` is not an adapter, if its base is missing, or if `out` exists.
    """
    config = read_json(adapter / CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get(BASE), str):
        raise InputError(f"{adapter / CONFIG}: expected the settings of a peft adapter, with {BASE}")
    on_hub = config.get("revision") is not None
    if not on_hub and not Path(config[BASE]).is_dir():
        raise InputError(f"{adapter / CONFIG}: {BASE} = {config[BASE]!r}: no such folder in the current directory")
    with new_directory(out) as place:
        _copy(adapter, place)
        if not on_hub:
            _copy(Path(config[BASE]), place / "base")
            write_json(place / CONFIG, {**config, BASE: str(out.resolve() / "base")})


def _copy(source: Path, target: Path) -> None:
    """Copies the files of a folder. Unlike those that DVC tracks, the copies can be written to."""
    target.mkdir(exist_ok=True)
    for file in sorted(path for path in source.iterdir() if path.is_file()):
        shutil.copyfile(file, target / file.name)


def parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog=f"{PROGRAM} export", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="such as data/models/instruction/adapter")
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    return parser


def main(args: argparse.Namespace) -> None:
    """Exports the adapter, and prints how to load it."""
    export(args.adapter, args.out)
    print(f"AutoPeftModelForCausalLM.from_pretrained({str(args.out.resolve())!r})")
