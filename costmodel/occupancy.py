"""How evenly the attention of one new token spreads over a device's units.

Each pair of sequence and head has ceil(context / tile) tiles of keys and values; a unit takes one tile at a time. The
strategies differ in what they hand out: whole heads (`flash2`), a fixed number of parts of each (`flash_decoding`), or equal
runs of tiles over all heads, whose partial softmaxes are merged (`lean`). Sanovar et al. 2024, arXiv:2405.10480.
"""

from __future__ import annotations

import math

from space import InputError, did_you_mean

STRATEGIES = ("flash2", "flash_decoding", "lean")


def decode_rounds(
    strategy: str, batch: int, heads: int, context: int, units: int, tile: int = 256, splits: int = 4
) -> int:
    """Tiles that the busiest unit works off. `splits` are the parts of `flash_decoding`. Raises InputError."""
    if strategy not in STRATEGIES:
        near = did_you_mean(strategy, STRATEGIES)
        raise InputError(f"unknown strategy {strategy!r}{near}; known: {', '.join(STRATEGIES)}")
    tiles, pairs = math.ceil(context / tile), batch * heads
    if strategy == "lean":
        return math.ceil(pairs * tiles / units)
    parts = min(splits, tiles) if strategy == "flash_decoding" else 1
    return math.ceil(pairs * parts / units) * math.ceil(tiles / parts)


def decode_occupancy(
    strategy: str, batch: int, heads: int, context: int, units: int, tile: int = 256, splits: int = 4
) -> float:
    """Share of the units' time that is work, in (0, 1]. Raises InputError for an unknown strategy."""
    rounds = decode_rounds(strategy, batch, heads, context, units, tile, splits)
    return batch * heads * math.ceil(context / tile) / (rounds * units)
