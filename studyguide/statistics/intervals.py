"""How far an estimate can be trusted: intervals for means, proportions and their differences, and effect sizes."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Interval:
    """An estimate between two limits."""

    estimate: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    confidence: float  # the share of such intervals, over many repetitions, that contain the truth
