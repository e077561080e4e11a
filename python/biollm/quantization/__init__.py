"""Quantization: a checkpoint whose linear layers are whole numbers of 8 or 4 bits, and how much worse it predicts.

Here are the choice of documents, the rounding and the measuring; the layers that compute with whole numbers are
`models.quantized`. Importing this package imports no torch and no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.quantization.compensation import gptq, output_error
    from biollm.quantization.converting import LayerError, convert
    from biollm.quantization.options import QuantizeOptions
    from biollm.quantization.quantizing import quantize
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "LayerError": "converting",
        "QuantizeOptions": "options",
        "convert": "converting",
        "gptq": "compensation",
        "output_error": "compensation",
        "quantize": "quantizing",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES, torch={"compensation", "converting", "quantizing"})


__all__ = ["LayerError", "QuantizeOptions", "convert", "gptq", "output_error", "quantize"]
