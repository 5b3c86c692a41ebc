"""Two runs: the first stage that differs, how, what it explains, and which metrics are outside their tolerance."""

import json
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from gpt2.common.mappings import flat
from stages.params import read_yaml
from stages.tolerance import DECIDES, metric_differences
from stages.verify import MACHINE, THROUGHPUT, compare, describe, judge, read_committed, read_lock, verify
from tests.conftest import ROOT

LOCK = f"""
schema: '2.0'
stages:
  tokenize:
    cmd: python -m stages.tokenize
    deps:
    - {{path: data/raw/corpus, md5: aa.dir, size: 1}}
    - {{path: gpt2/tokenizer/bpe.py, md5: f1}}
    params: {{params.yaml: {{tokens: {{heldout: 0.01, workers: null}}}}}}
    outs:
    - {{path: data/tokens, md5: bb.dir, nfiles: 2}}
  pretrain:
    cmd: python -m stages.pretrain
    deps:
    - {{path: data/tokens, md5: bb.dir}}
    - {{path: gpt2/tokenizer/bpe.py, md5: f1}}
    params: {{params.yaml: {{train: {{lr: 0.008}}}}}}
    outs:
    - {{path: data/models/pretrain, md5: cc.dir}}
    - {{path: {MACHINE[0]}, md5: speed1}}
  report:
    cmd: python -m stages.report
    deps:
    - {{path: data/tokens/manifest.json, md5: dd}}
    - {{path: reports/pretrain, md5: speed1.dir}}
    outs:
    - {{path: {MACHINE[1]}, md5: page1}}
"""
ORDER = ["tokenize", "pretrain", "report"]


def lines(*changes: tuple[str, str]) -> list[str]:
    """Describes the differences between LOCK, as committed, and LOCK with these changes."""
    here = LOCK
    for old, new in changes:
        assert old in here
        here = here.replace(old, new)
    locks = read_lock(LOCK.encode(), "a"), read_lock(here.encode(), "b")
    return list(describe(list(compare(*locks, ORDER)), *locks))


def test_speed_the_page_and_sizes_are_not_compared():
    assert lines() == []
    assert lines(("speed1", "speed2"), ("page1", "page2"), ("size: 1", "size: 2")) == []


def test_different_outs_of_the_same_inputs_explain_later_differences():
    assert lines(("data/tokens, md5: bb", "data/tokens, md5: b2"), ("md5: dd", "md5: d2"), ("cc.dir", "c2.dir")) == [
        "tokenize: the first stage that differs: same inputs, different outputs",
        "  out data/tokens: committed bb.dir, here b2.dir",
        "the differences above explain these: pretrain, report",
    ]


def test_a_changed_param_is_shown_with_both_values():
    assert lines(("lr: 0.008", "lr: 1e-05"), ("cc.dir", "c2.dir")) == [
        "pretrain: the first stage that differs: different param",
        "  param train.lr: committed 0.008, here 1e-05",
        "  out data/models/pretrain: committed cc.dir, here c2.dir",
    ]


def test_a_dep_of_several_stages_is_shown_once_and_further_changes_too():
    assert lines(("f1", "f2"), ("stages.report", "stages.page")) == [
        "tokenize: the first stage that differs: different dep",
        "  dep gpt2/tokenizer/bpe.py: committed f1, here f2",
        "report: also differs by itself: different command",
        "  command report: committed python -m stages.report, here python -m stages.page",
        "the differences above explain these: pretrain",
    ]


def test_a_stage_that_was_not_run_is_named():
    first, second, *_ = lines((LOCK[LOCK.index("  report:") :], ""))
    assert first == "report: the first stage that differs: different command, dep"
    assert second == "  command report: committed python -m stages.report, here nothing"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"schema: '3.0'", "schema = '3.0': expected '2.0'"), (b"<<<<<<< HEAD\nschema:", "not valid YAML")],
)
def test_another_file_is_refused_in_one_line(content, words):
    with pytest.raises(InputError, match=rf"^dvc\.lock(, line \d+)?: .*{words}"):
        read_lock(content, "dvc.lock")


def test_an_error_says_if_there_is_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^dvc\.lock: no such file: run `dvc repro` first"):
        verify()
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    subprocess.run(["git", "init", "--quiet"], check=True)
    with pytest.raises(InputError, match=r"^dvc\.lock: no committed version to compare with: fatal: "):
        verify()


# The outs of each stage, and its metrics in the committed run. The figures are those of the sample.
OUTS = {
    "tokenize": "data/tokens",
    "pretrain": "data/models/pretrain",
    "finetune_classification": "data/models/classification",
    "report": "reports/index.html",
}
METRICS = {
    "reports/pretrain/metrics.json": {"val_loss": 4.348726777469411, "steps": 600, "init": "scratch"},
    THROUGHPUT: {"tokens_per_second": 16640.0, "device": "AMD EPYC", "processes": 2, "precision": "bfloat16"},
    "reports/classification/metrics.json": {
        "accuracy": 0.71,
        "accuracy_stderr": 0.016042911207134445,
        "f1": 0.6754913410840371,
        "f1_stderr": 0.016146099756852633,
        "best_step": 300,
    },
    "reports/metrics.json": {
        "verdicts": {"passed": 2},
        "claims": {"context": "pass", "parity": "pass"},
        "pretrain": {"val_loss": 4.348726777469411},
    },
}
FILES = {
    "tokenize": [],
    "pretrain": ["reports/pretrain/metrics.json", THROUGHPUT],
    "finetune_classification": ["reports/classification/metrics.json"],
    "report": ["reports/metrics.json"],
}
INTEL = {"device": "Intel(R) Xeon(R) Processor", "tokens_per_second": 8846.0}


class Lab:
    """A repository with the record of one run in its last commit, and that of another run in its files."""

    def __init__(self):
        spec = {stage: {"metrics": [{path: {"cache": False}} for path in FILES[stage]]} for stage in OUTS}
        YAML().dump({"stages": spec}, Path("dvc.yaml"))
        self.lr, self.hashes = 0.008, dict.fromkeys(OUTS, "00")
        for path, metrics in METRICS.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(json.dumps(metrics))
        self.run()
        for arguments in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=t", "-c", "user.email=t", "commit", "-qm", "a"],
        ):
            subprocess.run(["git", *arguments], check=True)

    def run(self) -> None:
        """Writes dvc.lock: each stage reads the outs of the one before."""
        stages, deps = {}, []
        for stage, out in OUTS.items():
            outs = [{"path": out, "md5": self.hashes[stage]}]
            params = {"params.yaml": {"train": {"lr": self.lr}}} if stage == "pretrain" else {}
            stages[stage] = {"cmd": f"python -m stages.{stage}", "deps": deps, "params": params, "outs": outs}
            deps = [dict(out) for out in outs]
        YAML().dump({"schema": "2.0", "stages": stages}, Path("dvc.lock"))

    def change(self, path: str, **values: object) -> None:
        """Changes metrics of the run here. None removes one."""
        metrics = {**json.loads(Path(path).read_text()), **values}
        Path(path).write_text(json.dumps({name: value for name, value in metrics.items() if value is not None}))

    def elsewhere(self, *stages: str) -> None:
        """The run here was on another processor, and these stages have other outs."""
        self.change(THROUGHPUT, **INTEL)
        self.hashes |= dict.fromkeys(stages, "01")
        self.run()

    def result(self) -> tuple[bool, list[str]]:
        locks = read_lock(read_committed("dvc.lock"), "HEAD"), read_lock(Path("dvc.lock").read_bytes(), "here")
        return judge(read_yaml(Path("dvc.yaml"))["stages"], *locks)


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Lab:
    monkeypatch.chdir(tmp_path)
    return Lab()


def test_the_same_results_are_equal(lab):
    assert lab.result() == (True, [f"equal: dvc.lock matches the last commit, except {' and '.join(MACHINE)}"])
    lab.elsewhere()
    assert lab.result()[0]


def test_another_param_differs_on_any_processor(lab):
    lab.lr = 0.01
    lab.elsewhere("pretrain", "finetune_classification")
    equal, printed = lab.result()
    assert not equal and printed[:3] == [
        "differs",
        "pretrain: the first stage that differs: different param",
        "  param train.lr: committed 0.008, here 0.01",
    ]


def test_on_the_same_processor_bits_must_be_equal(lab):
    lab.elsewhere("pretrain")
    lab.change(THROUGHPUT, device="AMD EPYC", code_changed_at_step=[400])
    equal, printed = lab.result()
    assert not equal and printed[:3] == [
        "differs",
        "pretrain: the first stage that differs: same inputs, different outputs",
        "  out data/models/pretrain: committed 00, here 01",
    ]
    assert "here: the code of pretraining changed at step [400]" in printed
    assert "here: pretrained with device AMD EPYC, processes 2, precision bfloat16" in printed
    lab.change(THROUGHPUT, micro_batch_size=2)  # the work was done in another way
    assert lab.result()[0]


def test_a_run_resumed_in_other_conditions_may_round_differently(lab):
    lab.elsewhere("pretrain")
    lab.change(THROUGHPUT, device="AMD EPYC", conditions_changed_at_step=[400])
    assert lab.result()[0]


def test_after_equal_pretraining_other_stages_may_differ_within_their_tolerance(lab):
    """They run on all cores, and nothing records how many there were."""
    lab.elsewhere("finetune_classification")
    lab.change(THROUGHPUT, device="AMD EPYC")
    lab.change("reports/classification/metrics.json", accuracy=0.725)
    equal, printed = lab.result()
    assert equal and "the text, the tokens and the pretrained model are the same" in printed[0]
    lab.change("reports/classification/metrics.json", accuracy=0.8)
    assert not lab.result()[0]


def test_on_another_processor_metrics_may_differ_within_their_tolerance(lab):
    lab.elsewhere("pretrain", "finetune_classification")
    lab.change("reports/pretrain/metrics.json", val_loss=4.342597000271666)
    lab.change(
        "reports/classification/metrics.json",
        accuracy=0.725,
        accuracy_stderr=0.015796539599835194,
        f1=0.6955603145617901,
        best_step=200,
    )
    equal, printed = lab.result()
    assert equal and printed[0] == "equal within tolerance: rounding differs, the text and the tokens are the same"
    assert [row.split() for row in printed[1:5]] == [
        ["metric", "committed", "here", "difference", "tolerance"],
        ["pretrain.val_loss", "4.34873", "4.3426", "0.00613", "0.02"],
        ["classification.accuracy", "0.71", "0.725", "0.015", "0.0321"],
        ["classification.f1", "0.675491", "0.69556", "0.0201", "0.0323"],
    ]
    assert printed[5:7] == [
        "committed: pretrained with device AMD EPYC, processes 2, precision bfloat16",
        "here: pretrained with device Intel(R) Xeon(R) Processor, processes 2, precision bfloat16",
    ]


def test_on_another_processor_tokens_must_be_equal(lab):
    lab.elsewhere("tokenize", "pretrain")
    equal, printed = lab.result()
    assert not equal and printed[1] == "tokenize: the first stage that differs: same inputs, different outputs"


@pytest.mark.parametrize(
    ("values", "row"),
    [
        ({"f1": 0.71}, "classification.f1 0.675491 0.71 0.0345 0.0323"),
        ({"best_step": None, "accuracy": None}, "classification.accuracy 0.71 nothing 0.0321"),
        ({"n": 800}, "classification.n nothing 800 0"),
    ],
)
def test_a_metric_outside_its_tolerance_differs(lab, values, row):
    lab.elsewhere("pretrain", "finetune_classification")
    lab.change("reports/pretrain/metrics.json", val_loss=4.35)  # within
    lab.change("reports/classification/metrics.json", **values)
    equal, printed = lab.result()
    assert not equal
    assert printed[0] == "differs: finetune_classification is the first stage with a metric outside its tolerance"
    assert printed[2].split() == row.split() and printed[3].startswith("committed: ")


def test_text_and_counts_must_be_equal(lab):
    lab.elsewhere("pretrain")
    lab.change("reports/pretrain/metrics.json", init="gpt2", steps=599)
    equal, printed = lab.result()
    assert not equal and [row.split()[0] for row in printed[2:4]] == ["pretrain.steps", "pretrain.init"]


def test_a_verdict_may_flip_only_with_a_metric_that_is_within_its_tolerance(lab):
    lab.elsewhere("pretrain")
    lab.change("reports/pretrain/metrics.json", val_loss=4.36)
    lab.change("reports/metrics.json", claims={"context": "fail", "parity": "pass"})
    equal, printed = lab.result()
    assert equal and printed[3].split() == ["verdict.context", "pass", "fail", "that", "of", "pretrain.val_loss"]
    lab.change("reports/pretrain/metrics.json", val_loss=4.38)
    equal, printed = lab.result()
    assert not equal and [row.split()[0] for row in printed[2:4]] == ["pretrain.val_loss", "verdict.context"]
    lab.change("reports/pretrain/metrics.json", val_loss=4.36)
    lab.change("reports/metrics.json", claims={"context": "pass", "parity": "fail"})
    equal, printed = lab.result()
    assert not equal and printed[0].startswith("differs: report") and printed[2].startswith("verdict.parity")


def test_rounding_itself_and_choices_are_not_compared():
    old = {"max_abs_logit_diff": 1.2e-05, "cases_passed": 49}
    assert not list(metric_differences("parity", old, {**old, "max_abs_logit_diff": 1.7e-05}))
    (difference,) = metric_differences("parity", old, {**old, "cases_passed": 48})
    assert not difference.within
    old = {"first_token.value": 0.32654, "first_token.head": 3}
    (difference,) = metric_differences("attention", old, {"first_token.value": 0.286, "first_token.head": 1})
    assert difference.within and difference.name == "attention.first_token.value"


def test_each_claim_is_decided_by_metrics_that_exist():
    report = json.loads((ROOT / "reports" / "metrics.json").read_text())
    assert report["claims"].keys() >= DECIDES.keys()
    assert flat(report).keys() >= {metric for metrics in DECIDES.values() for metric in metrics}
