"""The figures of attention and of the position embedding: arrays in, SVG out.

Shapes: L layers, H heads, T time (tokens) or positions, C channels.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpt2.report.theme import BLUE, HEAT, INK, MUTED, ORANGE, bare, styled, to_svg

LONGEST = 48  # tokens along the sides of a heat map; of a longer text the beginning is shown
NOISE = 2.0  # smoothness of a column of independent numbers
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
            axes.imshow(_causal(weights[layer, head]), cmap=HEAT, vmin=0, vmax=1, interpolation="none")
            axes.set_title(f"{NAMES[name]}: layer {layer}, head {head}")
            axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7)
            axes.set_yticks(range(len(tokens)), tokens, fontsize=7)
            bare(axes)
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


def entropy(values: np.ndarray) -> str:
    """Normalized entropy (L, H) by layer: a point a head, a line for the mean."""
    layers = np.arange(len(values))
    with styled():
        figure = Figure(figsize=(7.6, 2.6))
        axes = figure.subplots()
        axes.plot(np.repeat(layers, values.shape[1]), values.ravel(), "o", color=BLUE, alpha=0.6, label="one head")
        axes.plot(layers, values.mean(axis=1), color=ORANGE, label="mean of the layer")
        axes.set(xlabel="layer", ylabel="normalized entropy", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_above(axes)
        return to_svg(figure)


def position_columns(initial: np.ndarray, trained: np.ndarray, channels: list[int]) -> str:
    """Some channels of wpe (T, C) against position, before and after training, on one scale."""
    with styled():
        figure = Figure(figsize=(7.6, 2.6))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, w, title in zip(panels, (initial, trained), ("initial", "trained"), strict=True):
            for channel, color in zip(channels, (BLUE, ORANGE, MUTED), strict=True):
                axes.plot(w[:, channel], color=color, linewidth=1, label=f"channel {channel}")
            axes.set(title=title, xlabel="position")
            axes.margins(x=0.01)
        panels[0].set_ylabel("wpe")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(channels))
        return to_svg(figure)


def position_smoothness(initial: np.ndarray, trained: np.ndarray) -> str:
    """How the channels' smoothness (C,) is spread before and after training."""
    bins = np.linspace(0, max(2.6, initial.max(), trained.max()), 53)
    with styled():
        figure = Figure(figsize=(7.6, 2.3))
        axes = figure.subplots()
        for values, color, label in ((initial, MUTED, "initial"), (trained, BLUE, "trained")):
            axes.hist(values, bins, color=color, alpha=0.7, label=label)
        axes.axvline(NOISE, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlabel="smoothness of a channel (dashed: noise)", ylabel="channels")
        _legend_above(axes)
        return to_svg(figure)


def _causal(weights: np.ndarray) -> np.ndarray:
    """Attention (..., T, T) with no value where no position may look, so that it is not drawn as zero."""
    return np.where(np.tri(weights.shape[-1], dtype=bool), weights, np.nan)


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
