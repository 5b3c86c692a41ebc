"""Classification and instructions from tables: names of labels, dropped rows, and one line for every mistake."""

import json
from collections import Counter

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2.common.errors import InputError
from gpt2.config.data import ClassificationDataParams, InstructionsDataParams
from gpt2.sources.labeled import read_classification, read_instructions
from gpt2.sources.splits import SPLITS
from tests.sources.test_tables import write

TRAIN = [{"text": f"text number {i}", "label": i % 3} for i in range(100)]
TEST = [{"text": f"test text {i}", "label": i % 3} for i in range(9)]
NAMES = ["low", "mid", "high"]
ALPACA = [{"instruction": f"Do {i}", "input": None, "output": f"Done {i}"} for i in range(100)]


def labels_of(rows: dict[str, list[dict]]) -> dict[str, str]:
    return {row["text"]: row["label"] for split in SPLITS for row in rows[split]}


def classify(directory, suffix=".jsonl", **changes):
    params = {"train": f"train{suffix}", "test": f"test{suffix}", "columns": {"text": "text"}, **changes}
    return read_classification(ClassificationDataParams(source="local", **params), directory)


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
    as_text = [[{**row, "label": str(row["label"])} for row in rows] for rows in (TRAIN, TEST)]
    directory = files(*(as_text if suffix in (".csv", ".tsv") else (TRAIN, TEST)), suffix)
    rows, labels, manifest = classify(directory, suffix)
    files(TRAIN[::-1], TEST[::-1])
    assert (rows, labels) == classify(directory)[:2]
    assert labels == ["0", "1", "2"] and rows["test"][0]["label"] in labels
    assert manifest["splits"] == {split: len(examples) for split, examples in rows.items()}
    assert [(file["split"], file["file"], file["rows"]) for file in manifest["files"]] == [
        ("train", f"train{suffix}", 100),
        ("test", f"test{suffix}", 9),
    ]


def test_names_of_labels_come_from_params_then_the_file_then_the_labels(files):
    directory = files(suffix=".parquet")
    for name, rows in (("train", TRAIN), ("test", TEST)):
        pq.write_table(named(rows, NAMES), directory / f"{name}.parquet")
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
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return pa.Table.from_pylist(rows).replace_schema_metadata(metadata)


def test_names_are_those_of_all_files(tmp_path):
    write(tmp_path / "train0.parquet", TRAIN[:30])
    pq.write_table(named(TRAIN[30:], NAMES), tmp_path / "train1.parquet")
    pq.write_table(named(TEST, NAMES), tmp_path / "test.parquet")
    rows, labels, _ = classify(tmp_path, ".parquet", train="train*")
    assert labels == NAMES and set(labels_of(rows).values()) == set(NAMES)
    assert labels_of(rows)["text number 5"] == labels_of(rows)["test text 2"] == "high"


def test_files_that_name_their_labels_differently_are_refused(tmp_path):
    pq.write_table(named(TRAIN, NAMES), tmp_path / "train.parquet")
    pq.write_table(named(TEST, NAMES[::-1]), tmp_path / "test.parquet")
    with pytest.raises(InputError, match=r"test\.parquet: names its labels \['high', .*; expected \['low', "):
        classify(tmp_path, ".parquet")


def test_names_that_are_numbers(files):
    texts = [[{**row, "label": str(row["label"] + 1)} for row in rows] for rows in (TRAIN, TEST)]
    names = ["1", "2", "3"]
    for suffix in (".csv", ".tsv", ".jsonl"):
        rows, labels, _ = classify(files(*texts, suffix), suffix, names=names)
        assert labels == names and labels_of(rows)["text number 5"] == "3"
    assert labels_of(classify(files(), names=names)[0])["text number 5"] == "3"  # numbers count from 0
    zero = [[{**row, "label": str(row["label"])} for row in rows] for rows in (TRAIN, TEST)]
    with pytest.raises(InputError, match=r"train.csv, row 1: label = '0': expected one of 1, 2, 3, or its number"):
        classify(files(*zero, ".csv"), ".csv", names=names)


@pytest.mark.parametrize(
    ("values", "names", "labels"),
    [
        ([0.0, 1.0], None, ["0", "1"]),
        ([0.0, 1.0], ["no", "yes"], ["no", "yes"]),
        (["0.0", "1.0"], None, ["0", "1"]),
        (["0.0", "1.0"], ["no", "yes"], ["no", "yes"]),
        ([1.0, "2"], ["1", "2"], ["2", "2"]),
        (["1.0", "2.0"], ["1", "2"], ["1", "2"]),
        ([False, True], None, ["false", "true"]),
        ([False, True], ["no", "yes"], ["no", "yes"]),
        ([False, True], ["True", "False"], ["False", "True"]),  # as they are spelled, not as they are numbered
        (["False", "TRUE"], None, ["false", "true"]),  # as csv files have them
        (["False", "TRUE"], ["no", "yes"], ["no", "yes"]),
        ([-1, 1], None, ["-1", "1"]),  # without names a label like others
        ([-1.0, "-1"], None, ["-1", "-1"]),
        ([-1, -1.0], ["no", "yes"], [None, None]),
        (["-1", "-1.0"], ["no", "yes"], [None, None]),
        ([-1, 1], ["-1", "1"], ["-1", "1"]),
        ([0.5, 1.5, 10], None, ["0.5", "1.5", "10"]),
    ],
)
def test_labels_that_are_numbers_or_booleans(files, values, names, labels):
    others = [{"text": f"other {i}", "label": (names or "ab")[i % 2]} for i in range(100)]
    rows = [{"text": f"text {i}", "label": value} for i, value in enumerate(values)]
    found = labels_of(classify(files(others + rows, others[:1]), names=names)[0])
    assert [found.get(row["text"]) for row in rows] == labels


def test_labels_that_are_numbers_are_in_their_order(files):
    rows = [{"text": f"text {i}", "label": [10, "9.0", 0.5, -1.0][i % 4]} for i in range(100)]
    assert classify(files(rows, rows[:4]))[1] == ["-1", "0.5", "9", "10"]


def test_dropped_rows_are_counted(files):
    more = [{"text": text, "label": 1} for text in (" ", None)]
    more += [{"text": "new", "label": label} for label in (-1, None, float("nan"), " ")]
    more += [{"text": "newer"}, {**TRAIN[9], "label": 1}, {**TRAIN[9], "label": 2}]
    rows, _, manifest = classify(files(TRAIN + TRAIN[:4] + TEST[:3] + more, TEST), names=["a", "b", "c"])
    dropped = {"empty": 2, "without a label": 5, "duplicate": 4, "contradicts another": 2, "also in test": 3}
    assert manifest["dropped"] == {"train": dropped, "val": {}, "test": {}}
    assert sorted(row["text"] for row in rows["train"] + rows["val"]) == sorted(row["text"] for row in TRAIN)


@pytest.mark.parametrize(
    ("train", "test", "changes", "message"),
    [
        (TRAIN, TEST, {"columns": {"text": "words"}}, "{}/train.jsonl: no column 'words'; it has text, label"),
        (TRAIN, [{"text": 5, "label": 1}], {}, "{}/test.jsonl, row 1: text = 5: expected a text"),
        (TRAIN, [{"text": "a", "label": []}], {}, "{}/test.jsonl, row 1: label = []: expected a text or a number"),
        (
            TRAIN,
            TEST,
            {"names": ["a", "b"]},
            "{}/train.jsonl, row 3: label = 2: expected one of a, b, or its number from 0",
        ),
        (
            TRAIN,
            [*TEST, {"text": "b", "label": "x"}],
            {},
            "data.classification: label 'x' of test does not occur in train",
        ),
        (
            TRAIN,
            [{"text": "a", "label": 0.5}],
            {"names": NAMES},
            "{}/test.jsonl, row 1: label = 0.5: expected one of low, mid, high, or its number from 0",
        ),
        (TRAIN[::3], TEST[::3], {}, "data.classification: expected at least two different labels, found '0'"),
        (
            TRAIN,
            [{"text": "a", "label": -1}],
            {"names": NAMES},
            "data.classification.test = 'test.jsonl': its labels are hidden; name another split",
        ),
        (
            TRAIN[4:5],
            TEST,
            {},
            "data.classification: no example is left for val: too few in train to hold one out",
        ),
        (TRAIN, [{"text": "", "label": 1}] * 2, {}, "data.classification: no example is left for test: 2 empty"),
        (TRAIN, TEST, {"val": "*.jsonl"}, "data.classification: no example is left for train: 100 also in val"),
    ],
)
def test_mistakes(files, train, test, changes, message):
    directory = files(train, test)
    with pytest.raises(InputError) as caught:
        classify(directory, **changes)
    assert str(caught.value) == message.format(directory)


def instruct(directory, **changes):
    return read_instructions(InstructionsDataParams(**{"source": "local", "train": "*.json*", **changes}), directory)


def test_instructions(tmp_path):
    write(tmp_path / "a.json", [*ALPACA, {**ALPACA[3], "output": "Done twice"}, {**ALPACA[4], "input": "so"}])
    write(tmp_path / "b.jsonl", [{**ALPACA[0], "output": " "}, {"instruction": None, "input": "", "output": "a"}])
    write(tmp_path / "c.jsonl", [{"instruction": "Do 5", "output": "Done 5"}, {**ALPACA[6], "input": float("nan")}])
    rows, manifest = instruct(tmp_path)
    everything = [row for split in SPLITS for row in rows[split]]
    assert len(everything) == 101 and {row["input"] for row in everything} == {"", "so"}
    assert (
        manifest["dropped"]["train"] == {"contradicts another": 1, "empty": 2, "duplicate": 2}
        and rows["val"]
        and rows["test"]
    )
    twice = next(row for row in everything if row["instruction"] == "Do 3")
    write(tmp_path / "a.json", [{**ALPACA[3], "output": "Done twice"}, *ALPACA])
    assert twice in [row for split in SPLITS for row in instruct(tmp_path)[0][split]]
    without = instruct(tmp_path, columns={"input": None})[0]
    assert all(row["input"] == "" for split in SPLITS for row in without[split])


def test_instructions_may_lack_inputs_but_not_a_column_that_is_named(tmp_path):
    write(tmp_path / "a.json", [{"instruction": f"Do {i}", "output": f"Done {i}"} for i in range(12)])
    rows, manifest = instruct(tmp_path)
    assert manifest["splits"] == {"train": 10, "val": 1, "test": 1}
    assert all(row["input"] == "" for split in SPLITS for row in rows[split])
    with pytest.raises(InputError, match=r"a.json: no column 'context'; it has instruction, output$"):
        instruct(tmp_path, columns={"input": "context"})


def turns(*contents: str | None, first: str = "user") -> list[dict]:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


SYSTEM = [{"role": "system", "content": "Be brief."}]
GPT = [{"from": "human", "value": "c1"}, {"from": "gpt", "value": "c2"}]
CHATS = [
    (turns("a1", "a2"), {"instruction": "a1", "input": "", "output": "a2"}),
    (turns("b1", "b2", "b3"), {"instruction": "b1", "input": "", "output": "b2"}),
    (GPT, {"instruction": "c1", "input": "", "output": "c2"}),
    (turns("d1", "d2", "d3", "d4"), {"messages": turns("d1", "d2", "d3", "d4")}),
    ([*SYSTEM, *turns("e1", "e2", "e3")], {"messages": [*SYSTEM, *turns("e1", "e2")]}),
    ([*GPT, *GPT, *GPT[:1]], {"messages": turns("c1", "c2", "c1", "c2")}),
    (turns("f1"), "without an answer"),
    (SYSTEM, "without an answer"),
    ([*turns("g1"), *turns("g2", "g3")], "not user and assistant in turn"),
    (turns("h1", "h2", "h3", first="assistant"), "not user and assistant in turn"),
    ([*turns("i1"), *SYSTEM, *turns("i2", first="assistant")], "not user and assistant in turn"),
    ([*turns("j1"), {"role": "tool", "content": "j2"}, *turns("j3", "j4")], "not user and assistant in turn"),
    (turns("k1", None), "empty"),
    (turns(" ", "k2"), "empty"),
    ([], "without an answer"),
    (None, "empty"),
]


def test_conversations(tmp_path):
    """An instruction with its answer where there is no more to it."""
    write(tmp_path / "a.jsonl", [{"id": i, "messages": chat} for i, (chat, _) in enumerate(CHATS)] * 2)
    rows, manifest = instruct(tmp_path, train="a.jsonl", columns={"messages": "messages"})
    expected = [made for _, made in CHATS if isinstance(made, dict)]
    everything = [row for split in SPLITS for row in rows[split]]
    assert sorted(map(str, everything)) == sorted(map(str, expected))
    reasons = Counter(made for _, made in CHATS if isinstance(made, str))
    assert manifest["dropped"]["train"] == {"duplicate": 6, **{reason: 2 * n for reason, n in reasons.items()}}
    structs = [{"messages": chat} for chat, _ in CHATS if not chat or "role" in chat[0]]
    pq.write_table(pa.Table.from_pylist(structs), tmp_path / "a.parquet")
    write(tmp_path / "b.jsonl", structs)
    read = [instruct(tmp_path, train=name, columns={"messages": "messages"})[0] for name in ("a.parquet", "b.jsonl")]
    assert read[0] == read[1]


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        ("Hello", "'Hello': expected a list of turns {role, content} or {from, value}"),
        (["Hello"], "['Hello']: expected a list of turns {role, content} or {from, value}"),
        ([*GPT, {"role": "user", "value": "a"}], ", turn 3: no column 'content'; it has role, value"),
        ([{"text": "a"}], ", turn 1: no column 'from'; it has text"),
        (turns("a", 5), ", turn 2: content = 5: expected a text"),
    ],
)
def test_a_malformed_conversation(tmp_path, chat, message):
    write(tmp_path / "a.json", [{"chat": GPT}, {"chat": chat}])
    with pytest.raises(InputError) as caught:
        instruct(tmp_path, columns={"messages": "chat"})
    separator = "" if message.startswith(",") else " = "
    assert str(caught.value) == f"{tmp_path}/a.json, row 2: chat{separator}{message}"


@pytest.mark.parametrize(("column", "value"), [("output", 4), ("input", ["a"])])
def test_an_instruction_that_is_not_a_text(tmp_path, column, value):
    write(tmp_path / "a.json", [ALPACA[0], {**ALPACA[1], column: value}])
    with pytest.raises(InputError) as caught:
        instruct(tmp_path)
    assert str(caught.value) == f"{tmp_path}/a.json, row 2: {column} = {value!r}: expected a text"


@pytest.mark.realdata
def test_sst2(real_data):
    params = ClassificationDataParams(source="local", train="train.tsv", test="dev.tsv")
    rows, labels, manifest = read_classification(params, real_data / "sst2")
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
