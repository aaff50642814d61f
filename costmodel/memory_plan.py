"""Peak activation memory under a static plan, as runtimes on small devices make one before anything runs.

MCUFormer (Liang et al. 2023, arXiv:2310.16898) overwrites token buffers in place and works the patch embedding off in
pieces (`costmodel.memory_patches`); here those are options of a liveness planner over the operator graph. An elementwise
operator that writes over its operand is also what a fused one takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from costmodel.memory_graph import Graph, Operator


@dataclass(frozen=True)
class PlanOptions:
    """What a runtime can do.

    `in_place`: an elementwise operator writes over an operand that nothing reads later. `join`: a concatenation's
    parts are made where they're joined. `reorder`: operators run in an order that holds less.
    """

    in_place: bool = True
    join: bool = True
    reorder: bool = True


@dataclass(frozen=True)
class Plan:
    """`order` are indices of the graph's operators, `alive` the bytes while each runs, `naive` all tensors side by side."""

    order: tuple[int, ...]
    alive: tuple[float, ...]
    naive: float

    @property
    def peak_bytes(self) -> float:
        """The most that is alive at once."""
        return max(self.alive, default=0.0)


def plan(graph: Graph, options: PlanOptions | None = None, itemsize: float = 4.0) -> Plan:
    """The better of the order given and (with `reorder`) a greedy one; `itemsize` is the bytes of an element.

    No plan holds more than plain liveness in the order given.
    """
    options = options or PlanOptions()
    found = []
    for merged in {id(g): g for g in (graph, _merged(graph, options))}.values():
        orders = [list(range(len(merged.operators)))]
        if options.reorder:
            orders.append(_greedy(merged))
        found += [(_alive(merged, order), order) for order in orders]
    alive, order = min(found, key=lambda one: max(one[0], default=0.0))
    scale = itemsize / 4.0
    return Plan(tuple(order), tuple(b * scale for b in alive), graph.total_bytes * scale)


def _merged(graph: Graph, options: PlanOptions) -> Graph:
    """The graph with tensors that share memory made one, by the options."""
    readers: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, operator in enumerate(graph.operators):
        for t in operator.reads:
            readers[t] = readers.get(t, 0) + 1
            last[t] = i
    same = list(range(len(graph.size)))
    sizes = list(graph.size)
    kept = {*graph.results, *graph.given}
    for i, operator in enumerate(graph.operators):
        if len(operator.makes) != 1:
            continue
        made = operator.makes[0]
        if options.join and operator.name == "cat":
            for t in operator.reads:
                if readers[t] == 1 and t not in kept and same[t] == t:
                    same[t], sizes[t] = made, 0.0
        elif operator.pointwise:
            for t in operator.reads:
                if options.in_place and last[t] == i and t not in kept and sizes[t] == sizes[made]:
                    same[made] = _root(same, t)
                    sizes[made] = 0.0
                    break
    roots = [_root(same, t) for t in range(len(sizes))]

    def folded(tensors: list[int]) -> list[int]:
        return list(dict.fromkeys(roots[t] for t in tensors))

    operators = [replace(o, reads=folded(o.reads), makes=folded(o.makes)) for o in graph.operators]
    size = [0.0] * len(roots)
    for t, root in enumerate(roots):
        size[root] = max(size[root], graph.size[t])
    return Graph(operators, size, folded(graph.given), folded(graph.results))


def _root(same: list[int], tensor: int) -> int:
    while same[tensor] != tensor:
        tensor = same[tensor]
    return tensor


def _uses(graph: Graph) -> dict[int, set[int]]:
    """Tensor -> the operators that touch it."""
    uses: dict[int, set[int]] = {}
    for i, operator in enumerate(graph.operators):
        for t in (*operator.reads, *operator.makes):
            uses.setdefault(t, set()).add(i)
    return uses


def _alive(graph: Graph, order: list[int]) -> list[float]:
    """Bytes alive while each operator runs: operands, results, and everything that's still to be read."""
    left = {t: set(operators) for t, operators in _uses(graph).items()}
    held = set(graph.given)
    total = sum(graph.size[t] for t in held)
    alive = []
    for i in order:
        operator = graph.operators[i]
        for t in (*operator.makes, *operator.reads):
            if t not in held:
                held.add(t)
                total += graph.size[t]
        alive.append(total)
        for t in {*operator.reads, *operator.makes}:
            left[t].discard(i)
            if not left[t] and t in held and t not in graph.results:
                held.discard(t)
                total -= graph.size[t]
    return alive


def _greedy(graph: Graph) -> list[int]:
    """Of the operators whose operands are there, always the one after which the least is held."""
    waits = _order(graph.operators)
    follows: dict[int, list[int]] = {}
    for i, before in enumerate(waits):
        for j in before:
            follows.setdefault(j, []).append(i)
    waiting = [len(before) for before in waits]
    ready = [i for i, count in enumerate(waiting) if not count]
    left = {t: set(operators) for t, operators in _uses(graph).items()}
    held = set(graph.given)
    order = []
    while ready:

        def change(i: int) -> tuple[float, int]:
            operator = graph.operators[i]
            touched = {*operator.reads, *operator.makes}
            made = sum(graph.size[t] for t in touched if t not in held)
            gone = sum(graph.size[t] for t in touched if left[t] == {i} and t not in graph.results)
            return made - gone, i

        chosen = min(ready, key=change)
        ready.remove(chosen)
        order.append(chosen)
        operator = graph.operators[chosen]
        for t in {*operator.reads, *operator.makes}:
            held.add(t)
            left[t].discard(chosen)
            if not left[t] and t not in graph.results:
                held.discard(t)
        for i in follows.get(chosen, ()):
            waiting[i] -= 1
            if not waiting[i]:
                ready.append(i)
    return order


def _order(operators: list[Operator]) -> list[set[int]]:
    """For every operator those that must run before: who made or wrote what it touches, and who reads what it writes."""
    waits: list[set[int]] = []
    wrote: dict[int, int] = {}
    read: dict[int, list[int]] = {}
    for i, operator in enumerate(operators):
        writes = {*operator.makes, *(operator.reads if operator.writes_in_place else ())}
        before = {wrote[t] for t in {*operator.reads, *writes} if t in wrote}
        before |= {j for t in writes for j in read.get(t, ())}
        waits.append(before - {i})
        for t in operator.reads:
            read.setdefault(t, []).append(i)
        for t in writes:
            wrote[t] = i
            read[t] = []
    return waits
