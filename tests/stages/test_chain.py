"""The whole chain with the smoke profile. DVC runs it in a copy of the repository, as a user would."""

import json
import re
import shutil
import sys
from collections import Counter
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gpt2.common.files import read_csv
from stages.profile import merge
from stages.verify import MACHINE
from tests.conftest import ROOT
from tests.repository import Folder, Repository
from tests.test_architecture import UNKEYED, UNKEYED_IN

pytestmark = pytest.mark.chain
OTHER = "profiles/gpt2-124m.yaml"  # another profile than that of the chain
DOWNSTREAM = [
    "generate_samples",
    "finetune_classification",
    "evaluate_classification",
    "finetune_instruction",
    "evaluate_instruction",
    "evaluate_parity",
    "evaluate_hellaswag",
    "plot_attention",
    "report",
]


def test_every_stage_ran_and_a_second_repro_does_nothing(chain):
    locked = YAML(typ="safe").load(chain.path / "dvc.lock")["stages"]
    declared = YAML(typ="safe").load(chain.path / "dvc.yaml")["stages"]
    assert locked.keys() == declared.keys() and len(declared) == 18
    assert "Running stage" not in chain.ok("dvc", "repro")
    assert "up to date" in chain.ok("dvc", "status")


def test_verify_compares_the_results_with_the_committed_ones(chain):
    assert chain.ok(sys.executable, "-m", "stages.verify").startswith("equal: dvc.lock matches the last commit")
    lock = (chain.path / "dvc.lock").read_text()
    (model,) = re.findall(
        r"path: data/models/pretrain\n\s+hash: md5\n\s+md5: (\w+)\.dir", lock.split("  pretrain:")[1]
    )[:1]
    (chain.path / "dvc.lock").write_text(lock.replace(model, "0" * 32))
    chain.commit()
    (chain.path / "dvc.lock").write_text(lock)
    done = chain.run(sys.executable, "-m", "stages.verify")
    chain.commit()
    result, first, second, *others = done.stdout.splitlines()
    assert (done.returncode, result) == (1, "differs")
    assert first == "pretrain: the first stage that differs: same inputs, different outputs"
    assert f"committed {'0' * 32}.dir, here {model}.dir" in second
    assert [line.partition(":")[0] for line in others[-3:]] == ["committed", "here", "here"]


def lay_out(chain: Repository, stage: str, place: Path) -> list[str]:
    """Copies to `place` only the inputs that dvc.yaml declares for a stage. Returns the outs that it declares.

    Undeclared params get the values of another profile, except for those of `machine`, which affect rounding.
    """
    yaml = YAML(typ="safe")
    declared = yaml.load(chain.path / "dvc.yaml")["stages"][stage]
    own, params, other = (yaml.load(chain.path / name) for name in ("params.yaml", "params.yaml", OTHER))
    merge(params, {"seed": 1, **other}, OTHER)
    for name in [*declared["params"], "machine"]:
        *sections, key = name.split(".")
        reduce(getitem, sections, params)[key] = reduce(getitem, name.split("."), own)
    yaml.dump(params, place / "params.yaml")
    shutil.copy2(chain.path / "dvc.yaml", place)
    for dep in [*declared["deps"], *UNKEYED, *UNKEYED_IN.get(stage, []), "gpt2/__init__.py"]:
        dep = re.sub(r"\$\{(\w+)\.init\}", lambda match: params[match[1]]["init"], dep)
        (place / dep).parent.mkdir(parents=True, exist_ok=True)
        if (chain.path / dep).is_dir():
            shutil.copytree(chain.path / dep, place / dep, dirs_exist_ok=True)  # a dep may be a file in it
        else:
            shutil.copy2(chain.path / dep, place / dep)
    outs = [out for kind in ("outs", "metrics", "plots") for out in declared.get(kind, [])]
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]


def contents(path: Path) -> dict[str, bytes]:
    """The files of an out by relative path."""
    return {str(file.relative_to(path)): file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("stage", YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])
def test_a_stage_needs_only_the_inputs_that_it_declares(chain, stage, tmp_path):
    outs = lay_out(chain, stage, tmp_path)
    Folder(tmp_path, HF_HUB_OFFLINE="1").ok("python", "-m", f"stages.{stage}")
    assert all(contents(tmp_path / out) == contents(chain.path / out) for out in outs if out not in MACHINE)


def test_pretraining_starts_near_ln_v_and_learns(chain):
    metrics = chain.json("reports/pretrain/metrics.json")
    assert metrics["initial_loss"] == pytest.approx(6.931, abs=0.15)  # ln 1024
    assert metrics["val_loss"] < metrics["initial_loss"] - 0.3


def test_every_model_directory_loads_in_transformers(chain):
    script = (
        "from huggingface_hub import ModelCard\n"
        "from transformers import AutoModelForCausalLM as LM, AutoModelForSequenceClassification as SC, AutoTokenizer\n"
        "for name, kind in (('pretrain', LM), ('classification', SC), ('instruction', LM)):\n"
        "    model, info = kind.from_pretrained(f'data/models/{name}', output_loading_info=True)\n"
        "    assert not info['missing_keys'] and not info['unexpected_keys'], info\n"
        "    tokenizer = AutoTokenizer.from_pretrained(f'data/models/{name}')\n"
        "    assert len(tokenizer) == model.config.vocab_size\n"
        "    assert tokenizer.pad_token_id == model.config.pad_token_id == tokenizer.eos_token_id\n"
        "    assert (tokenizer.chat_template is not None) == (name == 'instruction')\n"
        "    made_from = ModelCard.load(f'data/models/{name}/README.md').data['made_from']\n"
        "    assert {made['source'] for made in made_from} == {'docstrings'} and made_from[-1]['license']\n"
    )
    chain.ok(sys.executable, "-c", script)


def test_how_the_work_is_done_reruns_nothing(chain):
    launcher = '"torchrun --standalone --nproc-per-node=2"'
    changes = {"launcher": launcher, "micro_batch_size": 1, "compile": "always", "checkpoint_every": 7, "workers": 1}
    settings = [word for key, value in changes.items() for word in ("-S", f"machine.{key}={value}")]
    printed = chain.ok("dvc", "exp", "run", *settings)
    assert "Running stage" not in printed and "machine.launcher" in chain.ok("dvc", "params", "diff")
    chain.restore()


def test_only_what_decides_a_result_makes_a_stage_stale(chain):
    """Comments in code that samples, judges and words errors, and on packages; weights that no stage trains from."""
    edited = ("gpt2/generation/sampling.py", "gpt2/instruction/judge.py", "gpt2/common/errors.py", "requirements.txt")
    for file in edited:
        with open(chain.path / file, "a") as code:
            code.write("# a comment\n")
    stale = json.loads(chain.ok("dvc", "status", "--json")).keys()
    chain.restore()
    assert stale == {"generate_samples", "evaluate_instruction", "evaluate_parity", "read_docstrings"}
    (chain.path / "data/models/gpt2/more").write_text("weights")
    stale = json.loads(chain.ok("dvc", "status", "--json")).keys()
    chain.restore()
    assert stale == {"download_gpt2", "train_tokenizer", "evaluate_parity", "plot_attention"}


def test_tokenization_that_other_code_began_goes_on_and_says_so(chain):
    key = chain.ok(sys.executable, "-c", "from stages.stage import Stage; print(Stage('tokenize').key())").strip()
    scratch, before = chain.path / ".scratch/tokenize" / key, contents(chain.path / "data/tokens")
    scratch.mkdir(parents=True)
    (scratch / "code.json").write_text("{}")
    printed = chain.ok(sys.executable, "-m", "stages.tokenize")
    assert f"its code has changed; to start over, delete .scratch/tokenize/{key}" in printed
    assert contents(chain.path / "data/tokens") == before and not scratch.exists()
    chain.restore()


def test_an_experiment_reruns_pretrain_and_what_follows_and_shows_the_difference(chain):
    costly = ["evaluate_parity", "finetune_instruction", "evaluate_instruction", "report"]  # not run here
    others = [stage for stage in DOWNSTREAM if stage not in costly]
    printed = chain.ok("dvc", "exp", "run", "-S", "train.steps=40", *others)
    assert "training starts at step 0: the cosine schedule depends on train.steps" in printed
    ran = re.findall(r"Running stage '(\w+)'", printed)
    assert ran[0] == "pretrain" and sorted(ran[1:]) == sorted(others)
    assert sorted(json.loads(chain.ok("dvc", "status", "--json"))) == sorted(costly)
    unfinished = chain.run(sys.executable, "-m", "stages.verify")
    assert unfinished.returncode == 1 and unfinished.stderr.startswith("finetune_instruction is out of date")
    difference = json.loads(chain.ok("dvc", "metrics", "diff", "--json"))
    assert difference["reports/pretrain/metrics.json"]["val_loss"]["diff"] != 0
    _every_plot_shows_both(chain)
    chain.restore()


def _every_plot_shows_both(chain: Repository) -> None:
    """Each plot of dvc.yaml compares the commit with the experiment, with one point per row of the table."""
    declared = YAML(typ="safe").load(chain.path / "dvc.yaml")
    tables = [next(iter(plot)) for stage in declared["stages"].values() for plot in stage.get("plots", [])]
    several = [plot for plots in declared["plots"] if isinstance(plots, dict) for plot in plots.items()]
    images = [str(path.relative_to(chain.path)) for path in chain.path.glob("reports/attention/figures/*.svg")]
    shown = json.loads(chain.run("dvc", "plots", "diff", "--json", "HEAD").stdout)["data"]
    assert set(shown) == {*tables, *images, *(name for name, _ in several)} and images
    for name, files in [*((table, [table]) for table in tables), *((name, plot["y"]) for name, plot in several)]:
        here = sum(len(read_csv(chain.path / file)) for file in files)
        committed = sum(chain.ok("git", "show", f"HEAD:{file}").count("\n") - 1 for file in files)
        drawn = shown[name][0]["content"]
        assert Counter(point["rev"] for point in drawn["data"]["values"]) == {"workspace": here, "HEAD": committed}
        assert drawn["title"]["text"] == name
    for name in images:
        assert [image["revisions"] for image in shown[name]] == [["workspace"], ["HEAD"]]


def test_a_wrong_param_ends_in_one_line_before_any_work(chain):
    done = chain.run("dvc", "exp", "run", "-S", "train.lr=fast")
    chain.restore()
    said = [line for line in (done.stdout + done.stderr).splitlines() if "train.lr = 'fast'" in line]
    assert done.returncode != 0 and len(said) == 1 and said[0].startswith("pretrain: ")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("damaged", "command", "words"),
    [
        ("data/tokens/train_000000.npy", "-m stages.pretrain", "data/tokens/train_000000.npy"),
        ("data/models/pretrain/config.json", "-m stages.evaluate_parity", "data/models/pretrain/config.json"),
        ("data/models/pretrain", "-m gpt2 generate --model data/models/pretrain --prompt x", "data/models/pretrain"),
    ],
)
def test_a_damaged_input_ends_in_one_line(chain, damaged, command, words):
    place, aside = chain.path / damaged, chain.path / "aside"
    place.rename(aside)
    try:
        if damaged.endswith(".npy"):
            place.write_bytes(aside.read_bytes()[:1000])
        done = chain.run(sys.executable, *command.split())
    finally:
        if place.exists():
            place.unlink()
        aside.rename(place)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and words in done.stderr
