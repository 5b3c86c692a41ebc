"""Figures of attention: arrays in, SVG out. A figure of several models takes a dict from the models' names to arrays.

Shapes: L layers, H heads, T time (tokens).
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpt2.report.text import shortened
from gpt2.report.theme import BLUE, HEAT, INK, MODELS, ORANGE, bare, drawn

MAX_TOKENS = 48  # shown along the sides of a heat map
MAX_LABEL = 16  # characters of a token; OpenAI's vocabulary has a token of 64 hyphens
MAX_NUMBERED_HEADS = 24  # with more heads, numbers do not fit in the cells of `mapping`
SCORES = ("previous_token", "first_token", "duplicate_token", "induction", "entropy")


@drawn
def grid(weights: np.ndarray) -> Figure:
    """Attention (L, H, T, T) of all heads on one text, one panel per head.

    All panels are one image, so that drawing stays fast for any number of heads. Color shows the square root of the
    weight, which makes small weights visible.
    """
    n_layer, n_head, T, _ = weights.shape
    gap = 1 + T // 12  # cells between panels
    side = T + gap
    panels = np.pad(np.sqrt(_causal(weights)), ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    mosaic = panels.transpose(0, 2, 1, 3).reshape(n_layer * side, n_head * side)
    width = 6.4
    figure = Figure(figsize=(width, 0.5 + width * n_layer / n_head))
    axes = figure.subplots()
    _heat_map(axes, mosaic)
    axes.set_xticks(np.arange(n_head) * side + T / 2, range(n_head))
    axes.set_yticks(np.arange(n_layer) * side + T / 2, range(n_layer))
    axes.set(xlabel="head", ylabel="layer")
    return figure


@drawn
def strongest(weights: np.ndarray, tokens: list[str], heads: dict[str, tuple[int, int]]) -> Figure:
    """Attention (L, H, T, T) on one text of four heads, given as (layer, head) by kind; tokens along both sides."""
    side = 1.1 + 0.14 * len(tokens[:MAX_TOKENS])  # inches
    figure = Figure(figsize=(2 * side, 2 * side))
    panels = figure.subplots(2, 2).flat
    for axes, (kind, (layer, head)) in zip(panels, heads.items(), strict=True):
        _token_map(axes, weights[layer, head], tokens)
        axes.set_title(f"{kind.replace('_', ' ')}: layer {layer}, head {head}")
    return figure


@drawn
def scores(values: dict[str, np.ndarray]) -> Figure:
    """Each score (L, H) as a small heat map over all heads."""
    n_layer, n_head = values["entropy"].shape
    figure = Figure(figsize=(7.6, 0.9 + 1.5 * n_layer / n_head))
    panels = figure.subplots(1, len(SCORES), sharey=True)
    panels[0].set_ylabel("layer")
    for axes, name in zip(panels, SCORES, strict=True):
        _heat_map(axes, values[name])
        if n_head <= 6:  # with more heads, numbers do not fit
            for (layer, head), value in np.ndenumerate(values[name]):
                axes.text(head, layer, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=6.5)
        axes.set(title=name.replace("_", " "), xlabel="head")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@drawn
def entropy(values: dict[str, np.ndarray]) -> Figure:
    """Normalized entropy (L, H) of each model by layer: one point per head, and a line through the means."""
    figure = Figure(figsize=(7.6, 2.6))
    panels = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for axes, (name, heads) in zip(panels, values.items(), strict=True):
        layers = np.arange(len(heads))
        axes.plot(np.repeat(layers, heads.shape[1]), heads.ravel(), "o", color=BLUE, alpha=0.5, label="one head")
        axes.plot(layers, heads.mean(axis=1), color=ORANGE, label="mean of the layer")
        axes.set(title=MODELS[name], xlabel="layer", ylim=(0, 1.03))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("normalized entropy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


@drawn
def rollout(weights: np.ndarray, tokens: list[str]) -> Figure:
    """Attention rollout (T, T), tokens along both sides. Color shows the square root, as in `grid`."""
    side = 1.1 + 0.14 * len(tokens[:MAX_TOKENS])  # inches
    figure = Figure(figsize=(side, side))
    _token_map(figure.subplots(), np.sqrt(weights), tokens)
    return figure


@drawn
def mapping(weights: np.ndarray, tokens: list[str]) -> Figure:
    """The position that each token (a row) attends to most, in each head (a column) of attention (L, H, T, T).

    The cell holds the position; its color shows the weight.
    """
    n_layer, n_head = weights.shape[:2]
    tokens, weights = tokens[:MAX_TOKENS], weights[..., :MAX_TOKENS, :MAX_TOKENS]
    columns = n_layer * n_head
    numbered = columns <= MAX_NUMBERED_HEADS
    figure = Figure(figsize=(1.4 + (0.32 if numbered else 6 / columns) * columns, 0.7 + 0.19 * len(tokens)))
    axes = figure.subplots()
    _heat_map(axes, weights.max(-1).reshape(columns, -1).T, aspect="auto")  # (T, L H)
    if numbered:
        for (position, column), target in np.ndenumerate(weights.argmax(-1).reshape(columns, -1).T):
            axes.text(column, position, str(target), ha="center", va="center", fontsize=6.5)
    for layer in range(1, n_layer):
        axes.axvline(layer * n_head - 0.5, color=INK, linewidth=0.6)
    # The left-to-right mark keeps the number to the right of a token in a right-to-left script.
    labels = [f"{label}\u200e  {i}" for i, label in enumerate(_labels(tokens))]
    axes.set_yticks(range(len(tokens)), labels, fontsize=7)
    names = [f"layer {i}" if numbered else i for i in range(n_layer)]
    axes.set_xticks(np.arange(n_layer) * n_head + (n_head - 1) / 2, names)
    axes.set_xlabel(f"heads 0 to {n_head - 1} of each layer")
    return figure


def _heat_map(axes: Axes, values: np.ndarray, aspect: str = "equal") -> None:
    """Numbers from 0 to 1 as colors; nan stays empty."""
    axes.imshow(values, cmap=HEAT, vmin=0, vmax=1, interpolation="none", aspect=aspect)
    bare(axes)


def _token_map(axes: Axes, weights: np.ndarray, tokens: list[str]) -> None:
    """The first rows and columns of attention (T, T) with tokens along both sides."""
    labels = _labels(tokens[:MAX_TOKENS])
    _heat_map(axes, _causal(weights[:MAX_TOKENS, :MAX_TOKENS]))
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)


def _labels(tokens: list[str]) -> list[str]:
    return [shortened(token, MAX_LABEL) for token in tokens]


def _causal(weights: np.ndarray) -> np.ndarray:
    """Attention (..., T, T) with nan at later positions, so that a masked cell is not drawn as a zero."""
    return np.where(np.tri(weights.shape[-1], dtype=bool), weights, np.nan)
