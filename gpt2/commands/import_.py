"""Writes another GPT-2 checkpoint anew, as one `model.safetensors` in float32 with its tokenizer:

    python -m gpt2 import downloads/some-gpt2 models/some-gpt2

The commands and `data.gpt2` read the same checkpoints without this; it is for programs that do not. Logits and token
ids are the same, and so are the roles of tokens, a chat template, and the settings of generation.
"""

import argparse
import re
import shutil
from pathlib import Path

from gpt2.commands.cli import PROGRAM, Parser
from gpt2.common.files import new_directory, read_json, write_json
from gpt2.common.model_files import GENERATION_FILE
from gpt2.generation.generation_config import read_generation_config
from gpt2.model import checkpoint

CONFIG = "tokenizer_config.json"
KEPT = re.compile(
    r".*_token|(additional|extra)_special_tokens|tokenizer_class|chat_template|padding_side"
)  # settings in CONFIG


def main(args: argparse.Namespace) -> None:
    """Runs the command."""
    model, tokenizer = checkpoint.load_with_tokenizer(args.model, "cpu")
    _, raw = checkpoint.read_config(args.model)
    read_generation_config(args.model, tokenizer.eot, model.config.vocab_size)  # so that only a valid one is copied
    roles = {key: raw[key] for key in checkpoint.ROLES if key in raw}
    config = checkpoint.hf_config(model.config, tokenizer.eot) | roles
    with new_directory(args.out) as out:
        checkpoint.save_checkpoint(out, config, checkpoint.to_hf(model.state_dict()))
        tokenizer.save(out, model.config.block_size)
        written = {key: value for key, value in read_json(out / CONFIG).items() if not KEPT.fullmatch(key)}
        kept = {key: _text(value) for key, value in _settings(args.model).items() if KEPT.fullmatch(key)}
        write_json(out / CONFIG, written | kept)
        for name in (GENERATION_FILE, "chat_template.jinja"):
            if (args.model / name).exists():
                shutil.copyfile(args.model / name, out / name)
    print(f"{args.out}: {sum(p.numel() for p in model.parameters()):,} parameters, {tokenizer.vocab_size:,} tokens")


def _settings(directory: Path) -> dict:
    """The settings of a tokenizer, over which transformers puts the roles of an older file unless tokens are listed."""
    path, older = directory / CONFIG, directory / "special_tokens_map.json"
    config = read_json(path) if path.exists() else {}
    return config | read_json(older) if older.exists() and "added_tokens_decoder" not in config else config


def _text(token: object) -> object:
    """The text of a token that is written with its flags, which the list of added tokens has too."""
    return token["content"] if isinstance(token, dict) and "content" in token else token


def parser() -> Parser:
    parser = Parser(prog=f"{PROGRAM} import", description="Writes a GPT-2 checkpoint anew, in the plain layout.")
    parser.add_argument("model", type=Path, metavar="DIR", help="checkpoint directory with its tokenizer")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory to write, which must not exist yet")
    return parser
