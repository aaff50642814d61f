"""Calibrations that no longer hold on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from costmodel.hardware import Profile
    from space import SearchSpace


def stale(profile: Profile) -> str:
    """Why a calibration made on this machine no longer holds; empty where it does, or was made from a file."""
    made = profile.calibration.fingerprint if profile.calibration else {}
    if not made:
        return ""
    from costmodel.calibration.fingerprint import changed

    told = changed(made)
    return f"{profile.name}: its calibration has expired ({'; '.join(told)}); run `nas calibrate` again" if told else ""


def tell_expired(hardware: Iterable[str | Path]) -> None:
    """One line on stderr for each of these profiles whose calibration has expired. Raises as `load_profile` does."""
    from costmodel import load_profile

    for name in dict.fromkeys(map(str, hardware)):
        if told := stale(load_profile(name)):
            print(f"warning: {told}", file=sys.stderr)


def hardware_of(space: SearchSpace) -> list[str]:
    """The devices that a space's objectives and constraints name."""
    asked = [part.measure.hardware for part in (*space.objectives, *space.constraints)]
    return list(dict.fromkeys(name for name in asked if name is not None))
