"""Reads the tokenizer files of a GPT-2 as transformers' AutoTokenizer does, and refuses what would give other ids.

`tokenizer.json` comes first, if there is one; otherwise `vocab.json` and `merges.txt` hold the vocabulary. Tokens that
were added to it are listed in `tokenizer.json`, in `tokenizer_config.json`, in `added_tokens.json` or, by their role,
in `special_tokens_map.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from tokenizers import AddedToken
from tokenizers.models import BPE

from gpt2.common.errors import InputError
from gpt2.common.files import read_json
from gpt2.common.model_files import check_settings
from gpt2.tokenizer.bpe import BYTE_CHARACTERS, BYTES, Merge

EOT = "<|endoftext|>"
CHARACTER_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}
GPT2_CLASSES = (None, "GPT2Tokenizer", "GPT2TokenizerFast")
CLASSES = (*GPT2_CLASSES, "PreTrainedTokenizerFast", "TokenizersBackend")  # the last two read tokenizer.json as it is
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
CONFIG = {  # settings of tokenizer_config.json that would change ids or texts: the values that are supported
    "tokenizer_class": CLASSES,
    "auto_map": (None,),
    **dict.fromkeys(("add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens"), (None, False)),
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": (None, False),
}
PARTS = {  # the same for parts of tokenizer.json
    "normalizer.type": (None,),
    "pre_tokenizer.type": ("ByteLevel",),
    "pre_tokenizer.add_prefix_space": (False,),
    "pre_tokenizer.use_regex": (True,),
    "post_processor.type": (None, "ByteLevel", "TemplateProcessing"),
    "post_processor.special_tokens": (None, {}),
    "decoder.type": ("ByteLevel",),
    "model.type": ("BPE",),
    "model.dropout": (None, 0.0),
    "model.continuing_subword_prefix": (None, ""),
    "model.end_of_word_suffix": (None, ""),
    "model.ignore_merges": (None, False),
}


def spell(token: bytes) -> str:
    """A token as GPT-2's files spell it, with a printable character for each byte."""
    return "".join(BYTE_CHARACTERS[byte] for byte in token)


def read_vocabulary(directory: Path) -> tuple[list[Merge], list[AddedToken]]:
    """The merges, and the tokens that were added after <|endoftext|>, in the order of their ids.

    Raises InputError naming the file if it is missing or malformed, if its ids are not in GPT-2's order, or if a
    setting would give ids other than GPT-2's.
    """
    config = _read_config(directory)
    path, bpe, raw = _read_tokenizer(directory)
    vocab, lines = raw["model"]["vocab"], raw["model"]["merges"]
    try:
        merges = [tuple(bytes(map(CHARACTER_BYTES.__getitem__, token)) for token in line) for line in lines]
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]!r} is not one of GPT-2's byte characters") from None
    tokens = [*map(spell, BYTES), *map("".join, lines), EOT]
    for id, token in enumerate(tokens):
        if (found := vocab.get(token)) != id:
            order = "256 bytes, the merges in their order, <|endoftext|>"
            raise InputError(f"{path}: {token!r} has id {found}, expected {id}: ids are {order}")
    for token in tokens[len(BYTES) : -1]:  # where this holds, tiktoken, which knows no merges, gives the same ids
        if len(bpe.tokenize(token)) != 1:
            raise InputError(f"{path}: {token!r} is cut by earlier merges: expected each merge to make its token")
    try:
        added = _added_tokens(directory, config, raw["added_tokens"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{directory}: malformed list of added tokens in one of the tokenizer's files") from None
    return merges, _after_eot(path, added, vocab, tokens)


def _after_eot(
    path: Path, added: dict[str, tuple[int | None, AddedToken]], vocab: dict[str, int], tokens: list[str]
) -> list[AddedToken]:
    """The added tokens without <|endoftext|>; their ids must follow its id without gaps."""
    _, eot = added.pop(EOT, (None, None))
    if eot is None or not eot.special or eot.lstrip or eot.rstrip or eot.single_word:
        raise InputError(f"{path}: expected {EOT} among the special tokens, without lstrip, rstrip or single_word")
    base, unlisted = set(tokens), vocab.keys() - set(tokens) - added.keys()
    for id, (content, (recorded, _)) in enumerate(added.items(), start=len(tokens)):
        found = recorded if recorded is not None else vocab.get(content, id)
        if found != id or not content or content in base or EOT in content:
            reason = f"expected new tokens, with ids from {len(tokens)} on without a gap"
            raise InputError(f"{path}: {content!r} = {found} was added to GPT-2's vocabulary: {reason}")
    for token in sorted(unlisted, key=vocab.get):
        reason = "it is neither made by a merge nor listed as an added token"
        raise InputError(f"{path}: {token!r} = {vocab[token]}: {reason}")
    return [token for _, token in added.values()]


def _read_config(directory: Path) -> dict:
    """The contents of tokenizer_config.json, in which every setting is supported."""
    path = directory / "tokenizer_config.json"
    config = _read_object(path)
    if "tokenizer_class" not in config:
        check_settings(directory / "config.json", _read_object(directory / "config.json"), {"tokenizer_class": CLASSES})
    check_settings(path, config, CONFIG)
    return config


def _read_object(path: Path) -> dict:
    """A JSON object, empty if there is no such file."""
    raw = read_json(path) if path.exists() else {}
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected a JSON object")
    return raw


def _read_tokenizer(directory: Path) -> tuple[Path, BPE, dict]:
    """The path of the vocabulary, its engine, and its contents in the form of tokenizer.json."""
    vocab, merges, whole = (directory / name for name in ("vocab.json", "merges.txt", "tokenizer.json"))
    if whole.exists():
        try:
            fast = tokenizers.Tokenizer.from_file(str(whole))
            raw = json.loads(fast.to_str())  # brings old forms into one
        except Exception as error:  # the library raises nothing more specific
            raise InputError(f"{whole}: expected the BPE tokenizer of a GPT-2: {error}") from None
        check_settings(whole, raw, PARTS)
        return whole, fast.model, raw
    for path in (merges, vocab):
        if not path.exists():
            raise InputError(f"{path}: no such file")
    try:
        ids, lines = BPE.read_file(str(vocab), str(merges))
        return vocab, BPE(ids, lines), {"model": {"vocab": ids, "merges": lines}, "added_tokens": []}
    except Exception as error:
        raise InputError(f"{vocab} or {merges.name}: expected the files of a GPT-2: {error}") from None


def _added_tokens(directory: Path, config: dict, listed: list[dict]) -> dict[str, tuple[int | None, AddedToken]]:
    """Each added token by its text, in the order of the ids, with the id that a file gives for it."""
    decoder = config.get("added_tokens_decoder")
    special = {} if decoder is not None else _read_object(directory / "special_tokens_map.json")
    roles = {**config, **special}
    if config.get("tokenizer_class") in GPT2_CLASSES:
        roles = {**dict.fromkeys(("bos_token", "eos_token", "unk_token"), EOT), **roles}
    named = {token.content: (None, token) for token in map(_token, _named(roles))}
    if decoder is None:
        extra = _read_object(directory / "added_tokens.json")
        ids = {text: (id, AddedToken(text, special=text in named)) for text, id in extra.items()}
        ids |= {row["content"]: (row["id"], _token(row)) for row in listed}
    else:
        ids = {row["content"]: (int(id), _token(row)) for id, row in decoder.items()}
        for row in listed:
            if row["content"] not in ids:
                path = directory / "tokenizer.json"
                raise InputError(f"{path}: {row['content']!r} is not among the added tokens of tokenizer_config.json")
    for text in ids.keys() & named.keys():  # a token with a role is special, even if a list contradicts
        ids[text][1].special = True
    ordered = dict(sorted(ids.items(), key=lambda item: item[1][0]))
    return ordered | {text: token for text, token in named.items() if text not in ordered}


def _named(roles: dict) -> Iterator[str | dict]:
    """The tokens that have a role, in transformers' order, and further special tokens."""
    others = [key for key, value in roles.items() if key.endswith("_token") and isinstance(value, (str, dict))]
    yield from (roles[key] for key in dict.fromkeys((*ROLES, *others)) if roles.get(key) is not None)
    further = roles.get("extra_special_tokens") or roles.get("additional_special_tokens") or ()
    yield from further.values() if isinstance(further, dict) else further


def _token(token: str | dict) -> AddedToken:
    """A token from its text or from an object with its flags."""
    if isinstance(token, str):
        return AddedToken(token, special=True)
    return AddedToken(token["content"], **{"special": True, **{flag: token[flag] for flag in FLAGS if flag in token}})
