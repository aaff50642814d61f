"""Operators that several blocks share: fast plain-torch forms, each with an obvious reference in `space.ops.naive`."""
