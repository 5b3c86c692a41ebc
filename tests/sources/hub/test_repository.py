"""The hub as a source: the project's own code, huggingface_hub and datasets unmodified, on a loopback hub."""

import dataclasses
import io
import json
import random
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.loopback_hub import MEMBER, STRANGER

BIG = random.Random(0).randbytes(3_000_000)
CARD = b"""---
configs:
- config_name: plain
  data_files:
  - split: train
    path: plain/train-*.parquet
  - split: validation
    path: plain/held.parquet
- config_name: other
  data_files: other/*.jsonl
dataset_info:
- config_name: plain
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': bad
          '1': good
- config_name: other
  features:
  - name: text
    dtype: string
---
"""


def parquet(first: int) -> bytes:
    """Ten rows that count from `first`."""
    rows = range(first, first + 10)
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [f"row {n}" for n in rows], "label": [n % 2 for n in rows]}), file)
    return file.getvalue()


LABELLED = {
    "README.md": CARD,
    **{f"plain/train-{n}.parquet": parquet(10 * n) for n in range(4)},
    "plain/held.parquet": parquet(100),
    "other/a.jsonl": b'{"text": "a"}\n',
}


def bodies(hub, path: str) -> list:
    """The requests for a file's bytes, but for those that were sent elsewhere."""
    return [each for each in hub.requests if each.method == "GET" and each.path.endswith(path) and each.status != 302]


# --- transfers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["big.parquet", "big.txt"], ids=["LFS", "git"])
def test_a_killed_transfer_goes_on_where_it_ended(hub, client, name):
    hub.add("dataset", "owner/set", {name: BIG})
    hub.fail(f"*/{name}", "stall", after=1_000_000)
    killed = client.start("fetch()")
    blobs = client.home / "hub" / "datasets--owner--set" / "blobs"
    while not any(part.stat().st_size == 1_000_000 for part in blobs.glob("*.part")):
        assert killed.poll() is None, killed.stderr.read().decode()
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    assert [place.suffix for place in blobs.iterdir()] == [".part"]

    found = client.run("show(fetch())")
    assert Path(found[name]).read_bytes() == BIG
    first, second = bodies(hub, name)
    assert (first.range, second.range) == (None, "bytes=1000000-")
    assert (second.status, second.sent) == (206, 2_000_000)
    assert [place.suffix for place in blobs.iterdir()] == [""]


FAULTS = {
    "cut.parquet": ("cut", {"after": 100_000}),
    "cut.txt": ("cut", {"after": 100_000}),
    "limit.parquet": (429, {}),
    "limit-with-time.txt": (429, {"Retry_After": "0"}),
    "limit-of-hub.txt": (429, {"RateLimit": '"resolvers";r=0;t=0'}),
    "error.parquet": (500, {}),
    "overload.txt": (503, {}),
    "short.parquet": ("short", {"after": 100_000}),
    "long.parquet": ("long", {}),
    "flipped.parquet": ("flipped", {}),
    "flipped.txt": ("flipped", {}),
    "gone.txt": ("cut", {"after": 0}),
    "whole.txt": ("cut", {"after": 100_000}),
}


def test_a_passing_fault_is_overcome(hub, client):
    files = {name: random.Random(name).randbytes(200_000) for name in FAULTS}
    hub.add("dataset", "owner/set", files)
    for name, (kind, options) in FAULTS.items():
        hub.fail(f"*/{name}", kind, **options)
    hub.fail("*/whole.txt", "whole")  # in answer to a request for the rest
    hub.fail("/api/datasets/owner/set/revision/main", 503, times=2)
    hub.fail("/api/datasets/owner/set/tree/*", 500)
    found = client.run("show(fetch())")
    assert list(found) == sorted(files)
    for name, content in files.items():
        assert Path(found[name]).read_bytes() == content, name
    assert not any(fault.times for fault in hub.faults)
    for name in ("cut.parquet", "cut.txt", "short.parquet", "whole.txt"):  # what had arrived is kept
        assert [each.range for each in bodies(hub, name)] == [None, "bytes=100000-"], name
    for name in ("long.parquet", "flipped.parquet", "flipped.txt"):  # what is wrong is thrown away
        assert [each.range for each in bodies(hub, name)] == [None, None], name


def test_a_lasting_fault_ends_in_one_line_that_names_it(hub, client):
    hub.add("dataset", "owner/set", {name: b"content" for name in FAULTS})
    for name, (kind, options) in FAULTS.items():
        hub.fail(f"*/{name}", kind, times=99, **{**options, **({"after": 0} if "after" in options else {})})
    lines = client.run(f"show([refusal(fetch, name) for name in {list(FAULTS)}])")
    said = {
        "cut": "cannot be reached",
        429: f"{hub.url} answered HTTP 429 to 5 tries",
        500: f"{hub.url} answered HTTP 500 to 5 tries",
        503: f"{hub.url} answered HTTP 503 to 5 tries",
        "short": "short.parquet ends after 0 of 7 bytes",
        "long": "long.parquet arrived 5 times with a length or hash other than the hub's",
        "flipped": "arrived 5 times with a length or hash other than the hub's",
    }
    for line, (name, (kind, _)) in zip(lines, FAULTS.items(), strict=True):
        assert line.startswith("data.corpus.hub.repo = 'owner/set': ") and "\n" not in line
        assert said[kind] in line
        assert len(bodies(hub, name)) == 5


def test_a_poor_line_is_no_reason_to_give_up_while_bytes_arrive(hub, client):
    hub.add("dataset", "owner/set", {"big.parquet": BIG})
    hub.fail("*/big.parquet", "cut", times=9, after=300_000)
    found = client.run("show(fetch())")
    assert Path(found["big.parquet"]).read_bytes() == BIG
    assert sum(each.sent for each in bodies(hub, "big.parquet")) == len(BIG)


def test_a_connection_that_says_nothing_more_is_left(hub, client):
    hub.add("dataset", "owner/set", {"big.parquet": BIG})
    hub.fail("*/big.parquet", "stall", after=300_000)
    found = client.run("show(fetch())", HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert Path(found["big.parquet"]).read_bytes() == BIG


def test_two_processes_fetch_a_file_once(hub, client):
    hub.add("dataset", "owner/set", {"big.parquet": BIG})
    both = [client.start("show(fetch())") for _ in range(2)]
    assert all(process.communicate()[0] and process.returncode == 0 for process in both)
    assert sum(each.sent for each in bodies(hub, "big.parquet")) == len(BIG)


def test_files_come_in_order_and_a_caller_that_stops_early_stops_the_transfers(hub, client):
    names = [f"{n}.parquet" for n in range(8)]
    hub.add("dataset", "owner/set", {name: name.encode() * 1000 for name in names})
    hub.fail("*/0.parquet", 503)  # later ones arrive first
    shown = client.run(f"""
found = repository()
stream = found.fetch({names[:6]}, ahead=3)
first = [next(stream).name for _ in range(3)]
stream.close()
show([first, [file.name for file in found.fetch({names[::-1][4:]})]])""")
    assert shown == [names[:3], names[::-1][4:]]
    assert not bodies(hub, names[5]) and not bodies(hub, names[7])


def test_a_disk_that_is_too_small_is_an_error_of_the_system_that_names_the_file(hub, client):
    hub.add("dataset", "owner/set", {"big.parquet": BIG})
    code, name = client.run("""
import collections, errno, shutil
shutil.disk_usage = lambda path: collections.namedtuple("Usage", "free")(2_999_999)
try:
    fetch()
except OSError as error:
    show([error.errno == errno.ENOSPC, error.filename])""")
    assert code and name.endswith(".part")
    assert not bodies(hub, "big.parquet")


def test_a_leftover_that_is_too_long_costs_no_try(hub, client):
    hub.add("dataset", "owner/set", {"a.txt": b"content"})
    place = Path(client.run("show(fetch())")["a.txt"]).resolve()
    place.rename(place.with_name(f"{place.name}.part")).write_bytes(b"content and more")
    hub.fail("*/a.txt", 503, times=4)
    assert Path(client.run("show(fetch())")["a.txt"]).read_bytes() == b"content"


def test_a_hub_that_asks_for_a_day_is_not_waited_for_so_long(hub, client):
    hub.add("dataset", "owner/set", {"a.txt": b"a"})
    hub.fail("/api/datasets/owner/set/revision/main", 429, Retry_After="86400")
    process = client.start("""
from gpt2.sources import transfer
waits = []
transfer.sleep = waits.append
repository()
show(waits)""")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert json.loads(out) == [300] and b"the hub: HTTP 429; trying again in 300 s" in err


# --- what the cache holds ------------------------------------------------------------------------------------------


def test_a_moved_branch_gives_another_commit_and_what_stayed_the_same_is_not_fetched_again(hub, client):
    first = hub.add("dataset", "owner/set", {"a.txt": b"a", "b.txt": b"old"})
    show = (
        "found = repository(); show([found.record(), [file.read_text() for file in found.fetch(['a.txt', 'b.txt'])]])"
    )
    record = {"source": "hub", "repo": "owner/set", "revision": "main", "commit": first}
    assert client.run(show) == [record, ["a", "old"]]
    second = hub.add("dataset", "owner/set", {"a.txt": b"a", "b.txt": b"new"})
    assert client.run(show) == [{**record, "commit": second}, ["a", "new"]] and second != first
    assert len(bodies(hub, "a.txt")) == 1
    assert client.run(f"show(repository(revision='{first}').commit)") == first


def test_offline_gives_what_online_gave(hub, client):
    hub.add("dataset", "owner/set", LABELLED)
    hub.add("dataset", "owner/bare", {"README.md": b"", "data/x.txt": b"x"})
    code = """
found = repository()
files = [str(file) for file in found.fetch(found.matching(["plain/*"]))]
show([files, found.splits("plain"), found.label_names("plain", "label")])"""
    online = client.run(code)
    client.run("fetch(name='owner/bare'); show(0)")
    asked = len(hub.requests)
    assert client.run(code, HF_HUB_OFFLINE="1") == online

    lines = client.run(
        """
bare = repository("owner/bare")
show([
    refusal(repository, "owner/none"),
    refusal(repository().splits, "other"),
    refusal(fetch, "other/*"),
    refusal(bare.splits, None),
])""",
        HF_HUB_OFFLINE="1",
    )
    said = ["revision 'main'", "the splits of configuration 'other'", "the files in other", "the splits of the default"]
    for line, lacking in zip(lines, said, strict=True):
        assert (
            f"HF_HUB_OFFLINE is set, and the cache lacks {lacking}" in line
            and line.endswith("; run this stage once online")
            and "\n" not in line
        )
    assert len(hub.requests) == asked


def test_the_cache_is_huggingface_hubs_own(hub, client):
    commit = hub.add("dataset", "owner/set", LABELLED)
    ours = client.run("show(fetch())")
    asked = len(hub.requests)
    theirs = client.run(
        """
from huggingface_hub import hf_hub_download, scan_cache_dir
cache = scan_cache_dir()
show([hf_hub_download("owner/set", "plain/held.parquet", repo_type="dataset"), [str(w) for w in cache.warnings],
      [[repo.repo_id, repo.nb_files, sorted(repo.refs)] for repo in cache.repos]])""",
        HF_HUB_OFFLINE="1",
    )
    assert theirs == [ours["plain/held.parquet"], [], [["owner/set", len(LABELLED), ["main"]]]]

    client.home = client.home.with_name("another")  # and the other way round
    client.run("""
from huggingface_hub import snapshot_download
show(snapshot_download("owner/set", repo_type="dataset"))""")
    asked = len(hub.requests)
    found = client.run("show(fetch())", HF_HUB_OFFLINE="1")
    assert Path(found["plain/held.parquet"]).read_bytes() == LABELLED["plain/held.parquet"]
    assert commit in found["plain/held.parquet"] and len(hub.requests) == asked


def state(home: Path) -> dict[str, int]:
    """When each file and folder of a cache changed last."""
    return {str(path): path.lstat().st_mtime_ns for path in home.rglob("*")}


def test_a_cache_that_holds_everything_is_not_written_to(hub, client):
    hub.add("dataset", "owner/set", LABELLED)
    code = "show([fetch(), repository().splits('plain')])"
    first = client.run(code)
    shutil.rmtree(client.home / "hub" / ".locks")
    before = state(client.home)
    assert client.run(code) == first and state(client.home) == before


def test_a_cache_that_cannot_be_written_is_named(hub, client):
    hub.add("dataset", "owner/set", {"a.txt": b"a"})
    client.home.write_text("a file")
    line = client.run("show(refusal(fetch))")
    assert line == (
        f"data.corpus.hub.repo = 'owner/set': the cache {client.home}/hub cannot be used (Not a directory);"
        " set HF_HOME to a folder of your own"
    )


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"answer": 5}', '{"answer": [["a", 1]]}'])
def test_a_damaged_answer_in_the_cache_is_asked_for_again(hub, client, damage):
    hub.add("dataset", "owner/set", {"a.txt": b"a"})
    found = client.run("show(fetch())")
    (answer,) = client.home.glob("hub/*/answers/*/*.json")
    whole = answer.read_text()
    answer.write_text(damage)
    assert client.run("show(fetch())") == found and answer.read_text() == whole


HOSTILE = ["../../escaped", "/tmp/escaped", "a/../../escaped", "a\\..\\b", "a\nb"]


def test_a_hub_cannot_lead_out_of_the_cache(hub, client):
    for number, path in enumerate(HOSTILE):
        hub.add("dataset", f"owner/path{number}", {path: b"x"})
    commit = hub.add("dataset", "owner/hash", {"a.parquet": b"x"})
    tree = hub.repos["dataset", "owner/hash"].commits[commit]
    tree["a.parquet"] = dataclasses.replace(tree["a.parquet"], sha256="../../../escaped")
    names = [f"owner/path{number}" for number in range(len(HOSTILE))] + ["owner/hash"]
    lines = client.run(f"show([refusal(fetch, name=name) for name in {names}])")
    for line, path in zip(lines, [*HOSTILE, "a.parquet"], strict=True):
        assert f"{path!r} with the hash" in line and "cannot be put into the cache" in line and "\n" not in line
    assert not list(client.home.parent.rglob("escaped")) and not bodies(hub, "escaped")


@pytest.mark.parametrize("name", ["big.parquet", "big.txt"], ids=["LFS", "git"])
def test_a_damaged_file_in_the_cache_is_fetched_again(hub, client, name):
    hub.add("dataset", "owner/set", {name: BIG})
    place = Path(client.run("show(fetch())")[name])
    damaged = bytearray(BIG)
    damaged[1_234_567] ^= 4
    place.resolve().write_bytes(damaged)
    line = client.run(f"show(refusal(fetch, '{name}'))", HF_HUB_OFFLINE="1")
    assert f"the cache lacks {name}, or has it damaged" in line
    assert client.run("show(fetch())") == {name: str(place)}
    assert place.read_bytes() == BIG and len(bodies(hub, name)) == 2


# --- which files ---------------------------------------------------------------------------------------------------


def test_patterns_choose_files_and_only_their_folder_is_listed(hub, client):
    files = {f"{folder}/{n:03}.parquet": b"" for folder in ("sample/10BT", "sample/100BT", "data/x") for n in range(8)}
    commit = hub.add("dataset", "owner/set", {"README.md": b"", **files})
    found, lines = client.run("""
found = repository()
patterns = [["sample/10BT/*.parquet"], ["sample/10BT/00[12]*", "data/x/003.parquet"]]
lines = [refusal(found.matching, ["sample/10BT/*", each]) for each in ("sample/10BT/*.csv", "no/where/*")]
lines += [refusal(lambda: list(found.fetch(["data/x/008.parquet"])))]
show([[found.matching(each) for each in patterns], lines])""")
    assert found[0] == [f"sample/10BT/{n:03}.parquet" for n in range(8)]
    assert found[1] == ["data/x/003.parquet", "sample/10BT/001.parquet", "sample/10BT/002.parquet"]
    begin = "data.corpus.hub.repo = 'owner/set': no file "
    assert lines[0] == f"{begin}at revision 'main' matches 'sample/10BT/*.csv'"
    assert lines[1] == f"{begin}at revision 'main' matches 'no/where/*'"
    assert lines[2] == f"{begin}'data/x/008.parquet' at revision 'main'"
    trees = [each.path.partition(f"{commit}/")[2] for each in hub.requests if "/tree/" in each.path]
    assert trees.count("sample/10BT") == trees.count("data/x") == 3  # pages
    assert set(trees) == {"sample/10BT", "data/x", "no/where"}


def test_splits_and_label_names_are_those_that_datasets_finds(hub, client):
    hub.add("dataset", "owner/set", LABELLED)
    hub.add("dataset", "owner/bare", {"train.csv": b"text,label\na,1\n", "dev.csv": b"text,label\nb,0\n"})
    hub.add("dataset", "owner/script", {"script.py": b"import datasets"})
    hub.add("dataset", "owner/empty", {"README.md": b""})
    splits, labels, lines = client.run("""
found, bare = repository(), repository("owner/bare")
show([[found.splits("plain"), found.splits("other"), bare.splits(None)],
      [found.label_names("plain", "label"), found.label_names("plain", "text"), found.label_names("plain", "none"),
       bare.label_names(None, "label")],
      [refusal(found.splits, "small"), refusal(found.splits, None), refusal(bare.splits, "small"),
       refusal(repository("owner/script").splits, None), refusal(repository("owner/empty").splits, None)]])""")
    assert splits == [
        {"train": [f"plain/train-{n}.parquet" for n in range(4)], "validation": ["plain/held.parquet"]},
        {"train": ["other/a.jsonl"]},
        {"train": ["train.csv"], "validation": ["dev.csv"]},
    ]
    assert labels == [["bad", "good"], None, None, None]
    begin = "data.corpus.hub.config = "
    assert lines[0] == f"{begin}'small': expected one of plain, other, the configurations of owner/set"
    assert lines[1] == f"{begin}None: expected one of plain, other, the configurations of owner/set"
    assert lines[2] == f"{begin}'small': expected one of default, the configurations of owner/bare"
    for line in lines[3:]:
        assert "`datasets` finds nothing that it can read" in line and "\n" not in line


def test_a_folder_with_the_name_of_the_repository_is_not_taken_for_it(hub, client, tmp_path):
    hub.add("dataset", "owner/set", LABELLED)
    (tmp_path / "owner" / "set").mkdir(parents=True)
    (tmp_path / "owner" / "set" / "train.csv").write_text("text\nother\n")
    found, line = client.run(f"""
import os
os.chdir({str(tmp_path)!r})
show([repository().splits("other"), refusal(repository().splits, "small")])""")
    assert found == {"train": ["other/a.jsonl"]} and "expected one of plain, other" in line


BROKEN_CARDS = {
    "yaml": "configs: [a",
    "configs": "configs: hello",
    "type": "dataset_info:\n  features:\n  - name: a\n    dtype: wild",
    "files": "configs:\n- config_name: default\n  data_files: 5",
    "none": "configs:\n- config_name: default\n  data_files:",
    "split": "configs:\n- config_name: default\n  data_files:\n  - split: a b/../c\n    path: a.csv",
    "encoding": "pretty_name: caf\udce9",
}


def test_a_dataset_card_that_cannot_be_read_is_said_in_one_line(hub, client):
    for name, card in BROKEN_CARDS.items():
        card = f"---\n{card}\n---\n".encode(errors="surrogateescape")
        hub.add("dataset", f"owner/{name}", {"README.md": card, "a.csv": b"a\n1\n"})
    names = [f"owner/{name}" for name in BROKEN_CARDS]
    lines = client.run(f"show([refusal(repository(name).splits, None) for name in {names}])")
    for line, name in zip(lines, names, strict=True):
        assert line.startswith(f"data.corpus.hub.repo = '{name}': its dataset card cannot be read: ")
        assert "\n" not in line and len(line) < 400


def test_datasets_reads_the_rows_that_were_served(hub, client):
    hub.add("dataset", "owner/set", LABELLED)
    rows, labels = client.run("""
import datasets
rows = datasets.load_dataset("owner/set", "plain")
show([{split: list(rows[split]["text"]) for split in rows}, rows["train"].features["label"].names])""")
    assert rows == {"train": [f"row {n}" for n in range(40)], "validation": [f"row {n}" for n in range(100, 110)]}
    assert labels == ["bad", "good"]


# --- refusals ------------------------------------------------------------------------------------------------------


def test_what_a_user_can_put_right_is_said_in_one_line(hub, client):
    hub.add("dataset", "owner/set", {"a.txt": b"a"})
    commit = hub.add("dataset", "owner/huge", {"a.parquet": b"a"})
    tree = hub.repos["dataset", "owner/huge"].commits[commit]
    tree["a.parquet"] = dataclasses.replace(tree["a.parquet"], size=60 * 10**9)
    hub.add("dataset", "owner/page", {"a.txt": b"a"})
    hub.fail("/api/datasets/owner/page/revision/main", 200, times=9)
    hub.add("dataset", "owner/down", {"a.txt": b"a"})
    hub.fail("/api/datasets/owner/down/revision/main", 502, times=99)
    lines = client.run("""
show([refusal(repository, "owner/none"), refusal(repository, "owner/set", "v2"), refusal(repository, "not a name"),
      refusal(fetch, name="owner/huge"), refusal(repository, "owner/page"), refusal(repository, "owner/down")])""")
    assert lines == [
        f"data.corpus.hub.repo = 'owner/none': no such dataset at {hub.url}, or a private one that needs HF_TOKEN",
        "data.corpus.hub.revision = 'v2': no such branch, tag or commit in owner/set",
        "data.corpus.hub.repo = 'not a name': not the name of a repository; expected owner/name",
        "data.corpus.hub.repo = 'owner/huge': a.parquet is too large for the hub's HTTP; `hf download` can put it into"
        " the cache",
        f"data.corpus.hub.repo = 'owner/page': {hub.url} does not answer as a hub does; check HF_ENDPOINT",
        f"data.corpus.hub.repo = 'owner/down': {hub.url} answered HTTP 502 to 5 tries; try again later",
    ]
    line = client.run("show(refusal(repository))", HF_ENDPOINT="http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached (ConnectError)" in line
    assert "HF_TOKEN holds characters outside ASCII" in client.run("show(refusal(repository))", HF_TOKEN="hf_é")
    assert "HTTP_PROXY" in client.run("show(refusal(repository))", HTTP_PROXY="a:b:c")


def test_json_that_is_no_hubs_is_said_in_one_line(hub, client):
    answers = [
        b'{"hello": 1}',
        b'"a"',
        b'{"id": "owner/set", "sha": "../../x", "private": false, "tags": []}',
        b'[{"type": "file", "path": "\\ud800", "size": 1, "oid": "0"}]',
    ]
    for number, answer in enumerate(answers):
        hub.add("dataset", f"owner/info{number}", {"a.txt": b"a"})
        hub.fail(f"/api/datasets/owner/info{number}/revision/main", 200, body=answer)
        hub.add("dataset", f"owner/tree{number}", {"a.txt": b"a"})
        hub.fail(f"/api/datasets/owner/tree{number}/tree/*", 200, body=answer)
    names = [f"owner/{what}{number}" for what in ("info", "tree") for number in range(len(answers))]
    for line in client.run(f"show([refusal(fetch, name=name) for name in {names}])"):
        assert line.endswith(f"{hub.url} does not answer as a hub does; check HF_ENDPOINT")


@pytest.mark.parametrize("status", [403, 404])
def test_a_file_that_the_hub_refuses_is_named(hub, client, status):
    hub.add("dataset", "owner/set", {"a.txt": b"a", "b.txt": b"b"})
    hub.fail("*/b.txt", status, times=9)
    assert client.run("show(refusal(fetch))") == (
        f"data.corpus.hub.repo = 'owner/set': {hub.url} answered HTTP {status} to b.txt;"
        f" see whether {hub.url}/datasets/owner/set lets this account download it"
    )


def test_a_revision_that_git_could_not_have_is_refused_at_once(hub, client):
    revisions = ["a b", "main\n", "", "../main", "a//b", "a..b/.."]
    lines = client.run(f"show([refusal(repository, revision=revision) for revision in {revisions}])")
    for line, revision in zip(lines, revisions, strict=True):
        assert line == f"data.corpus.hub.revision = {revision!r}: expected the name of a branch or tag, or a commit"
    assert not hub.requests


def test_a_gated_or_private_repository_asks_for_a_token(hub, client):
    hub.add("dataset", "owner/gated", {"README.md": CARD, "plain/train-0.parquet": parquet(0)}, gated=True)
    hub.add("dataset", "owner/private", {"a.txt": b"a"}, private=True)
    code = """
show([refusal(fetch, name="owner/gated"), refusal(repository("owner/gated").splits, "plain"),
      refusal(repository, "owner/private")])"""
    gated = (
        f"data.corpus.hub.repo = 'owner/gated': access is gated; accept the terms at {hub.url}/datasets/owner/gated,"
        " then set HF_TOKEN to a token of that account"
    )
    private = (
        f"data.corpus.hub.repo = 'owner/private': no such dataset at {hub.url}, or a private one that needs HF_TOKEN"
    )
    assert client.run(code) == [gated, gated, private]
    assert client.run(code, HF_TOKEN=STRANGER) == [gated, gated, private]
    line = client.run("show(refusal(repository, 'owner/gated'))", HF_TOKEN="hf_expired")
    assert line.endswith(f"{hub.url} refuses the token; set HF_TOKEN to a valid one")
    found = client.run("show([*fetch(name='owner/gated'), *fetch(name='owner/private')])", HF_TOKEN=MEMBER)
    assert found == ["README.md", "plain/train-0.parquet", "a.txt"]
