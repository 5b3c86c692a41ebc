"""Figures of the embeddings: arrays in, SVG out. A figure of several models takes a dict from their names to arrays.

Shapes: T positions, V vocabulary, C channels.
"""

import numpy as np
from matplotlib.figure import Figure

from gpt2.report.theme import BLUE, DIVERGING, INK, MODELS, MUTED, ORANGE, bare, drawn

NOISE = 2.0  # expected smoothness of a column of independent numbers
MAX_POSITIONS = 128  # drawn along the sides of a heat map
COLORS = {"trained": BLUE, "initial": MUTED, "openai": ORANGE}


@drawn
def position_columns(initial: np.ndarray, trained: np.ndarray, channels: list[int]) -> Figure:
    """Up to three channels of wpe (T, C) against position, before and after training, on one scale."""
    figure = Figure(figsize=(7.6, 2.6))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, w, name in zip(panels, (initial, trained), ("initial", "trained"), strict=True):
        for channel, color in zip(channels, (BLUE, ORANGE, MUTED), strict=False):
            axes.plot(w[:, channel], color=color, linewidth=1, label=f"channel {channel}")
        axes.set(title=MODELS[name], xlabel="position")
        axes.margins(x=0.01)
    panels[0].set_ylabel("wpe")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(channels))
    return figure


@drawn
def position_cosines(cosines: dict[str, np.ndarray]) -> Figure:
    """Cosines (T, T) between the positions of each model, of at most MAX_POSITIONS evenly spaced positions."""
    figure = Figure(figsize=(7.6, 0.5 + 6.2 / len(cosines)))
    panels = figure.subplots(1, len(cosines), squeeze=False)[0]
    for axes, (name, values) in zip(panels, cosines.items(), strict=True):
        T = len(values)
        step = -(-T // MAX_POSITIONS)
        extent = (-0.5, T - 0.5, T - 0.5, -0.5)
        image = axes.imshow(
            values[::step, ::step], cmap=DIVERGING, vmin=-1, vmax=1, interpolation="none", extent=extent
        )
        axes.set(title=MODELS[name], xlabel="position" if step == 1 else f"position (1 in {step} shown)")
        bare(axes)
    figure.colorbar(image, ax=list(panels), shrink=0.7, label="cosine", ticks=(-1, 0, 1)).outline.set_visible(False)
    return figure


def position_smoothness(values: dict[str, np.ndarray]) -> str:
    """Histogram of the smoothness (C,) of each model's channels, with a line at that of noise."""
    bins = np.linspace(0, max(2.6, *(smoothness.max() for smoothness in values.values())), 53)
    labels = {"xlabel": "smoothness of a channel (dashed: noise)", "ylabel": "share of channels"}
    return _histogram(values, bins, labels, line=NOISE)


def token_norms(values: dict[str, np.ndarray]) -> str:
    """Histogram of the norms (V,) of each model's token embeddings."""
    bins = np.linspace(0, 1.02 * max(norms.max() for norms in values.values()), 81)
    return _histogram(values, bins, {"xlabel": "norm of a token's embedding", "ylabel": "share of tokens"})


@drawn
def _histogram(
    values: dict[str, np.ndarray], bins: np.ndarray, labels: dict[str, str], line: float | None = None
) -> Figure:
    """The numbers (N,) of each model, each bar a share of the N."""
    figure = Figure(figsize=(7.6, 2.3))
    axes = figure.subplots()
    for name, numbers in values.items():
        shares = np.full(len(numbers), 1 / len(numbers))
        axes.hist(numbers, bins, weights=shares, color=COLORS[name], alpha=0.7, label=MODELS[name])
    if line:
        axes.axvline(line, color=INK, linewidth=1, linestyle="--")
    axes.set(**labels)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
    return figure
