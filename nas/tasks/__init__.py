"""Tasks: what a network is trained on and how it is scored, one file each."""

from nas.tasks.base import DIRECTIONS, IGNORE, SPLITS, Split, Task, TaskOptions, task
from nas.tasks.registry import all_tasks, describe, make_task, restore_task, task_names

__all__ = [
    "DIRECTIONS",
    "IGNORE",
    "SPLITS",
    "Split",
    "Task",
    "TaskOptions",
    "all_tasks",
    "describe",
    "make_task",
    "restore_task",
    "task",
    "task_names",
]
