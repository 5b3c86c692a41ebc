"""What the files of a checkpoint say about generation: the tokens at which texts begin and end, and other settings."""

from dataclasses import dataclass
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import read_json
from gpt2.common.model_files import GENERATION_FILE

# Settings of transformers' `generate` that change the logits or the end of a text, and that ours does not read, with
# the values that have no effect. do_sample, temperature, top_k and top_p are not here: the options of
# `python -m gpt2 generate` replace them.
UNREAD = {
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty", "guidance_scale"), (None, 1)),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), (None, 0)),
    **dict.fromkeys(("min_length", "min_new_tokens", "diversity_penalty"), (None, 0)),
    **dict.fromkeys(("num_beams", "typical_p"), (None, 1)),
    **dict.fromkeys(("min_p", "epsilon_cutoff", "eta_cutoff"), (None, 0)),
    **dict.fromkeys(("penalty_alpha", "top_h"), (None,)),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"), (None,)),
    **dict.fromkeys(("bad_words_ids", "force_words_ids", "constraints", "sequence_bias"), (None, [], {})),
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens", "stop_strings"), (None, [])),
    **dict.fromkeys(("watermarking_config", "token_healing"), (None, {}, False)),
}


@dataclass(frozen=True)
class GenerationConfig:
    """The token that begins a text without a prompt, those that end a text, and the settings that ours does not read,
    each with its file."""

    start: int
    stop: frozenset[int]
    unread: list[str]


def read_generation_config(directory: Path, eot: int, rows: int) -> GenerationConfig:
    """Reads generation_config.json, or config.json if there is no such file, as transformers does.

    Where the file names no token, texts begin and end with `eot`, the id of <|endoftext|>; in transformers such texts
    have no end. The model has `rows` token embeddings. Raises InputError if a file is malformed.
    """
    path = directory / GENERATION_FILE
    path = path if path.exists() else directory / "config.json"
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected a JSON object")
    start, stop = raw.get("bos_token_id", eot), raw.get("eos_token_id", eot)
    stop = stop if isinstance(stop, list) else [] if stop is None else [stop]
    if not all(isinstance(id, int) and id >= 0 for id in (start or 0, *stop)):
        raise InputError(f"{path}: bos_token_id = {start!r}, eos_token_id = {stop!r}: expected token ids")
    unread = [f"{path}: {key} = {raw[key]!r}" for key, allowed in UNREAD.items() if raw.get(key) not in allowed]
    return GenerationConfig(start if start is not None and start < rows else eot, frozenset(stop), unread)
