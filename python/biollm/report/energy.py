"""Energy from CPU-seconds: a model, whose watts and grid factor are always shown beside its figures.

CPU-seconds are measured. What a busy core draws is not: 10 W stands for a server's core with its share of memory,
power supply and cooling (a 360 W processor of 96 cores is 3.8 W a core by itself). 475 g of CO2 a kWh is the world's
mean of 2018 (IEA, Global Energy & CO2 Status Report 2019); a national grid's may be a twentieth or twice of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from biollm.errors import ConfigError

CORE_WATTS: Final = 10.0
GRID_G_PER_KWH: Final = 475.0
JOULES_PER_KWH: Final = 3.6e6
_MOST: Final = 1e6


@dataclass(frozen=True)
class EnergyModel:
    """What energy is reckoned with.

    Attributes:
        core_watts: of one busy core.
        grid_g_per_kwh: grams of CO2 a kWh.
        gpu_watts: of one GPU at work; None: what GPUs drew is not reckoned.
    """

    core_watts: float = CORE_WATTS
    grid_g_per_kwh: float = GRID_G_PER_KWH
    gpu_watts: float | None = None

    def __post_init__(self) -> None:
        for name in ("core_watts", "grid_g_per_kwh", "gpu_watts"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _MOST:
                raise ConfigError(f"{name} is {value}: give a number from 0 to {_MOST:,.0f}", field=name, value=value)

    def kwh(self, cpu_s: float, gpu_s: float = 0.0) -> float:
        """Kilowatt-hours of so many CPU-seconds and seconds of a GPU."""
        return (cpu_s * self.core_watts + gpu_s * (self.gpu_watts or 0.0)) / JOULES_PER_KWH

    def grams(self, kwh: float) -> float:
        """Grams of CO2 of so much energy."""
        return kwh * self.grid_g_per_kwh
