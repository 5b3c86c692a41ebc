"""Instructions with their responses as samples, and the loss of the responses.

Shapes: B batch, T time, S scored positions of a batch, C channels.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gpt2.common.errors import InputError
from gpt2.instruction.alpaca import exchanges
from gpt2.model.gpt import GPT
from gpt2.model.loss import IGNORE, linear_cross_entropy
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.training.loss import mean_loss


def encode(row: dict, tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
    """Per answer of a row: the ids of the text before it, and its own ids with those of <|endoftext|>."""
    return [(tokenizer.encode(before), [*tokenizer.encode(answer), tokenizer.eot]) for before, answer in exchanges(row)]


class Responses:
    """Instructions with their responses as samples; only the response and the `<|endoftext|>` after it are scored."""

    def __init__(
        self,
        rows: list[dict],
        tokenizer: Tokenizer,
        block_size: int,
        where: str,
        answers: Literal["last", "all"] = "last",
    ):
        """`answers`: which of a conversation are scored.

        Leaves out examples longer than the context, and counts them in `skipped`. Raises InputError if none is left,
        naming `where`."""
        self.pad, self.skipped = tokenizer.eot, 0
        self.samples: list[tuple[list[int], list[int]]] = []  # token ids, and the same with IGNORE where not scored
        self.rows = []
        self.bytes = 0  # of the scored responses
        for row in rows:
            ids, targets = [], []
            pairs = encode(row, tokenizer)
            for number, (before, answer) in enumerate(pairs, start=1):
                scored = answers == "all" or number == len(pairs)
                ids += before + answer
                targets += [IGNORE] * len(before) + (answer if scored else [IGNORE] * len(answer))
            if len(ids) > block_size + 1:
                self.skipped += 1
                continue
            self.samples.append((ids, targets))
            self.rows.append(row)
            self.bytes += int(tokenizer.byte_lengths[[id for id in targets if id != IGNORE]].sum())
        if not self.samples:
            raise InputError(f"{where}: contains no example that fits the model's context of {block_size} tokens")
        self.lengths = np.array([len(ids) for ids, _ in self.samples])
        self.scored = np.array([len(targets) - targets.count(IGNORE) for _, targets in self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T), padded on the right. What is not scored, and padding, has the target IGNORE."""
        samples = [self.samples[i] for i in ids]
        return (
            pad_sequence(
                [torch.tensor(tokens[:-1]) for tokens, _ in samples], batch_first=True, padding_value=self.pad
            ),
            pad_sequence([torch.tensor(targets[1:]) for _, targets in samples], batch_first=True, padding_value=IGNORE),
        )

    def targets(self, ids: np.ndarray) -> int:
        """The scored tokens, including the end of each response."""
        return int(self.scored[ids].sum())


class ResponseModel(nn.Module):
    """GPT with the same loss, but with logits only at the scored positions: most of a batch is prompt."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Maps token ids and targets (B, T) to the summed cross-entropy in nats."""
        targets = targets.flatten()
        scored = (targets != IGNORE).nonzero().squeeze(1)  # (S,); forces a GPU-host sync
        hidden = self.model.hidden(idx).flatten(0, 1).index_select(0, scored)  # (S, C)
        return linear_cross_entropy(hidden, self.model.wte.weight, targets[scored])


@torch.no_grad()  # not inference_mode: see autocast
def losses(model: ResponseModel, data: Responses, batch_size: int, world: World) -> dict[str, float]:
    """Mean loss of the responses in nats per token, and the same in bits per byte of their text."""
    loss = mean_loss(model, data, batch_size, world)
    nats = loss * data.targets(np.arange(len(data)))
    return {"loss": loss, "bits_per_byte": nats / math.log(2) / data.bytes}
