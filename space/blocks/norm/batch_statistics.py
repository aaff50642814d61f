"""What norms share that take their statistics over the batch while they train, and are an affine map in use."""

from __future__ import annotations

from typing import Any, ClassVar

from space.block import Block
from space.errors import ShapeError
from space.shape import Shape


class BatchStatistics(Block):
    """Base of norms with an option `deployed`; refuses causal inputs, unless the block says that it is causal."""

    instead: ClassVar[str] = "rms_norm or layer_norm"
    """What a causal input takes in place of this norm."""

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return cls.Options.model_validate({"deployed": True}) if options.deployed else options

    @classmethod
    def validate_at(cls, shape: Shape, options: Any) -> None:
        if shape.causal and not cls.causal:
            raise ShapeError(
                f"{cls.kind} takes its statistics over all positions in training, later ones included, but the input is"
                f" causal (choose {cls.instead})"
            )
        super().validate_at(shape, options)
