# SPDX-License-Identifier: Apache-2.0
"""From values to places on a picture: linear and logarithmic axes, and round numbers for their ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

_LARGEST = 1e150  # what is beyond lies at the border: its differences have no float


@dataclass(frozen=True)
class Scale:
    """Values low ... high lie at pixels begin ... end."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; values outside stay at the border."""
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.begin + part * (self.end - self.begin)

    def ticks(self) -> list[float]:
        return _decades(self.low, self.high) if self.log else _round_steps(self.low, self.high)

    @staticmethod
    def around(values: list[float], begin: float, end: float, *, log: bool = False) -> Scale:
        """A scale that has room for all values, with a little space at both ends."""
        low, high = (max(-_LARGEST, min(end, _LARGEST)) for end in (min(values), max(values)))
        if log:
            low, high = max(low, 1 / _LARGEST), max(high, 1 / _LARGEST)
            return Scale(10.0 ** math.floor(math.log10(low) + 1e-9), max(high * 1.3, low * 10), begin, end, True)
        if high - low <= 1e-9 * max(abs(high), 1.0):  # all equal
            low, high = low - max(abs(low) * 0.05, 1e-6), high + max(abs(high) * 0.05, 1e-6)
        space = (high - low) * 0.05
        return Scale(low - space, high + space, begin, end)


def _round_steps(low: float, high: float, wanted: int = 6) -> list[float]:
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def label_of(value: float, ticks: list[float]) -> str:
    """A tick's label, with as many digits as tell it from its neighbours."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e")
    if len(ticks) > 1 and math.isclose(ticks[1] - ticks[0], ticks[-1] - ticks[-2], rel_tol=1e-6):  # linear
        digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
        if not math.isclose(round(ticks[1] - ticks[0], digits), ticks[1] - ticks[0], rel_tol=1e-6):
            digits += 1
        return f"{value:.{digits}f}"
    return f"{value:g}"
