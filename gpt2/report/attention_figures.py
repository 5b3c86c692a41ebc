"""The figures of attention: arrays in, SVG out. Arrays of several models come by the models' names.

Shapes: L layers, H heads, T time (tokens).
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpt2.report.text import shortened
from gpt2.report.theme import BLUE, HEAT, INK, MODELS, ORANGE, bare, styled, to_svg

LONGEST = 48  # tokens along the sides of a heat map; of a longer text the beginning is shown
LONGEST_TOKEN = 16  # characters of a label; OpenAI's vocabulary has a token of 64 hyphens
MOST_COLUMNS = 24  # heads in whose cells numbers fit
NAMES = {  # of the scores
    "previous_token": "previous token",
    "first_token": "first token",
    "duplicate_token": "duplicate token",
    "induction": "induction",
    "entropy": "entropy",
}


def grid(weights: np.ndarray) -> str:
    """Attention (L, H, T, T) of all heads to one text, a panel a head: one image, so that any number of heads is
    quickly drawn. Colour goes with the square root, which shows what is faint."""
    n_layer, n_head, T, _ = weights.shape
    gap = 1 + T // 12  # cells between panels
    side = T + gap
    panels = np.pad(np.sqrt(_causal(weights)), ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    mosaic = panels.transpose(0, 2, 1, 3).reshape(n_layer * side, n_head * side)
    width = 6.4
    with styled():
        figure = Figure(figsize=(width, 0.5 + width * n_layer / n_head))
        axes = figure.subplots()
        axes.imshow(mosaic, cmap=HEAT, vmin=0, vmax=1, interpolation="none")
        axes.set_xticks(np.arange(n_head) * side + T / 2, range(n_head))
        axes.set_yticks(np.arange(n_layer) * side + T / 2, range(n_layer))
        axes.set(xlabel="head", ylabel="layer")
        bare(axes)
        return to_svg(figure)


def strongest(weights: np.ndarray, tokens: list[str], heads: dict[str, tuple[int, int]]) -> str:
    """Attention (L, H, T, T) to one text of the heads named by layer and head, tokens along both sides."""
    tokens, weights = tokens[:LONGEST], weights[..., :LONGEST, :LONGEST]
    side = 1.1 + 0.14 * len(tokens)  # inches
    with styled():
        figure = Figure(figsize=(2 * side, 2 * side))
        panels = figure.subplots(2, 2).flat
        for axes, (name, (layer, head)) in zip(panels, heads.items(), strict=True):
            _token_map(axes, weights[layer, head], tokens)
            axes.set_title(f"{NAMES[name]}: layer {layer}, head {head}")
        return to_svg(figure)


def scores(values: dict[str, np.ndarray]) -> str:
    """Each score (L, H) of every head as a small heat map."""
    n_layer, n_head = values["entropy"].shape
    with styled():
        figure = Figure(figsize=(7.6, 0.9 + 1.5 * n_layer / n_head))
        panels = figure.subplots(1, len(NAMES), sharey=True)
        panels[0].set_ylabel("layer")
        for axes, (name, title) in zip(panels, NAMES.items(), strict=True):
            axes.imshow(values[name], cmap=HEAT, vmin=0, vmax=1, interpolation="none")
            if n_head <= 6:  # beyond that numbers would not fit
                for (layer, head), value in np.ndenumerate(values[name]):
                    axes.text(head, layer, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=6.5)
            axes.set_title(title)
            axes.set(xlabel="head")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(integer=True))
            bare(axes)
        return to_svg(figure)


def entropy(values: dict[str, np.ndarray]) -> str:
    """Normalized entropy (L, H) of each model by layer: a point a head, a line for the mean."""
    with styled():
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
        return to_svg(figure)


def rollout(weights: np.ndarray, tokens: list[str]) -> str:
    """Attention rollout (T, T), tokens along both sides. Colour goes with the square root, as in `grid`."""
    tokens, weights = tokens[:LONGEST], weights[:LONGEST, :LONGEST]
    side = 1.1 + 0.14 * len(tokens)  # inches
    with styled():
        figure = Figure(figsize=(side, side))
        _token_map(figure.subplots(), np.sqrt(weights), tokens)
        return to_svg(figure)


def mapping(weights: np.ndarray, tokens: list[str]) -> str:
    """Whom each token (a row) attends to most, in each head (a column) of attention (L, H, T, T): in the cell the
    position, its colour how much."""
    n_layer, n_head = weights.shape[:2]
    tokens, weights = tokens[:LONGEST], weights[..., :LONGEST, :LONGEST]
    columns = n_layer * n_head
    share = weights.max(-1).reshape(columns, -1).T  # (T, L H)
    numbered = columns <= MOST_COLUMNS
    with styled():
        figure = Figure(figsize=(1.4 + (0.32 if numbered else 6 / columns) * columns, 0.7 + 0.19 * len(tokens)))
        axes = figure.subplots()
        axes.imshow(share, cmap=HEAT, vmin=0, vmax=1, interpolation="none", aspect="auto")
        if numbered:
            for (position, column), most in np.ndenumerate(weights.argmax(-1).reshape(columns, -1).T):
                axes.text(column, position, str(most), ha="center", va="center", fontsize=6.5)
        for layer in range(1, n_layer):
            axes.axvline(layer * n_head - 0.5, color=INK, linewidth=0.6)
        # The mark keeps the number at the right of a token that is written from right to left.
        labels = [f"{label}\u200e  {i}" for i, label in enumerate(_labels(tokens))]
        axes.set_yticks(range(len(tokens)), labels, fontsize=7)
        axes.set_xticks(
            np.arange(n_layer) * n_head + (n_head - 1) / 2, [f"layer {i}" if numbered else i for i in range(n_layer)]
        )
        axes.set_xlabel(f"heads 0 to {n_head - 1} of each layer")
        bare(axes)
        return to_svg(figure)


def _token_map(axes: Axes, values: np.ndarray, tokens: list[str]) -> None:
    """A causal heat map (T, T) with tokens along both sides."""
    axes.imshow(_causal(values), cmap=HEAT, vmin=0, vmax=1, interpolation="none")
    axes.set_xticks(range(len(tokens)), _labels(tokens), rotation=90, fontsize=7)
    axes.set_yticks(range(len(tokens)), _labels(tokens), fontsize=7)
    bare(axes)


def _labels(tokens: list[str]) -> list[str]:
    return [shortened(token, LONGEST_TOKEN) for token in tokens]


def _causal(weights: np.ndarray) -> np.ndarray:
    """Attention (..., T, T) with no value where no position may look, so that it is not drawn as zero."""
    return np.where(np.tri(weights.shape[-1], dtype=bool), weights, np.nan)
