"""A static key-value cache: room for `length` tokens a row, allocated once, filled in place.

Token p of a row always lies in slot p. Rows of unequal length therefore need no padding mask: while a row's prompt is
read its tokens see only earlier tokens of that row (causal), what padding writes behind it is overwritten by the row's
own next tokens before any query may see those slots, and a new token at position p sees the slots 0..p.
"""

from __future__ import annotations

import torch
from torch import Tensor

from biollm.models.config import ModelConfig


class KVCache:
    """Keys and values of every layer, each (batch, kv_heads, length, head_dim). Implements `models.llama.Cache`."""

    def __init__(
        self, config: ModelConfig, *, batch: int, length: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.batch, self.length = batch, length
        shape = (batch, config.n_kv_heads, length, config.head_size)
        try:
            self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.n_layers)]
            self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.n_layers)]
        except RuntimeError as error:  # torch's out-of-memory, on CPU and CUDA
            size = batch * self.row_bytes(config, length, dtype)
            raise MemoryError(f"no room for a key-value cache of {size:,} bytes on {device}") from error
        self._rows = torch.arange(batch, device=device)  # (batch,)
        self._slots = torch.arange(length, device=device)  # (length,)

    @staticmethod
    def row_bytes(config: ModelConfig, length: int, dtype: torch.dtype) -> int:
        """Bytes that one row of `length` tokens takes."""
        return 2 * config.n_layers * config.n_kv_heads * config.head_size * length * dtype.itemsize

    def fix_addresses(self) -> None:
        """Tell CUDA graphs that these tensors stay where they are, so that they are not copied at every step."""
        for tensor in (*self.keys, *self.values, self._rows, self._slots):
            torch._dynamo.mark_static_address(tensor)

    def mask(self, positions: Tensor) -> Tensor | None:
        """Which slots one new token a row sees: (batch, 1) → bool (batch, 1, 1, length). None (causal) for prompts."""
        if positions.shape[1] > 1:
            return None
        return self._slots <= positions[:, None, None, :]

    def update(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (batch, kv_heads, seq, head_dim); return those to attend to.

        seq > 1: prompts from position 0 on; they attend to themselves. seq == 1: one new token a row, each at its own
        position (batch, 1); it attends to the whole cache under `mask`.
        """
        seq = keys.shape[2]
        if seq > 1:
            self.keys[layer][:, :, :seq] = keys
            self.values[layer][:, :, :seq] = values
            return keys, values
        self.keys[layer][self._rows, :, positions[:, 0]] = keys[:, :, 0]
        self.values[layer][self._rows, :, positions[:, 0]] = values[:, :, 0]
        return self.keys[layer], self.values[layer]
