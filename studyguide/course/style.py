"""The first call of every notebook: the same start for every reader."""

import os
import random
import sys

import matplotlib.pyplot as plt
import numpy as np
import torch

# Okabe and Ito's palette, told apart by all common kinds of colour vision.
# https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, GRAY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5F6368",
)  # fmt: skip

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRAY,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": "#202124",
    "axes.labelsize": 11,
    "axes.prop_cycle": plt.cycler(color=[BLUE, VERMILION, GREEN, ORANGE, PINK, SKY, GRAY]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "figure.figsize": (7.2, 3.8),
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "grid.color": "#E3E5E8",
    "lines.linewidth": 2,
    "savefig.facecolor": "white",
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": "#202124",
    "ytick.labelcolor": "#202124",
}


def begin(seed=0):
    """Set every global seed, one thread and the plot style, so that your numbers are the committed ones.

    Libraries are told to be quiet: no telemetry, no progress bars of data sets, no advice by transformers, unless your
    environment says otherwise.
    """
    for switch in ("HF_HUB_DISABLE_TELEMETRY", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(switch, "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    if os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error") == "error" and "transformers" in sys.modules:
        sys.modules["transformers"].logging.set_verbosity_error()  # it has read the environment already
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    plt.rcParams.update(STYLE)
