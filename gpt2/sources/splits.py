"""Divides labeled sets into splits. Hashes of the rows decide which are held out: their order does not matter."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gpt2.config.data import ExamplesParams

SPLITS = ("train", "val", "test")
HELDOUT = 0.05  # share of train for val, and for test, where a data set lacks them


def draw(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True)
class Example:
    """A row of a labeled set. Rows with the same key ask the same question: only one of them is kept, in one split."""

    key: str
    row: dict


def divide(
    given: dict[str, list[Example]], params: ExamplesParams
) -> tuple[dict[str, list[dict]], dict[str, dict[str, int]]]:
    """Rows of train, val and test, in an order drawn from their keys, and how many of each were dropped, by reason.

    `given` has train, and val and test unless these are to be held out of train. A key in test is dropped from val and
    train, and a key in val from train. The limits of `params` come last, so that the limit of one split does not change
    another. Only splits that run out of examples are empty: to hold out both takes three.
    """
    dropped = {split: Counter() for split in SPLITS}
    unique = {split: _unique(given.get(split, [])) for split in SPLITS}
    for split, examples in given.items():
        kept = {example.key: example.row for example in unique[split]}
        equal = sum(example.row == kept[example.key] for example in examples)
        dropped[split]["duplicate"] = equal - len(kept)
        dropped[split]["contradicts another"] = len(examples) - equal
    for split, other in (("val", "test"), ("train", "test"), ("train", "val")):
        seen = {example.key for example in unique[other]}
        kept = [example for example in unique[split] if example.key not in seen]
        dropped[split][f"also in {other}"] = len(unique[split]) - len(kept)
        unique[split] = kept
    unique |= _hold_out(unique["train"], [split for split in ("test", "val") if split not in given])
    rows = {}
    for split in SPLITS:
        limit = params.max_train if split == "train" else params.max_eval
        rows[split] = [example.row for example in unique[split][:limit]]
        dropped[split]["over the limit"] = len(unique[split]) - len(rows[split])
    return rows, {split: {reason: n for reason, n in counts.items() if n} for split, counts in dropped.items()}


def _hold_out(train: list[Example], absent: list[str]) -> dict[str, list[Example]]:
    """Divides train among itself and the splits in `absent`: a drawn HELDOUT for each, but at least one if it can."""
    shares = {example.key: draw(f"split {example.key}") for example in train}
    drawn = sorted(shares, key=shares.get)
    split_of, taken = {}, 0
    for rank, split in enumerate(absent, start=1):
        share = sum(draw < rank * HELDOUT for draw in shares.values())
        room = len(drawn) - (len(absent) - rank) - 1  # one for each later split, and one for train
        end = max(taken, min(max(share, taken + 1), room))
        split_of.update(dict.fromkeys(drawn[taken:end], split))
        taken = end
    splits = ("train", *absent)
    return {split: [e for e in train if split_of.get(e.key, "train") == split] for split in splits}


def _unique(examples: Iterable[Example]) -> list[Example]:
    """One example per key, in drawn order. Of several with different answers the hash of the row chooses one."""
    by_key: dict[str, Example] = {}
    for example in sorted(examples, key=lambda e: (draw(f"order {e.key}"), draw(json.dumps(e.row)))):
        by_key.setdefault(example.key, example)
    return list(by_key.values())
