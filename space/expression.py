"""Arithmetic in options: `${width * 4}` with + - * //, parentheses, numbers and named choices, nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from space.errors import InputError

Number = int | float
_TOKEN = re.compile(r"\s*(?:((?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?)|([A-Za-z_]\w*)|(//|[-+*()]))")
_MAX_LENGTH = 200
_MAX_NESTING = 16
_MAX_RESULT = 1e18


@dataclass(frozen=True)
class Expression:
    """A parsed expression: its text, the names it needs, and how to work it out."""

    text: str
    names: tuple[str, ...]
    evaluate: Callable[[Mapping[str, Number]], Number]


def parse_expression(text: str) -> Expression:
    """Parse what stands between `${` and `}`. Raises InputError with the offending piece."""
    if len(text) > _MAX_LENGTH:
        raise InputError(f"an expression has at most {_MAX_LENGTH} characters; got {len(text)}")
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        self.names: list[str] = []
        self.nesting = 0
        position = 0
        while text[position:].strip():
            matched = _TOKEN.match(text, position)
            if not matched:
                raise InputError(
                    f"expected numbers, names, + - * // and parentheses in ${{{text}}};"
                    f" got {text[position:].strip()[:12]!r}"
                )
            self.tokens.append(matched[0].strip())
            position = matched.end()
        self.position = 0

    def parse(self) -> Expression:
        evaluate = self._sum()
        if self.position != len(self.tokens):
            raise InputError(f"expected an operator in ${{{self.text}}} before {self.tokens[self.position]!r}")
        return Expression(self.text.strip(), tuple(dict.fromkeys(self.names)), _bounded(self.text, evaluate))

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self.position += 1
        return token

    def _sum(self) -> Callable[[Mapping[str, Number]], Number]:
        left = self._product()
        while self._peek() in ("+", "-"):
            left = _binary(self._take(), left, self._product())
        return left

    def _product(self) -> Callable[[Mapping[str, Number]], Number]:
        left = self._unary()
        while self._peek() in ("*", "//"):
            left = _binary(self._take(), left, self._unary())
        return left

    def _unary(self) -> Callable[[Mapping[str, Number]], Number]:
        token = self._take()
        if token == "-":
            operand = self._nested(self._unary)
            return lambda names: -operand(names)
        if token == "(":
            inner = self._nested(self._sum)
            if self._take() != ")":
                raise InputError(f"a parenthesis is not closed in ${{{self.text}}}")
            return inner
        if token and (token[0].isdecimal() or token[0] == "."):
            number: Number = int(token) if token.isdecimal() else float(token)
            return lambda names: number
        if token and (token[0].isalpha() or token[0] == "_"):
            self.names.append(token)
            return lambda names: names[token]
        raise InputError(f"expected a number or a name in ${{{self.text}}}; got {repr(token) if token else 'its end'}")

    def _nested(self, rule: Callable) -> Callable[[Mapping[str, Number]], Number]:
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            raise InputError(f"an expression nests at most {_MAX_NESTING} deep: ${{{self.text[:40]}...}}")
        inner = rule()
        self.nesting -= 1
        return inner


def _bounded(text: str, evaluate: Callable) -> Callable[[Mapping[str, Number]], Number]:
    def checked(names: Mapping[str, Number]) -> Number:
        try:
            value = evaluate(names)
        except OverflowError:
            value = math.inf
        if not abs(value) <= _MAX_RESULT:
            raise InputError(f"${{{text.strip()}}} gives a number beyond {_MAX_RESULT:g}")
        return value

    return checked


def _binary(operator: str, left: Callable, right: Callable) -> Callable[[Mapping[str, Number]], Number]:
    if operator == "+":
        return lambda names: left(names) + right(names)
    if operator == "-":
        return lambda names: left(names) - right(names)
    if operator == "*":
        return lambda names: left(names) * right(names)

    def divide(names: Mapping[str, Number]) -> Number:
        divisor = right(names)
        if divisor == 0:
            raise InputError("an expression divides by zero")
        return left(names) // divisor

    return divide
