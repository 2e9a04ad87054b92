"""A byte-level GPT small enough to train on one CPU core in well under a minute.

It is a plain decoder (pre-norm, learned positions, tied head): the point is not the model but
that its loss, gradient norm and step time behave like those of a real run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCAB = 256  # bytes: no tokenizer, and an untrained model starts at ln(256) = 5.5


@dataclass(frozen=True)
class Shape:
    """What decides the size of the model and of a batch."""

    layers: int = 4
    width: int = 144
    heads: int = 4
    seq: int = 64
    batch: int = 8

    @property
    def tokens(self) -> int:
        """Tokens in one step."""
        return self.seq * self.batch


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and a residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm_a = nn.LayerNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)
        self.norm_m = nn.LayerNorm(shape.width)
        self.up = nn.Linear(shape.width, 4 * shape.width)
        self.down = nn.Linear(4 * shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        rows, seq, width = x.shape
        qkv = self.qkv(self.norm_a(x)).view(rows, seq, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(rows, seq, width))
        out: Tensor = x + self.down(functional.gelu(self.up(self.norm_m(x))))
        return out


class GPT(nn.Module):
    """Byte-level decoder; `forward` returns the logits."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, shape.width)
        self.places = nn.Embedding(shape.seq, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, VOCAB, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(_init)
        for name, weight in self.named_parameters():
            if name.endswith(("proj.weight", "down.weight")):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * shape.layers))

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.head(self.norm(h))
        return logits

    def size(self) -> int:
        """Number of parameters, the tied head counted once."""
        return sum(p.numel() for p in self.parameters())


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def lm_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per byte."""
    return functional.cross_entropy(logits.reshape(-1, VOCAB), targets.reshape(-1))


def flops_per_step(size: int, shape: Shape) -> float:
    """Usual estimate of forward plus backward: 6 N per token, and the attention's share."""
    return (6.0 * size + 12.0 * shape.layers * shape.width * shape.seq) * shape.tokens
