"""Which split a row belongs to, and which rows are kept: drawn by what they say, so that their order is no matter."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gpt2.config.data import ExamplesParams

SPLITS = ("train", "val", "test")


def draw(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone: a lot that neither order nor other keys influence."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True)
class Example:
    """A row of a labelled set. Rows that ask the same have one key: it may stand in one split alone, and there once."""

    key: str
    row: dict


def divide(
    given: dict[str, list[Example]], params: ExamplesParams
) -> tuple[dict[str, list[dict]], dict[str, dict[str, int]]]:
    """Rows of train, val and test, in an order drawn by their keys, and how many of each were dropped, by reason.

    `given` has train, and those of val and test that need not be held out of it. A key that test has is dropped from
    val and train, and one that val has from train. The limits of `params` come last: more rows of one split change
    nothing in what another may hold.
    """
    dropped = {split: Counter() for split in SPLITS}
    unique = {split: _unique(examples) for split, examples in given.items()}
    for split, examples in given.items():
        kept = {example.key: example.row for example in unique[split]}
        equal = sum(example.row == kept[example.key] for example in examples)
        dropped[split]["duplicate"] = equal - len(kept)
        dropped[split]["contradicts another"] = len(examples) - equal
    train = unique["train"]
    absent = [split for split in ("test", "val") if split not in given]
    for rank, split in enumerate(absent):
        unique[split] = [e for e in train if rank <= draw(f"split {e.key}") / params.heldout < rank + 1]
    heldout = {example.key for split in absent for example in unique[split]}
    unique["train"] = [example for example in train if example.key not in heldout]
    for split, other in (("val", "test"), ("train", "test"), ("train", "val")):
        seen = {example.key for example in unique[other]}
        kept = [example for example in unique[split] if example.key not in seen]
        dropped[split][f"also in {other}"] = len(unique[split]) - len(kept)
        unique[split] = kept
    rows = {}
    for split in SPLITS:
        limit = params.max_train if split == "train" else params.max_eval
        rows[split] = [example.row for example in unique[split][:limit]]
        dropped[split]["over the limit"] = len(unique[split]) - len(rows[split])
    return rows, {split: {reason: n for reason, n in counts.items() if n} for split, counts in dropped.items()}


def _unique(examples: Iterable[Example]) -> list[Example]:
    """One example a key, in drawn order. Of several that differ in their answers the draw takes one, not the order."""
    by_key: dict[str, Example] = {}
    for example in sorted(examples, key=lambda e: (draw(f"order {e.key}"), draw(json.dumps(e.row)))):
        by_key.setdefault(example.key, example)
    return list(by_key.values())
