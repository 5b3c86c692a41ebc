"""Splits: disjoint, without duplicates, whatever the order of the rows; limits last."""

from hypothesis import given
from hypothesis import strategies as st

from gpt2.config.data import InstructionsDataParams
from gpt2.sources.splits import HELDOUT, SPLITS, Example, divide

EXAMPLES = st.lists(st.builds(lambda i, j: Example(f"k{i}", {"key": f"k{i}", "answer": j}), *[st.integers(0, 90)] * 2))
GIVEN = st.fixed_dictionaries({"train": EXAMPLES}, optional={"val": EXAMPLES, "test": EXAMPLES})
LIMIT = st.none() | st.integers(1, 12)


@given(GIVEN, LIMIT, LIMIT, st.randoms(use_true_random=False))
def test_divide(given, max_train, max_eval, random):
    params = InstructionsDataParams(max_train=max_train, max_eval=max_eval)
    rows, dropped = divide(given, params)
    keys = {split: [row["key"] for row in rows[split]] for split in SPLITS}
    assert len({key for split in keys.values() for key in split}) == sum(map(len, keys.values()))
    for split in SPLITS:
        assert len(rows[split]) <= ((max_train if split == "train" else max_eval) or 1000)
        assert all(Example(row["key"], row) in given.get(split, given["train"]) for row in rows[split])
    everything = sum(map(len, rows.values())) + sum(n for counts in dropped.values() for n in counts.values())
    assert everything == sum(map(len, given.values()))
    shuffled = {split: random.sample(examples, len(examples)) for split, examples in given.items()}
    assert divide(shuffled, params) == (rows, dropped)


@given(GIVEN)
def test_limits_keep_the_first_and_move_nothing(given):
    whole, _ = divide(given, InstructionsDataParams())
    some, _ = divide(given, InstructionsDataParams(max_train=3, max_eval=2))
    assert some == {split: whole[split][: 3 if split == "train" else 2] for split in SPLITS}
    if "test" in given:
        assert {row["key"] for row in whole["test"]} == {example.key for example in given["test"]}


@given(st.sets(st.integers(0, 900), max_size=30), st.sampled_from([[], ["val"], ["test"]]), st.integers(0, 20))
def test_a_few_examples_give_at_least_one_to_each_split(keys, present, equal):
    """Examples of train that are also in a given split do not count."""
    examples = [Example(str(key), {"text": str(key)}) for key in keys]
    given = {"train": examples, **{split: [*examples[:equal], Example("x", {"text": "x"})] for split in present}}
    rows, _ = divide(given, InstructionsDataParams())
    left = len(keys) - min(equal, len(keys)) * len(present)
    if left >= 3 - len(present):
        assert all(rows[split] for split in SPLITS)
    held_out = sum(len(rows[split]) for split in ("val", "test") if split not in present)
    assert held_out + len(rows["train"]) == left and (held_out < left or not left)


def test_shares_and_reasons():
    many = [Example(str(i), {"text": str(i)}) for i in range(4000)]
    share = HELDOUT * 4000
    rows, dropped = divide({"train": many}, InstructionsDataParams())
    assert all(abs(len(rows[split]) - share) < 40 for split in ("val", "test")) and not any(dropped.values())
    with_test, _ = divide({"train": many, "test": [Example("x", {"text": "x"})]}, InstructionsDataParams())
    assert abs(len(with_test["val"]) - share) < 40 and len(with_test["train"]) == 4000 - len(with_test["val"])
    given = {"train": many[:50] + many[:5] + [Example("0", {"text": "no"})], "val": many[10:30], "test": many[25:40]}
    rows, dropped = divide(given, InstructionsDataParams(max_train=18, max_eval=100))
    assert {split: len(found) for split, found in rows.items()} == {"train": 18, "val": 15, "test": 15}
    assert dropped == {
        "train": {"duplicate": 5, "contradicts another": 1, "also in test": 15, "also in val": 15, "over the limit": 2},
        "val": {"also in test": 5},
        "test": {},
    }
