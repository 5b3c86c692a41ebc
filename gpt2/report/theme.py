"""One look for every figure: SVG whose bytes depend only on what is drawn.

Figures have no background of their own and are drawn for a light one; the page puts a light one behind them.
"""

import io
import warnings
from collections.abc import Callable
from functools import wraps

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gpt2.report.text import printable

INK, MUTED, FAINT = "#23272e", "#68707c", "#d9dde3"
BLUE, ORANGE, GREEN = "#2563b8", "#c2570c", "#2e7d4f"
HEAT = LinearSegmentedColormap.from_list("heat", ["#3b7dd808", "#3b7dd8ff"]).with_extremes(bad="#00000000")
DIVERGING = LinearSegmentedColormap.from_list("diverging", ["#d9722e", "#ffffff", "#3b7dd8"])
MODELS = {"trained": "this run", "initial": "random initialization", "openai": "OpenAI's weights"}  # titles by name

RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],  # the first measures the text, and is wider than most
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text: small, sharp, and in any script
    "svg.hashsalt": "gpt2",
    "text.color": INK,
    "text.parse_math": False,  # a token may be a dollar sign
    "xtick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.color": FAINT,
    "ytick.labelcolor": MUTED,
}


def drawn(draw: Callable[..., Figure]) -> Callable[..., str]:
    """Decorates a function that draws a figure: it draws in the style above and returns the figure as SVG."""

    @wraps(draw)
    def svg(*args, **options) -> str:
        with matplotlib.rc_context(RC), warnings.catch_warnings():
            # A character that the measuring font lacks does no harm, because the reader's own fonts draw the text.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            buffer = io.StringIO()
            draw(*args, **options).savefig(
                buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        return printable(buffer.getvalue())

    return svg


def bare(axes: Axes) -> None:
    """Removes what a heat map does not need: grid, spines and tick marks."""
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def name_line(axes: Axes, y: float, text: str, color: str = MUTED, side: str = "right") -> None:
    """Draws a dashed horizontal line at y, with its name above its right or left end."""
    axes.axhline(y, color=color, linewidth=1, linestyle="--")
    axes.annotate(
        text,
        (1 if side == "right" else 0, y),
        xycoords=("axes fraction", "data"),
        xytext=(0 if side == "right" else 4, 3),
        textcoords="offset points",
        color=color,
        ha=side,
    )
