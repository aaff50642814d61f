"""Which fused regions of a recording lie in which, and where the rows stand that sum them up."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spot:
    """A row of one part; `summaries` are the summary rows of the fused regions that it lies in, the innermost first."""

    row: int
    summaries: tuple[int, ...] = ()


@dataclass
class Nest:
    """Regions by number. `outer`: the one around it; `forward`: for a backward, whose; `summaries`: its summary's time."""

    outer: dict[int, int] = field(default_factory=dict)
    forward: dict[int, int] = field(default_factory=dict)
    summaries: dict[int, int] = field(default_factory=dict)

    def around(self, region: int) -> list[int]:
        """A region and those around it, the innermost first; none for 0."""
        found = []
        while region:
            found.append(region)
            region = self.outer.get(region, 0)
        return found

    def root(self, region: int) -> int:
        """The region itself, or the one that it's the backward of."""
        return self.forward.get(region, region)

    def summaries_of(self, place: int | Spot, home: int = 0) -> tuple[int, ...]:
        """Times of the summary rows around a place (a region, or a spot in a child's rows), the innermost first, without
        those of regions that hold all of `home`."""
        if isinstance(place, Spot):
            return place.summaries
        hidden = self.around(home)
        own = (region for region in self.around(place) if self.root(region) not in hidden)
        return tuple(self.summaries[region] for region in own if region in self.summaries)

    def common(self, home: int, place: int) -> int:
        """The innermost region that holds both a region `home` and what runs in `place`; 0 for none."""
        reached = {self.root(region) for region in self.around(place)}
        while home and home not in reached:
            home = self.outer.get(home, 0)
        return home
