"""The mean loss over a data set."""

import math

import numpy as np
from torch import nn

from gpt2.runtime.device import move
from gpt2.runtime.world import World
from gpt2.training.batches import Dataset, by_length


def mean_loss(model: nn.Module, data: Dataset, batch_size: int, world: World) -> float:
    """Mean loss in nats per target over `data`, summed in float64; the processes share the work."""
    order = np.arange(len(data))
    if data.lengths is not None:
        order = by_length(order, data.lengths)
    losses, n_targets = [], 0  # the losses stay on the device, so that it does not wait for the host
    for first in range(world.rank * batch_size, len(data), world.size * batch_size):
        ids = order[first : first + batch_size]
        inputs, targets = data.batch(ids)
        losses.append(model(move(inputs, world.device), move(targets, world.device)))
        n_targets += data.targets(ids)
    total, n_targets = world.sum([math.fsum(loss.item() for loss in losses), float(n_targets)])
    return total / n_targets
