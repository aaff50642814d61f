"""One list of classes by name: filled by defining them, found by importing the package they live in."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from space.errors import InputError, NameUnknown

T = TypeVar("T")


class Kinds(Generic[T]):
    """The classes of one sort (`what`: "block", "task", ...), each a file of `package`, or of an entry point group.

    The package is imported at the first question, not before.
    """

    def __init__(self, what: str, package: str, entry_point_group: str = "") -> None:
        self.what = what
        self.package = package
        self.entry_point_group = entry_point_group
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def add(self, name: str, cls: type[T]) -> None:
        """Register a class that `check` accepts."""
        self.check(name, cls)
        self._classes[name] = cls

    def check(self, name: str, cls: type[T]) -> str:
        """The class's full name. TypeError for a bad kind, no docstring of its own, or a kind already held."""
        where = f"{cls.__module__}.{cls.__qualname__}"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise TypeError(f"{where}: the kind of a {self.what} is lower_snake_case; got {name!r}")
        if not (vars(cls).get("__doc__") or "").strip():
            raise TypeError(f"{where}: a {self.what} needs a docstring")
        held = self._classes.get(name)
        if held is not None and (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"{where}: {self.what} {name!r} is already defined by {held.__module__}.{held.__qualname__}"
            )
        return where

    def all(self) -> dict[str, type[T]]:
        """Every known class, in the order of the names."""
        if not self._loaded:
            package = importlib.import_module(self.package)
            for found in pkgutil.walk_packages(package.__path__, f"{self.package}."):
                if not found.ispkg:
                    importlib.import_module(found.name)
            for point in entry_points(group=self.entry_point_group) if self.entry_point_group else ():
                try:
                    point.load()
                except Exception as error:
                    told = f"the installed plug-in {point.name!r} ({point.value}) can't be loaded: {error}"
                    raise InputError(f"{told} (mend or uninstall it)") from error
            self._loaded = True
        return dict(sorted(self._classes.items()))

    def get(self, name: str) -> type[T]:
        """The class of a name. Raises NameUnknown with the nearest known one."""
        known = self.all()
        if name not in known:
            raise NameUnknown(self.what, str(name), known)
        return known[name]

    def summaries(self) -> dict[str, str]:
        """Name -> first line of the documentation."""
        return {name: inspect.cleandoc(cls.__doc__ or "").splitlines()[0] for name, cls in self.all().items()}
