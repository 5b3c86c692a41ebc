"""Figures of training and evaluation: rows and numbers in, SVG out."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from gpt2.report.attention_figures import SCORES
from gpt2.report.text import shortened
from gpt2.report.theme import BLUE, GREEN, HEAT, INK, MUTED, ORANGE, bare, drawn, name_line
from gpt2.report.verdicts import CHANCE

MAX_LABEL = 24  # characters along an axis
MIN_AXIS = 0.25  # the least end of an axis of scores, so that noise does not look like a head that forms
MAX_POINTS = 400  # per curve: more points make the file larger and show nothing more


def column(rows: list[dict], name: str) -> np.ndarray:
    """One column of csv rows as float64, shape (rows,)."""
    return np.array([float(row[name]) for row in rows])


def thinned(values: np.ndarray) -> np.ndarray:
    """Means of groups of neighbors, at most MAX_POINTS of them; the last group may be smaller."""
    group = math.ceil(len(values) / MAX_POINTS)
    starts = np.arange(0, len(values), group)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


@drawn
def loss_curve(
    train: list[dict],
    val: list[dict],
    vocab_size: int,
    unigram_entropy: float,
    reference: tuple[str, float] | None,
) -> Figure:
    """Training and validation loss in nats per token against tokens seen.

    Dashed lines mark ln V, the entropy of the token frequencies and, if `reference` is (corpus, loss), what OpenAI's
    124M reaches on that corpus.
    """
    uniform = math.log(vocab_size)
    figure = Figure(figsize=(7.6, 3.6))
    axes = figure.subplots()
    _losses(axes, train, val, "tokens")
    name_line(axes, uniform, f"ln V = {uniform:.3f}: every token equally likely")
    name_line(axes, unigram_entropy, f"{unigram_entropy:.3f}: token frequencies alone")
    if reference:
        corpus, loss = reference
        name_line(axes, loss, f"{loss:.3f}: OpenAI's 124M on {corpus}", GREEN, side="left")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set(xlabel="tokens seen", ylabel="loss, nats per token")
    axes.set_ylim(top=uniform * 1.08)
    return figure


@drawn
def finetuning_curve(train: list[dict], val: list[dict], unit: str) -> Figure:
    """Training and validation loss in nats per `unit` against steps; a classifier's validation accuracy beside it."""
    scored = "accuracy" in val[0]
    figure = Figure(figsize=(7.6, 2.7))
    panels = np.atleast_1d(figure.subplots(1, 2 if scored else 1))
    _losses(panels[0], train, val, "step")
    panels[0].set(xlabel="step", ylabel=f"loss, nats per {unit}")
    if scored:
        panels[1].plot(column(val, "step"), column(val, "accuracy"), color=ORANGE, marker="o", markersize=4)
        panels[1].set(xlabel="step", ylabel="validation accuracy", ylim=(0, 1))
    return figure


def _losses(axes: Axes, train: list[dict], val: list[dict], x: str) -> None:
    if train:
        steps, losses = thinned(column(train, x)), thinned(column(train, "loss"))
        axes.plot(steps, losses, color=BLUE, linewidth=1.1, label="training")
    axes.plot(column(val, x), column(val, "loss"), color=ORANGE, marker="o", markersize=4, label="validation")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    axes.margins(x=0.01)


@drawn
def schedule(train: list[dict]) -> Figure:
    """Learning rate, and norm of the gradient before clipping, against steps."""
    figure = Figure(figsize=(7.6, 2.0))
    panels = zip(figure.subplots(1, 2), ("lr", "grad_norm"), ("learning rate", "gradient norm"), strict=True)
    for axes, name, title in panels:
        axes.plot(thinned(column(train, "step")), thinned(column(train, name)), color=BLUE, linewidth=1.1)
        axes.set(xlabel="step", title=title)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
    return figure


@drawn
def lengths(splits: dict[str, dict]) -> Figure:
    """Share of each split's documents by length in tokens; bin i holds lengths from 2^i to 2^(i+1) - 1."""
    figure = Figure(figsize=(7.6, 2.4))
    axes = figure.subplots()
    for (name, split), color in zip(splits.items(), (BLUE, ORANGE, MUTED), strict=False):
        shares = np.array(split["lengths"]) / split["documents"]
        axes.stairs(shares, 2.0 ** np.arange(len(shares) + 1), color=color, linewidth=1.6, label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="tokens per document", ylabel="share of documents")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")
    return figure


@drawn
def completion(metrics: dict) -> Figure:
    """Accuracy by each protocol and rule, with two standard errors on each side, and a line at chance."""
    rules = {
        "harness_acc_norm": "harness, mean per character",
        "harness_acc": "harness, sum",
        "acc_norm": "completion, mean per token",
        "acc": "completion, sum",
    }
    figure = Figure(figsize=(7.6, 2.2))
    axes = figure.subplots()
    for y, name in enumerate(rules):
        error = 2 * metrics[f"{name}_stderr"]
        axes.errorbar(metrics[name], y, xerr=error, fmt="o", color=BLUE, capsize=4, markersize=6)
    axes.axvline(CHANCE, color=MUTED, linewidth=1, linestyle="--")
    axes.annotate("chance", (CHANCE, 3.5), xytext=(4, 0), textcoords="offset points", color=MUTED, va="center")
    highest = max(metrics[name] + 3 * metrics[f"{name}_stderr"] for name in rules)
    axes.set(xlim=(0, min(1, max(0.5, highest))), ylim=(-0.6, 3.8), xlabel="accuracy ± 2 standard errors")
    axes.set_yticks(range(len(rules)), rules.values())
    axes.grid(False, axis="y")
    return figure


@drawn
def completion_curve(rows: list[dict], reference: float | None) -> Figure:
    """acc_norm of the models of a run against tokens seen, with two standard errors on each side, and lines at chance
    and at `reference`."""
    figure = Figure(figsize=(7.6, 2.4))
    axes = figure.subplots()
    errors = 2 * column(rows, "acc_norm_stderr")
    style = {"color": ORANGE, "marker": "o", "markersize": 4, "capsize": 3, "elinewidth": 1}
    axes.errorbar(column(rows, "tokens"), column(rows, "acc_norm"), errors, **style)
    name_line(axes, CHANCE, "chance")
    if reference:
        name_line(axes, reference, f"{reference:.4f}: OpenAI's 124M", GREEN, side="left")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set(xlabel="tokens seen", ylabel="acc_norm")
    axes.margins(x=0.02, y=0.1)
    return figure


@drawn
def heads_over_training(rows: list[dict], val: list[dict], uniform: dict[str, float]) -> Figure:
    """How heads form: the validation loss and each score of the heads against tokens seen, on one logarithmic axis that
    starts at 0.

    `rows` has one row per model and head. Each head has a thin line, and a thick one marks the head with the highest
    final score or the lowest final entropy. The dashed line is the score of equal attention, `uniform` by score.
    """
    models = len({row["step"] for row in rows})
    tokens = column(rows, "tokens").reshape(models, -1)[:, 0]  # (models,)
    final = rows[-len(rows) // models :]  # (L H,)
    figure = Figure(figsize=(7.6, 4.4))
    first, *panels = figure.subplots(2, 3, sharex=True).flat
    first.plot(column(val, "tokens"), column(val, "loss"), "o-", color=GREEN, markersize=3)
    first.set_title("validation loss\nnats per token")
    start = tokens[tokens > 0].min()  # the axis is linear up to here
    first.set_xscale("symlog", linthresh=start, linscale=0.5)
    first.set_xticks([0, *10.0 ** np.arange(math.ceil(math.log10(start)), math.floor(math.log10(tokens[-1])) + 1)])
    first.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes, name in zip(panels, SCORES, strict=True):
        heads = column(rows, name).reshape(models, -1)  # (models, L H)
        most = heads[-1].argmin() if name == "entropy" else heads[-1].argmax()
        axes.plot(tokens, heads, color=BLUE, alpha=0.35, linewidth=0.8)
        axes.plot(tokens, heads[:, most], color=ORANGE)
        axes.axhline(uniform[name], color=MUTED, linewidth=1, linestyle="--")
        axes.set_title(f"{name.replace('_', ' ')}\nlayer {final[most]['layer']}, head {final[most]['head']}")
        axes.set_ylim(0, max(MIN_AXIS, 1.05 * heads.max()))
    figure.supxlabel("tokens seen", color=MUTED, fontsize=9)
    return figure


@drawn
def confusion(counts: np.ndarray, labels: list[str]) -> Figure:
    """Confusion matrix (K, K) of counts, rows actual, columns predicted; color shows each cell's share of its row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.4 + 0.42 * len(labels)
    figure = Figure(figsize=(side + 0.6, side))
    axes = figure.subplots()
    axes.imshow(shares, cmap=HEAT, vmin=0, vmax=1, interpolation="none")
    if len(labels) <= 20:  # with more labels, numbers do not fit
        for (actual, predicted), count in np.ndenumerate(counts):
            color = INK if count else MUTED
            axes.text(predicted, actual, str(count), ha="center", va="center", color=color, fontsize=8)
    names = [shortened(label, MAX_LABEL) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="actual")
    bare(axes)
    return figure
