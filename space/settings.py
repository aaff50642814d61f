"""The `search:` and `training:` sections of a space file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base: unknown names refused, frozen, nothing coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SearchSettings(Settings):
    """How candidates are proposed."""

    strategy: str = Field("nsga2", description="search strategy (`nas run --help` lists them)")
    trials: int = Field(100, ge=1, le=10_000_000, description="trained candidates")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of everything random in the search")
    population: int = Field(24, ge=2, le=100_000, description="population of nsga2; random starts of tpe")


class TrainingSettings(Settings):
    """How long and how a candidate is trained."""

    steps: int | None = Field(None, ge=1, le=1_000_000_000, description="optimiser steps")
    seconds: float | None = Field(None, gt=0, description="wall-clock budget; the first of steps and seconds ends it")
    batch: int = Field(64, ge=1, le=1_000_000, description="samples per step")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.05, ge=0, description="decoupled weight decay, on matrices only")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the budget with a rising learning rate")
    clip: float = Field(1.0, gt=0, description="gradient norm above which it is scaled down")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the device has it"
    )
    eval_every: int = Field(0, ge=0, le=1_000_000_000, description="steps between validations; 0: at the end only")
    wall_limit: float = Field(600.0, gt=0, description="seconds after which a trial is stopped and counted as failed")
    memory_limit: int | None = Field(None, ge=1, lt=2**63, description="bytes of memory a trial may take")
