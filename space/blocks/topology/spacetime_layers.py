"""Space and time layers in a published order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field

from space.block import BlockOptions, BlockSlot, block
from space.blocks.topology.sequence import Sequence
from space.shape import Shape

ORDERS = {
    "binary_ts": "ts",
    "binary_st": "st",
    "triplet_tst": "tst",
    "triplet_sts": "sts",
    "quad_tsst": "tsst",
    "quad_stts": "stts",
}


@block("spacetime_layers", role="topology", layout="sequence", paper="predformer")
class SpacetimeLayers(Sequence):
    """Space and time layers in one of nine orders. x [B, T S, D] -> whatever the layers give.

    `full`: N joint layers; `fac_st`: N space layers, then N time layers; `fac_ts`: the other way round; `binary_ts`: N
    times time, space; `triplet_tst`, `quad_tsst` and their counterparts alike, letter by letter. Each place picks anew;
    stands in the document as the layers it makes. Tang et al. 2024, arXiv:2410.04733, section 3.3.
    """

    shorthand = None
    example: ClassVar = {
        "layout": "triplet_tst",
        "times": 1,
        "space": {"mlp": {"ratio": 1.0}},
        "time": {"mlp": {"ratio": 2.0}},
        "joint": {"mlp": {"ratio": 2.0}},
    }

    class Options(BlockOptions):
        layout: Literal[
            "full",
            "fac_st",
            "fac_ts",
            "binary_ts",
            "binary_st",
            "triplet_tst",
            "triplet_sts",
            "quad_tsst",
            "quad_stts",
        ] = Field(description="order of the layers")
        times: int = Field(ge=1, le=256, description="how often N")
        space: BlockSlot = Field({"identity": {}}, description="the layer that mixes within a frame")
        time: BlockSlot = Field({"identity": {}}, description="the layer that mixes frames")
        joint: BlockSlot = Field({"identity": {}}, description="the layer of `full`, which mixes all")

    @classmethod
    def most_repetitions(cls, values: dict[str, list[Any]]) -> int:
        """Places that pick anew, given the values its options may take."""
        return max(values["times"]) * max(len(order_of(layout, 1)) for layout in values["layout"])

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        slots = {"s": options.space, "t": options.time, "j": options.joint}
        for i, letter in enumerate(order_of(options.layout, options.times)):
            shape = child(slots[letter], shape, index=i)
        return shape


def order_of(layout: str, times: int) -> str:
    """Letters of the layers, first to last: s space, t time, j joint."""
    if layout == "full":
        return "j" * times
    if layout.startswith("fac_"):
        return "".join(letter * times for letter in layout.removeprefix("fac_"))
    return ORDERS[layout] * times
