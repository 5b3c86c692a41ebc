"""Classification and instructions from tables: names of labels, what is dropped, every mistake in one line."""

import json
from collections import Counter
from functools import partial

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2.common.errors import InputError
from gpt2.sources.labelled import read_classification, read_instructions
from gpt2.sources.splits import SPLITS
from tests.sources.sections import section
from tests.sources.test_tables import write

TRAIN = [{"text": f"text number {i}", "label": i % 3} for i in range(60)]
TEST = [{"text": f"test text {i}", "label": i % 3} for i in range(9)]
NAMES = ["low", "mid", "high"]
ALPACA = [{"instruction": f"Do {i}", "input": None, "output": f"Done {i}"} for i in range(60)]


def labels_of(rows: dict[str, list[dict]]) -> dict[str, str]:
    return {row["text"]: row["label"] for split in SPLITS for row in rows[split]}


def classify(directory, suffix=".jsonl", **changes):
    files = {"local__train": f"train{suffix}", "local__test": f"test{suffix}", "columns__text": "text"}
    return read_classification(section("classification", source="local", **{**files, **changes}), directory)


@pytest.fixture
def files(tmp_path):
    """Writes train and test in one format."""

    def make(train=TRAIN, test=TEST, suffix=".jsonl"):
        write(tmp_path / f"train{suffix}", train)
        write(tmp_path / f"test{suffix}", test)
        return tmp_path

    return make


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json", ".csv", ".tsv"])
def test_every_format_gives_the_same_set(files, suffix):
    texts = ".csv", ".tsv"
    as_text = [[{**row, "label": str(row["label"])} for row in rows] for rows in (TRAIN, TEST)]
    directory = files(*(as_text if suffix in texts else (TRAIN, TEST)), suffix)
    rows, labels, manifest = classify(directory, suffix)
    files(TRAIN[::-1], TEST[::-1])
    assert (rows, labels) == classify(directory)[:2]
    assert labels == ["0", "1", "2"] and rows["test"][0]["label"] in labels
    assert manifest["splits"] == {split: len(own) for split, own in rows.items()}
    assert [(file["split"], file["file"], file["rows"]) for file in manifest["files"]] == [
        ("train", f"train{suffix}", 60),
        ("test", f"test{suffix}", 9),
    ]


def test_names_of_labels_from_params_then_the_file_then_as_they_are(files):
    directory = files(suffix=".parquet")
    for name, own in (("train", TRAIN), ("test", TEST)):
        pq.write_table(named(own, NAMES), directory / f"{name}.parquet")
    rows, labels, _ = classify(directory, ".parquet")
    assert labels == NAMES and labels_of(rows)["text number 5"] == "high"
    rows, labels, _ = classify(directory, ".parquet", names=["a", "b", "c"])
    assert labels == ["a", "b", "c"] and labels_of(rows)["text number 5"] == "c"
    words = [{**row, "label": "cab"[row["label"]]} for row in TRAIN]
    assert classify(files(words, words[:5]))[1] == ["a", "b", "c"]
    assert classify(files(words, words[:5]), names=["c", "b", "a"])[1] == ["c", "b", "a"]
    tens = [{**row, "label": row["label"] + 9} for row in TRAIN]
    assert classify(files(tens, tens[:5]))[1] == ["9", "10", "11"]


def named(rows: list[dict], names: list[str]) -> pa.Table:
    """The rows as `datasets` writes them, with a column of class labels."""
    info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    return pa.Table.from_pylist(rows).replace_schema_metadata({b"huggingface": json.dumps(info).encode()})


def test_names_are_those_of_all_files(tmp_path):
    parts = [TRAIN[:30], TRAIN[30:]]
    write(tmp_path / "train0.parquet", parts[0])
    pq.write_table(named(parts[1], NAMES), tmp_path / "train1.parquet")
    pq.write_table(named(TEST, NAMES), tmp_path / "test.parquet")
    read = partial(classify, tmp_path, ".parquet", local__train="train*")
    rows, labels, _ = read()
    assert labels == NAMES and {label for label in labels_of(rows).values()} == set(NAMES)
    assert labels_of(rows)["text number 5"] == labels_of(rows)["test text 2"] == "high"
    pq.write_table(named(TEST, NAMES[::-1]), tmp_path / "test.parquet")
    for changes in ({}, {"names": ["a", "b", "c"]}):
        with pytest.raises(InputError) as caught:
            read(**changes)
        assert str(caught.value) == (
            f"{tmp_path}/test.parquet: its labels are called high, mid, low; expected low, mid, high, "
            f"as in {tmp_path}/train1.parquet"
        )


def test_a_text_that_is_a_name_is_that_name(files):
    texts = [[{**row, "label": f" {row['label'] + 1}.0"} for row in rows] for rows in (TRAIN, TEST)]
    names = ["1", "2", "3"]
    for suffix in (".csv", ".tsv", ".jsonl"):
        rows, labels, _ = classify(files(*texts, suffix), suffix, names=names)
        assert labels == names and labels_of(rows)["text number 5"] == "3"
        assert classify(files(*texts, suffix), suffix)[:2] == (rows, labels)
    assert labels_of(classify(files(), names=names)[0])["text number 5"] == "3"
    assert labels_of(classify(files(*texts), names=["1.0", "2.0", "3.0"])[0])["text number 5"] == "3.0"
    zero = [[{**row, "label": str(row["label"])} for row in rows] for rows in (TRAIN, TEST)]
    with pytest.raises(InputError, match=r"train.csv, line 2: label = '0': expected one of 1, 2, 3$"):
        classify(files(*zero, ".csv"), ".csv", names=names)


def test_numbers_that_a_tool_made_fractions_and_truths(files):
    fractions = [{**row, "label": float(row["label"])} for row in TRAIN]
    assert classify(files(fractions, TEST))[1] == ["0", "1", "2"]
    truths = [[{**row, "label": row["label"] > 0} for row in rows] for rows in (TRAIN, TEST)]
    assert classify(files(*truths))[1] == ["false", "true"]
    rows, labels, _ = classify(files(*truths), names=["no", "yes"])
    assert labels == ["no", "yes"] and labels_of(rows)["text number 3"] == "no"


def test_what_is_dropped_is_counted(files):
    more = [{"text": " ", "label": 1}, {"text": "new", "label": -1}, {"text": "newer", "label": None}]
    more += [{"text": "newest", "label": label} for label in (float("nan"), " ")]
    more += [{**TRAIN[9], "label": 1}, {**TRAIN[9], "label": 2}]
    rows, _, manifest = classify(files(TRAIN + TRAIN[:4] + TEST[:3] + more, TEST), names=["a", "b", "c"])
    dropped = {"empty": 1, "without a label": 4, "duplicate": 4, "contradicts another": 2, "also in test": 3}
    assert manifest["dropped"] == {"train": dropped, "val": {}, "test": {}}
    assert sorted(row["text"] for row in rows["train"] + rows["val"]) == sorted(row["text"] for row in TRAIN)


@pytest.mark.parametrize(
    ("train", "test", "changes", "message"),
    [
        (
            TRAIN,
            TEST,
            {"columns__text": "sentence"},
            "{}/train.jsonl, line 1: no column 'sentence'; it has text, label",
        ),
        (TRAIN, [{"text": 5, "label": 1}], {}, "{}/test.jsonl, line 1: text = 5: expected a text"),
        (TRAIN, [{"text": "a", "label": []}], {}, "{}/test.jsonl, line 1: label = []: expected a text or a number"),
        (TRAIN, TEST, {"names": ["a", "b"]}, "{}/train.jsonl, line 3: label = 2: expected 0 to 1 for a, b"),
        (
            TRAIN,
            [*TEST, {"text": "b", "label": "x"}],
            {},
            "data.classification: label 'x' of test does not occur in train",
        ),
        (TRAIN[::3], TEST[::3], {}, "data.classification: expected at least two different labels in train, found '0'"),
        (
            TRAIN,
            [{"text": "a", "label": -1}],
            {},
            "data.classification.local.test = 'test.jsonl': its labels are hidden (-1 or none at all); "
            "set it to another split, or to null to hold it out of train",
        ),
        (
            [{"text": "a", "label": -1}],
            TEST,
            {"names": ["a", "b", "c"]},
            "data.classification.local.train = 'train.jsonl': its labels are hidden (-1 or none at all); "
            "set it to another split",
        ),
        (TRAIN, [], {}, "data.classification: no example is left for test"),
        ([], TEST, {}, "data.classification: no example is left for train"),
        (
            TRAIN[4:7],
            TEST,
            {},
            "data.classification: no example is left for val: heldout = 0.05 of 3 in all; change it or add examples",
        ),
        (
            [*TRAIN, {"text": "rare", "label": "x"}],
            TEST,
            {"max_train": 9},
            "data.classification: max_train = 9 and heldout = 0.05 leave train no example of label 'x'; "
            "change them or add examples",
        ),
        (
            TRAIN,
            [{"text": "", "label": 1}] * 2,
            {},
            "data.classification: no example is left for test: 2 empty",
        ),
        (
            [*TRAIN, {"text": "two lines", "label": "a\rb"}],
            TEST,
            {},
            f"{{}}/train.jsonl, line {len(TRAIN) + 1}: label = 'a\\rb': expected a label without line breaks and other "
            "control characters",
        ),
        (TRAIN, TEST, {"local__val": "*.jsonl"}, "data.classification: no example is left for train: 60 also in val"),
        (TRAIN, TEST, {"local__val": "x*"}, "data.classification.local.val = 'x*': no such file in {}"),
        (
            TRAIN,
            TEST,
            {"local__val": "../a"},
            "data.classification.local.val = '../a': expected a path or glob below {}",
        ),
        (TRAIN, TEST, {"local__val": "/a"}, "data.classification.local.val = '/a': expected a path or glob below {}"),
    ],
)
def test_mistakes(files, train, test, changes, message):
    directory = files(train, test)
    with pytest.raises(InputError) as caught:
        classify(directory, **changes)
    assert str(caught.value) == message.format(directory)


def instruct(directory, **changes):
    return read_instructions(section("instructions", source="local", **changes), directory)


def test_instructions(tmp_path):
    write(tmp_path / "a.json", [*ALPACA, {**ALPACA[3], "output": "Done twice"}, {**ALPACA[4], "input": "so"}])
    write(tmp_path / "b.jsonl", [{**ALPACA[0], "output": " "}])
    rows, manifest = instruct(tmp_path)
    everything = [row for split in SPLITS for row in rows[split]]
    assert len(everything) == 61 and {row["input"] for row in everything} == {"", "so"}
    assert manifest["dropped"]["train"] == {"contradicts another": 1, "empty": 1} and rows["val"] and rows["test"]
    twice = next(row for row in everything if row["instruction"] == "Do 3")
    write(tmp_path / "a.json", [{**ALPACA[3], "output": "Done twice"}, *ALPACA])
    assert twice in [row for split in SPLITS for row in instruct(tmp_path)[0][split]]
    without = instruct(tmp_path, columns__input=None)[0]
    assert all(row["input"] == "" for split in SPLITS for row in without[split])


@pytest.mark.parametrize(("column", "value"), [("instruction", None), ("output", 4), ("input", ["a"])])
def test_an_instruction_that_is_no_text(tmp_path, column, value):
    write(tmp_path / "a.json", [ALPACA[0], {**ALPACA[1], column: value}])
    with pytest.raises(InputError) as caught:
        instruct(tmp_path)
    assert str(caught.value) == f"{tmp_path}/a.json, row 1: {column} = {value!r}: expected a text"


@pytest.mark.realdata
def test_sst2(real_data):
    rows, labels, manifest = read_classification(
        section("classification", source="local", max_train=None, max_eval=None), real_data / "sst2"
    )
    train, test = (
        pd.read_csv(real_data / "sst2" / f"{name}.tsv", sep="\t", quoting=3, keep_default_na=False)
        for name in ("train", "dev")
    )
    assert labels == ["0", "1"] and len(rows["test"]) == len(test) == 872
    assert Counter(row["label"] for row in rows["test"]) == Counter(map(str, test.label))
    held = {row["text"]: row["label"] for split in ("train", "val") for row in rows[split]}
    assert held.keys() == set(train.sentence) - set(test.sentence)
    assert set(held.items()) <= set(zip(train.sentence, map(str, train.label), strict=True))
    assert 0.04 < len(rows["val"]) / len(held) < 0.06
    assert manifest["dropped"]["train"]["duplicate"] == train.sentence.duplicated().sum()


@pytest.mark.realdata
def test_alpaca(real_data):
    rows, _ = instruct(real_data / "instructions", max_train=None, max_eval=None)
    whole = pd.read_json(real_data / "instructions" / "instruction-data.json")
    everything = [tuple(row.values()) for split in SPLITS for row in rows[split]]
    assert len(whole) == 1100 and set(everything) <= set(whole.itertuples(index=False, name=None))
    assert len(everything) == len(whole.drop_duplicates(["instruction", "input"]))
