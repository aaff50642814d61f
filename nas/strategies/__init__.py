"""Search strategies: one file each, found by their names."""

from __future__ import annotations

from nas.strategies.base import Proposal, Strategy, make_strategy, search_settings, strategy_names

__all__ = ["Proposal", "Strategy", "make_strategy", "search_settings", "strategy_names"]
