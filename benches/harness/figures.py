"""Medians and spreads."""

import statistics


def median(values):
    return statistics.median(values)


def ratios(over, under):
    """Round by round: what two saw at about the same time."""
    return [a / b for a, b in zip(over, under, strict=True)]


def spread(values, form="{:.2f}"):
    """The median, least and most of some numbers, in words."""
    middle, least, most = (form.format(value) for value in (median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"
