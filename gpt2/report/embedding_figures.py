"""The figures of the embeddings: arrays in, SVG out. Arrays of several models come by the models' names.

Shapes: T positions, V vocabulary, C channels.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpt2.report.theme import BLUE, DIVERGING, INK, MODELS, MUTED, ORANGE, bare, styled, to_svg

NOISE = 2.0  # smoothness of a column of independent numbers
MOST_POSITIONS = 128  # along the sides of a heat map; of a longer context every so many-th
COLORS = {"trained": BLUE, "initial": MUTED, "openai": ORANGE}


def position_columns(initial: np.ndarray, trained: np.ndarray, channels: list[int]) -> str:
    """Some channels of wpe (T, C) against position, before and after training, on one scale."""
    with styled():
        figure = Figure(figsize=(7.6, 2.6))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, w, title in zip(panels, (initial, trained), ("initial", "trained"), strict=True):
            for channel, color in zip(channels, (BLUE, ORANGE, MUTED), strict=True):
                axes.plot(w[:, channel], color=color, linewidth=1, label=f"channel {channel}")
            axes.set(title=MODELS[title], xlabel="position")
            axes.margins(x=0.01)
        panels[0].set_ylabel("wpe")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(channels))
        return to_svg(figure)


def position_cosines(cosines: dict[str, np.ndarray]) -> str:
    """How alike positions are: cosines (T, T) of each model. Of a long context every so many-th position is drawn."""
    with styled():
        figure = Figure(figsize=(7.6, 0.5 + 6.2 / len(cosines)))
        panels = figure.subplots(1, len(cosines), squeeze=False)[0]
        for axes, (name, values) in zip(panels, cosines.items(), strict=True):
            T = len(values)
            every = -(-T // MOST_POSITIONS)
            drawn = axes.imshow(
                values[::every, ::every],
                cmap=DIVERGING,
                vmin=-1,
                vmax=1,
                interpolation="none",
                extent=(-0.5, T - 0.5, T - 0.5, -0.5),
            )
            axes.set(title=MODELS[name], xlabel="position" if every == 1 else f"position, one in {every}")
            bare(axes)
        figure.colorbar(drawn, ax=list(panels), shrink=0.7, label="cosine", ticks=(-1, 0, 1)).outline.set_visible(False)
        return to_svg(figure)


def position_smoothness(values: dict[str, np.ndarray]) -> str:
    """How the channels' smoothness (C,) is spread in each model, in shares of its channels."""
    bins = np.linspace(0, max(2.6, *(each.max() for each in values.values())), 53)
    with styled():
        figure = Figure(figsize=(7.6, 2.3))
        axes = figure.subplots()
        _histograms(axes, values, bins)
        axes.axvline(NOISE, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlabel="smoothness of a channel (dashed: noise)", ylabel="share of channels")
        return to_svg(figure)


def token_norms(values: dict[str, np.ndarray]) -> str:
    """How the norms of the token embedding (V,) are spread in each model, in shares of its vocabulary."""
    bins = np.linspace(0, 1.02 * max(each.max() for each in values.values()), 81)
    with styled():
        figure = Figure(figsize=(7.6, 2.3))
        axes = figure.subplots()
        _histograms(axes, values, bins)
        axes.set(xlabel="norm of a token's embedding", ylabel="share of tokens")
        return to_svg(figure)


def _histograms(axes: Axes, values: dict[str, np.ndarray], bins: np.ndarray) -> None:
    """The spread of each model's numbers (N,), in shares, on one scale."""
    for name, each in values.items():
        shares = np.full(len(each), 1 / len(each))
        axes.hist(each, bins, weights=shares, color=COLORS[name], alpha=0.7, label=MODELS[name])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
