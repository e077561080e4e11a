"""Linear layers whose weights are whole numbers of 8 or 4 bits, on plain tensors that safetensors files can hold.

Quantization is symmetric: a weight is its whole number times its scale. `Int8Linear` has a scale an output channel,
`Int4Linear` one for each group of inputs of each output channel. Only the linear layers inside the blocks are
stored so; embeddings, output layer and norms stay as they were trained: their errors would reach every token.

How a product is taken depends on the dtype of what comes in. In bfloat16 on the CPU torch's packed kernels read the
whole numbers as they are. Elsewhere the weights are restored, exactly, and multiplied as ever; inside a compiled decode
step restoring and multiplying are one loop. torchao 0.18 was measured as a back-end and is not used: at 8 bits it took
6 times as long as the bfloat16 product it replaces, and its 4 bits need a package that does not run on a CPU.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biollm.errors import ConfigError
from biollm.models.config import Quantization

__all__ = [
    "SCALE_DTYPE",
    "Int4Linear",
    "Int8Linear",
    "pack_nibbles",
    "prepare_kernels",
    "quantized_linears",
    "replace_linears",
    "unpack_nibbles",
]

SCALE_DTYPE: Final = torch.bfloat16
"""Of the scales in files. Whoever makes scales rounds them to it first: they are then the same in every wider type."""
PACKED_ROWS: Final = 64
"""Rows up to which the packed kernels are the faster on the CPU (measured; beyond, restoring pays for itself)."""
FUSED_ROWS: Final = 4
"""Rows up to which a compiled step restores and multiplies in one loop."""
_PACKED_GROUPS: Final = (32, 64, 128, 256)
_PACKED_CHANNELS: Final = 16


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights: y = x (q ⊙ s)ᵀ + b.

    Args:
        in_features: inputs.
        out_features: output channels.
        bias: whether there is one.

    Attributes:
        in_features, out_features: as given.
        qweight: q, (out, in) int8, in -128 … 127.
        scales: s, (out,), floating; of `SCALE_DTYPE` in files.
        bias: b, (out,), or `None`.

    The tensors are zeros until they are loaded or set; none is a parameter, for none can be trained.
    """

    qweight: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("qweight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    def dequantize(self) -> Tensor:
        """The weights, (out, in), in the dtype of the scales."""
        return self.qweight.to(self.scales.dtype) * self.scales[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """The product: `x` (…, in) → (…, out), of the same dtype."""
        rows = x.numel() // self.in_features
        y: Tensor
        if _packed_kernel_runs(x, rows):
            flat = x.reshape(rows, self.in_features)
            y = torch.ops.aten._weight_int8pack_mm(flat, self.qweight, self.scales).view(*x.shape[:-1], -1)
        elif _fuses(x, rows):
            y = (x[..., None, :] * self.qweight.to(x.dtype)).sum(-1) * self.scales
        else:
            y = F.linear(x, self.qweight.to(x.dtype)) * self.scales.to(x.dtype)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int4Linear(nn.Module):
    """A linear layer of 4-bit weights: y = x (q ⊙ s)ᵀ + b, each scale for a group of inputs.

    Args:
        in_features: inputs, a multiple of `group_size`.
        out_features: output channels.
        group_size: inputs that share a scale; even.
        bias: whether there is one.

    Attributes:
        in_features, out_features, group_size: as given.
        qweight: q, in -8 … 7, two in a byte as `pack_nibbles` puts them: (out, in / 2) uint8.
        scales: s, (out, in / group_size), floating; of `SCALE_DTYPE` in files.
        bias: b, (out,), or `None`.

    Raises:
        ConfigError: the group size is odd, or does not divide the inputs.

    The tensors are zeros until they are loaded or set; none is a parameter, for none can be trained.
    """

    qweight: Tensor
    scales: Tensor
    bias: Tensor | None
    _tiles: Tensor | None
    _tile_scales: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, group_size: int, bias: bool = False) -> None:
        super().__init__()
        if group_size < 2 or group_size % 2 or in_features % group_size:
            message = f"group_size {group_size} is odd or does not divide the {in_features} inputs of a linear layer"
            raise ConfigError(message, field="group_size", value=group_size)
        self.in_features, self.out_features, self.group_size = in_features, out_features, group_size
        self.register_buffer("qweight", torch.zeros(out_features, in_features // 2, dtype=torch.uint8))
        self.register_buffer("scales", torch.zeros(out_features, in_features // group_size))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)
        # The same numbers in the order in which torch's kernel for the CPU reads them; see `prepare_kernels`.
        self.register_buffer("_tiles", None, persistent=False)
        self.register_buffer("_tile_scales", None, persistent=False)

    def dequantize(self) -> Tensor:
        """The weights, (out, in), in the dtype of the scales."""
        whole = unpack_nibbles(self.qweight).to(self.scales.dtype)
        by_group = whole.view(self.out_features, -1, self.group_size)
        return by_group.mul_(self.scales[..., None]).view(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """The product: `x` (…, in) → (…, out), of the same dtype."""
        rows = x.numel() // self.in_features
        y: Tensor
        if self._tiles is not None and _packed_kernel_runs(x, rows):
            flat = x.reshape(rows, self.in_features)
            product = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self._tiles, self.group_size, self._tile_scales)
            y = product.view(*x.shape[:-1], -1)
        elif _fuses(x, rows):
            y = self._fused(x)
        else:
            y = F.linear(x, self.dequantize().to(x.dtype))
        return y if self.bias is None else y + self.bias

    def _fused(self, x: Tensor) -> Tensor:
        """Even and odd inputs against low and high nibbles, times the scales: one sum, so that it becomes one loop."""
        even, odd = x[..., 0::2].contiguous(), x[..., 1::2].contiguous()  # (…, in / 2)
        low, high = (self.qweight & 15).to(x.dtype) - 8, (self.qweight >> 4).to(x.dtype) - 8  # (out, in / 2)
        products = even[..., None, :] * low + odd[..., None, :] * high  # (…, out, in / 2)
        by_group = products.view(*products.shape[:-1], -1, self.group_size // 2)  # (…, out, groups, group / 2)
        return (by_group * self.scales[..., None]).sum((-2, -1))

    def prepare(self) -> None:
        """Lay the weights out for torch's bfloat16 kernel on the CPU, where it has one for these sizes."""
        fits = self.group_size in _PACKED_GROUPS and self.out_features % _PACKED_CHANNELS == 0
        if not fits or self.qweight.device.type != "cpu":
            return
        unsigned = (unpack_nibbles(self.qweight) + 8).to(torch.int32)
        self._tiles = torch.ops.aten._convert_weight_to_int4pack_for_cpu(unsigned, 1)
        scales = self.scales.t()  # (groups, out)
        self._tile_scales = torch.stack((scales, torch.zeros_like(scales)), dim=-1).contiguous()  # scale and zero

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, group_size={self.group_size}"
        return f"{sizes}, bias={self.bias is not None}"


def _packed_kernel_runs(x: Tensor, rows: int) -> bool:
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and rows <= PACKED_ROWS


def _fuses(x: Tensor, rows: int) -> bool:
    return rows <= FUSED_ROWS and torch.compiler.is_compiling()


def pack_nibbles(whole: Tensor) -> Tensor:
    """Two 4-bit numbers in a byte.

    Args:
        whole: int8, (…, n) in -8 … 7, n even.

    Returns:
        uint8, (…, n / 2): number 2i + 8 in the low nibble, number 2i + 1 + 8 in the high one.
    """
    unsigned = (whole + 8).to(torch.uint8)
    return unsigned[..., 0::2] | (unsigned[..., 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """The inverse of `pack_nibbles`: `packed`, uint8 (…, n / 2) → int8 (…, n)."""
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).to(torch.int8).sub_(8)


def quantized_linears(model: nn.Module) -> dict[str, Int8Linear | Int4Linear]:
    """The quantized layers of a `model` by their names in it, in order."""
    return {name: part for name, part in model.named_modules() if isinstance(part, Int8Linear | Int4Linear)}


def replace_linears(blocks: nn.Module, quantization: Quantization) -> None:
    """Put a quantized layer, still zeros, in place of every linear layer inside `blocks`.

    Args:
        blocks: the layers of a decoder.
        quantization: which kind.

    Raises:
        ConfigError: the group size does not divide the inputs of a layer.
    """
    linears = [(name, part) for name, part in blocks.named_modules() if isinstance(part, nn.Linear)]
    for name, linear in linears:
        parent, _, child = name.rpartition(".")
        setattr(blocks.get_submodule(parent), child, empty_like(linear, quantization))


def empty_like(linear: nn.Linear, quantization: Quantization) -> Int8Linear | Int4Linear:
    """A quantized layer of the sizes of a linear one, zeros, on its device."""
    sizes, bias = (linear.in_features, linear.out_features), linear.bias is not None
    with linear.weight.device:
        if quantization.group_size is None:
            return Int8Linear(*sizes, bias=bias)
        return Int4Linear(*sizes, group_size=quantization.group_size, bias=bias)


def prepare_kernels(model: nn.Module) -> None:
    """Have 4-bit layers of a loaded `model` in bfloat16 on the CPU use torch's kernel; others need nothing.

    The kernel reads a layout of its own, which is kept beside the plain one: another half byte a weight.
    """
    for layer in quantized_linears(model).values():
        if isinstance(layer, Int4Linear) and layer.scales.dtype == torch.bfloat16:
            layer.prepare()
