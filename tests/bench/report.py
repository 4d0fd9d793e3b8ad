# SPDX-License-Identifier: MIT
"""Figures and tables. A figure is the median of repeated runs with the lowest and highest; a ratio is only printed when
nothing was lost in either run."""

import math
import statistics


class Figure:
    """Repeated measurements of one thing. lossy: some run lost datagrams, so that it can't be compared."""

    def __init__(self, values=(), unit="", lossy=False, why="", digits=3):
        self.values = list(values)
        self.unit = unit
        self.lossy = lossy
        self.why = why  # when there are no values
        self.digits = digits

    def add(self, value, lossy=False):
        self.values.append(value)
        self.lossy = self.lossy or lossy

    @property
    def median(self):
        return statistics.median(self.values)

    def __str__(self):
        if not self.values:
            return self.why or "—"
        text = number(self.median, self.digits)
        if len(self.values) > 1:
            text += f" ({number(min(self.values), self.digits)}–{number(max(self.values), self.digits)})"
        if self.unit:
            text += f" {self.unit}"
        return text + (" loss" if self.lossy else "")

    def json(self):
        if not self.values:
            return {"absent": self.why}
        return {"median": self.median, "min": min(self.values), "max": max(self.values), "runs": self.values,
                "unit": self.unit, "loss": self.lossy}


def number(value, digits=3):
    """Counts as they are; else three significant digits below 1,000, thousands separated everywhere."""
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    value = float(f"{value:.{digits}g}") if abs(value) < 1000 else value
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def ratio(figure, other):
    """figure / other as text: "loss" when datagrams were lost in either."""
    if not figure.values or not other.values:
        return "—"
    if figure.lossy or other.lossy:
        return "loss"
    return f"{number(float(figure.median / other.median))} ×" if other.median else "—"


class Table:
    def __init__(self, title, columns, notes=()):
        self.title = title
        self.columns = columns
        self.rows = []
        self.notes = list(notes)

    def add(self, *cells):
        assert len(cells) == len(self.columns), cells
        self.rows.append([str(cell) for cell in cells])

    def text(self):
        lines = [self.columns] + self.rows
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]

        def aligned(line):
            first, *rest = zip(line, widths)
            return "  ".join([first[0].ljust(first[1])] + [cell.rjust(width) for cell, width in rest]).rstrip()
        return "\n".join([self.title, aligned(self.columns), "  ".join("-" * width for width in widths)]
                         + [aligned(row) for row in self.rows] + self.notes)

    def markdown(self):
        rows = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1)] + self.rows
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([f"**{self.title}**", ""] + lines + [""] + self.notes)

    def json(self):
        return {"title": self.title, "columns": self.columns, "rows": self.rows, "notes": self.notes}


class Result:
    """What a bench hands back: tables for people, figures for programs."""

    def __init__(self):
        self.tables = []
        self.figures = {}
        self.files = []

    def table(self, *arguments, **options):
        self.tables.append(Table(*arguments, **options))
        return self.tables[-1]

    def figure(self, name, figure):
        self.figures[name] = figure
        return figure


def figures_json(value):
    """Figures anywhere inside lists and dictionaries, as plain data."""
    if isinstance(value, Figure):
        return value.json()
    if isinstance(value, dict):
        return {str(key): figures_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [figures_json(item) for item in value]
    return value
