"""Small results of every stage, with hostile text wherever a data set or a model could put it, and a page parser."""

import base64
from html.parser import HTMLParser
from itertools import product

from gpt2.report.lineage import lineage
from gpt2.report.page import render
from gpt2.report.verdicts import OPENAI_TOKENIZER, verdicts

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=\"alert('2')\"> {{ 7 * 7 }} & שלום مرحبا 😀 $x_1$"

CONTROLS = "bell\x07 escape\x1b[31m nul\x00 override\u202e lone\ud800"

LABELS = ["numpy", HOSTILE]

WHOLE_HELLASWAG = {
    "source": "hub",
    "repo": "Rowan/hellaswag",
    "commit": "c" * 40,
    "selection": {"config": None, "split": "validation"},
}

OPENAI_WEIGHTS = {"source": "hub", "repo": "openai-community/gpt2", "commit": "f" * 40, "license": "mit"}

MODELS = ("trained", "initial", "openai")

ATTENTION_FIGURES = ["strongest", "mapping", "entropy", "grid_trained_1"]

ATTENTION_FIGURES += [f"{figure}_{name}" for figure in ("scores", "rollout") for name in MODELS]

ATTENTION_FIGURES += [f"grid_{name}_0" for name in MODELS]

EMBEDDING_FIGURES = ["wpe_columns", "wpe_cosines", "wpe_smoothness", "wte_norms"]

VOID = {"meta", "link", "img", "br", "hr", "input"}


def csv(**columns: list) -> list[dict[str, str]]:
    """Columns as the rows of a csv file."""
    rows = zip(*columns.values(), strict=True)
    return [{name: str(value) for name, value in zip(columns, row, strict=True)} for row in rows]


def inputs(text: str = HOSTILE) -> dict:
    """Small results of every stage, with `text` in each place where a data set or a model could put it."""
    steps, val = list(range(8)), [0, 4, 8]
    curve = csv(step=steps, tokens=steps, lr=[0.1] * 8, loss=[5.6 - step / 4 for step in steps], grad_norm=[1.0] * 8)
    triangle = base64.b64encode(bytes(range(12))).decode()
    tokens = [text, "·the", "$"]
    prompt = {
        "text": text,
        "tokens": tokens,
        "ids": [7, 8, 9],
        "bytes": ["20", "ff", "24"],
        "weights": [[triangle] * 2] * 2,
    }
    best = {"value": 0.5, "layer": 1, "head": 0, "uniform": 0.1, "initial": 0.2}
    kinds = ("previous_token", "first_token", "duplicate_token", "induction")
    scores = {name: [[0.25, 0.5], [0.75, 0.0]] for name in (*kinds, "entropy")}
    model = {"n_layer": 2, "n_head": 2, "scores": scores, "ablation": {}, "prompts": [prompt, prompt], "snapshots": []}
    models = [{"name": name, "title": f"{name} {text}", **model} for name in MODELS]
    predictions = [
        {"text": text, "label": "numpy", "prediction": LABELS[i % 2], "probability": 0.5 + i / 100} for i in range(20)
    ]
    ablation = {"ablation_text": 0.01, "ablation_text_stderr": 0.005}
    ablation |= {"ablation_repeated": 1.5, "ablation_repeated_stderr": 0.125}
    split = {"documents": 10, "tokens": 12345, "bytes": 50000, "duplicates": 1, "shards": [{"file": "x.npy"}]}
    split["lengths"] = [0, 0, 4, 6]
    file = {"file": text, "bytes": 10, "rows": 2, "sha256": "ab" * 32}
    return {
        "sets": {
            "corpus": {"source": "docstrings", "packages": {"numpy": "2.0"}, "documents": {"train": 10}, "note": text},
            "instructions": {"source": "local", "license": None, "files": [file, file]},
            "classification": {"source": "hub", "repo": text, "commit": text, "license": None, "files": [file]},
            "hellaswag": {"source": "docstrings", "packages": {text: text}, "license": ["MIT", text]},
        },
        "labels": LABELS,
        "sample": {"seed": 1, "train": {"lr": 0.5, "note": "x"}},
        "tokens": {
            **{"vocab_size": 300, "tokenizer": "ab" * 32, "empty": 1, "invalid_utf8": 2, "heldout": "blocks"},
            "splits": {"train": split, "val": split},
        },
        "gpt2": {"source": "none"},
        "pretrain": {
            "metrics": {
                **{
                    "init": "scratch",
                    "initial_loss": 5.7,
                    "train_loss": 2.1,
                    "val_loss": 2.2,
                    "unigram_entropy": 4.5,
                    "loss_spikes": 3,
                    "steps": 8,
                    "initial_bits_per_byte": 2.71,
                    "val_bits_per_byte": 1.05,
                },
                **{"tokens": 100, "parameters": 1234567, "vocab_size": 300, "block_size": 8},
                **{"n_layer": 2, "n_head": 2, "n_embd": 8},
            },
            "throughput": {
                **{"tokens_per_second": 54321.0, "model_flops_utilization": None, "seconds": 1.0, "device": "cpu"},
                **{"peak_memory_mb": 512, "processes": 1, "precision": "tf32", "compiled": False},
                **{"micro_batch_size": 4, "code_changed_at_step": [], "conditions_changed_at_step": []},
            },
            "train": curve,
            "val": csv(step=val, tokens=val, loss=[5.7, 3.0, 2.2], bits_per_byte=[2.71, 1.43, 1.05]),
            "samples": [
                {"step": step, "tokens": 12 * step, "prompt": prompt, "text": f" sample {step} {text}"}
                for step, prompt in product((0, 4, 8), ("Returns", text))
            ],
        },
        "classification": {
            "metrics": {
                **{"accuracy": 0.75, "accuracy_stderr": 0.01, "f1": 0.7, "f1_stderr": 0.02, "n": 20},
                **{"majority_accuracy_stderr": 0.1, "bag_of_words_accuracy_stderr": 0.11},
                **{"majority_accuracy": 0.5, "bag_of_words_accuracy": 0.625, "best_step": 4},
                **{"truncated_train": 3, "truncated_val": 2, "truncated_test": 1},
                **{"trainable_parameters": 5678, "trainable_share": 1.0},
            },
            "train": curve,
            "val": csv(step=val, loss=[0.7, 0.5, 0.4], accuracy=[0.5, 0.6, 0.75]),
            "predictions": predictions,
            "classes": csv(
                label=LABELS,
                n=[20, 0],
                predicted=[10, 10],
                precision=[1.0, 0.0],
                precision_stderr=[0.0, 0.0],
                recall=[0.5, ""],
                recall_stderr=[0.112, ""],
                f1=[2 / 3, 0.0],
            ),
            "confusion": csv(
                actual=[row["label"] for row in predictions], predicted=[row["prediction"] for row in predictions]
            ),
        },
        "instruction": {
            "metrics": {
                **{"val_loss_before": 4.0, "val_loss": 3.0, "rouge_l_before": 0.1, "rouge_l": 0.2},
                **{"test_loss_before": 4.0, "test_loss": 3.0, "test_examples": 40},
                **{"test_bits_per_byte_before": 1.82, "test_bits_per_byte": 1.36},
                **{"val_bits_per_byte_before": 1.84, "val_bits_per_byte": 1.38},
                **{"rouge_l_before_stderr": 0.01, "rouge_l_stderr": 0.02},
                **{"exact_match": 0.0, "n": 15, "best_step": 4, "trainable_parameters": 1234, "trainable_share": 0.025},
                **{"skipped_train": 3, "skipped_val": 2, "skipped_test": 1},
            },
            "train": curve,
            "val": csv(step=val, loss=[4.0, 3.5, 3.0]),
            "responses": [dict.fromkeys(("instruction", "input", "expected", "base", "tuned"), text)] * 15,
        },
        "parity": {
            "metrics": {
                **{"max_abs_logit_diff": 2e-6, "loss_diff": 1e-7, "max_gradient_diff": 3e-6},
                **{"greedy_match": 1.0, "sampled_match": 1.0},
            },
            "cases": csv(
                kind=["logits", "greedy tokens", "sampled tokens", "gradients", "loss"],
                case=["gpt2", "checkpoint", "checkpoint", "checkpoint", "gpt2"],
                quantity=["KV cache", "greedy tokens", "sampled tokens, top-k", "gradients by all parameters", "loss"],
                compared=[9600, 64, 32, 52, 8],
                value=[2e-6, 0.0, 0.0, 3e-6, 1e-7],
                tolerance=[1e-4, 0.0, 0.0, 1e-4, 1e-5],
                passed=[True] * 5,
            ),
            "pipeline": [
                {"goal": "greedy", "left": left, "outcome": outcome, "same": 12, "text": text, "ours": text}
                for left, outcome in (("all", "another text"), (None, "the same text"))
            ],
        },
        "hellaswag": {
            "metrics": {
                **{"acc": 0.3, "acc_stderr": 0.01, "acc_norm": 0.35, "acc_norm_stderr": 0.01, "n": 20, "truncated": 3},
                **{"harness_acc": 0.31, "harness_acc_stderr": 0.02, "harness_acc_norm": 0.36},
                **{"harness_acc_norm_stderr": 0.02, "harness_n": 20, "harness_truncated": 4},
            },
            "snapshots": csv(
                step=val, tokens=val, acc_norm=[0.25, 0.3, 0.35], acc_norm_stderr=[0.01, 0.02, 0.01], n=[10] * 3
            ),
            "predictions": [{"label": i % 4, "prediction": 0, "prediction_norm": i % 2} for i in range(20)],
        },
        "attention": {
            "metrics": {
                **dict.fromkeys(kinds, best),
                **{"mean_entropy": 0.8, "wpe_smoothness_initial": 2.0, "wpe_smoothness": 0.5},
                **{"mean_entropy_initial": 0.99, "wte_norm_initial": 0.23, "wte_norm": 1.5},
            },
            "heads": csv(
                model=("trained", *MODELS),
                layer=[1, 0, 0, 1],
                head=[0] * 4,
                **{key: [0.5, 0.125, 0.25, 0.75] for key in scores},
                **{key: [value, 0.0, "", ""] for key, value in ablation.items()},
            ),
            "snapshots": csv(
                step=[0, 0, 8, 8],
                tokens=[0, 0, 96, 96],
                layer=[0, 1] * 2,
                head=[0] * 4,
                **{key: [0.5, 0.5, 0.25, 0.75] for key in scores},
            ),
            "mapping": [
                {
                    **{"model": model, "prompt": prompt, "layer": layer, "head": 0, "position": position},
                    **{
                        "token": text,
                        "attends_to": [{"position": max(position - 1, 0), "token": token, "weight": 0.5}],
                    },
                }
                for model, prompt, layer, position, token in (
                    *(("trained", 0, 1, position, token) for position, token in enumerate((text, text, "nearest"))),
                    *(("trained", 0, 0, 0, "not shown"), ("trained", 1, 1, 0, "not shown")),
                    ("initial", 0, 1, 0, "not shown"),
                )
            ],
            "neighbors": [{"model": "trained", "token": text, "neighbor": text, "cosine": 0.8}] * 5,
            "norms": [
                {"model": model, "end": end, "token": text, "norm": 0.5}
                for model, end in product(("trained", "openai"), ("smallest", "largest"))
            ],
            "attention": {"models": models},
            "figures": dict.fromkeys((*ATTENTION_FIGURES, *EMBEDDING_FIGURES), "<svg></svg>"),
        },
    }


LOCK = {
    "schema": "2.0",
    "stages": {
        "pretrain": {
            "cmd": "python -m stages.pretrain",
            "params": {"params.yaml": {"seed": 1, "train": {"lr": 0.001, "note": HOSTILE}}},
            "outs": [{"path": "data/models/pretrain", "md5": "d41d8cd98f00b204e9800998ecf8427e.dir"}],
        }
    },
}

LINEAGE = lineage(["pretrain", "evaluate_parity"], LOCK)


class Page(HTMLParser):
    """The elements of a page with their attributes and the text inside each."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, f"{self.elements[self._open[-1]][0]} is not closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.texts.append("")
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data):
        for element in self._open:
            self.texts[element] += data

    def text(self, tag: str, **attributes: str) -> list[str]:
        """The text of each element with this tag and these attributes."""
        return [
            text
            for (name, found), text in zip(self.elements, self.texts, strict=True)
            if name == tag and attributes.items() <= found.items()
        ]


def section_of(data: dict, name: str) -> str:
    return render(data, LINEAGE, {}).split(f'<section id="{name}">')[1].split("</section>")[0]


def verdict_of(data: dict, name: str) -> str:
    (status,) = [row.status for row in verdicts(data) if row.name == name]
    return status


def fineweb_edu() -> dict:
    """The inputs for a model with GPT-2's vocabulary and context on FineWeb-Edu's sample of ten billion tokens."""
    data = inputs()
    sample = {"config": "sample-10BT", "split": "train"}
    corpus = {"source": "hub", "repo": "HuggingFaceFW/fineweb-edu", "commit": "c" * 40}
    corpus |= {"license": "odc-by", "selection": sample}
    data["sets"]["corpus"], data["tokens"]["tokenizer"] = corpus, OPENAI_TOKENIZER
    data["pretrain"]["metrics"]["block_size"] = 1024
    return data
