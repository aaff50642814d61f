"""Executors: where trials run, one file each."""

from nas.executors.base import Executor, available_cores, executor
from nas.executors.registry import all_executors, make_executor

__all__ = ["Executor", "all_executors", "available_cores", "executor", "make_executor"]
