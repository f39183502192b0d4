from __future__ import annotations


def plural(count: int, noun: str, many: str | None = None) -> str:
    """A count with its noun: ``1 network``, ``3 networks``; ``many`` is an irregular plural."""
    return f"{count} {noun if count == 1 else many or noun + 's'}"
