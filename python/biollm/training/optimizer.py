"""AdamW with decay on matrices, and the norm its gradients are clipped to."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def make_optimizer(
    model: nn.Module, *, lr: float, weight_decay: float, betas: tuple[float, float], eps: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) over the model's parameters, those tied counted once.

    Matrices (embeddings among them) decay, vectors (the gains of the norms) do not. Fused where torch has the kernel.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.AdamW(groups, lr=lr, betas=(float(betas[0]), float(betas[1])), eps=eps, fused=fused)


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Scale all gradients to a common L2 norm of at most ``limit`` (0: leave them); gives the norm before, a scalar."""
    if limit > 0.0:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
