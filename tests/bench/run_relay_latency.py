# SPDX-License-Identifier: MIT
"""How late a datagram leaves the relay while recording goes on and the kernel writes back: ten channels at a steady
rate, from the sender's clock just before send(2) to the kernel's receive time at the sink."""

import collections
import math
import shutil
import subprocess

import report
import systems

SYSTEMS = [systems.HoldfastRelayRecord, systems.WriteRelay, systems.Bare, systems.Socat]
CHANNELS = 10
RATE = 5000  # per channel
SIZE = 800
PERCENTILES = [("p50", 50), ("p99", 99), ("p99.9", 99.9), ("max", 100)]


def percentile(counts, p):
    """counts: [(value, count)], ascending."""
    total = sum(count for _, count in counts)
    wanted = max(1, math.ceil(total * p / 100))
    for value, count in counts:
        wanted -= count
        if wanted <= 0:
            return value
    return counts[-1][0] if counts else 0


class Distribution:
    def __init__(self):
        self.figures = {name: report.Figure(unit="us") for name, _ in PERCENTILES}
        self.counts = collections.Counter()
        self.lost = 0
        self.why = ""

    def add(self, result, lost):
        counts = [tuple(entry) for entry in result["latency"]]
        for name, p in PERCENTILES:
            value = result["latency_max_ns"] if name == "max" else percentile(counts, p)
            self.figures[name].add(value / 1000, lost > 0)
        for value, count in counts:
            self.counts[value] += count
        self.lost += lost


def measure(bench, kind, routes, seconds, distribution):
    system = kind(bench, routes)
    try:
        system.start()
    except systems.Absent as absent:
        for figure in distribution.figures.values():
            figure.why = str(absent)
        return
    try:
        to = [route.listen for route in routes]
        on = [route.to for route in routes]
        options = {"size": SIZE, "segments": 1, "latency": 1, "coalesce_us": 0, "rate": RATE * CHANNELS}
        bench.traffic(to, on, count=RATE * CHANNELS, **options)  # a second to warm up
        mark = system.mark()
        result = bench.traffic(to, on, count=RATE * CHANNELS * seconds, **options)
        lost = system.settle(mark, result["sent"], result)
        distribution.add(result, lost)
        bench.say(f"{system.name}: p50 {distribution.figures['p50']}, p99 {distribution.figures['p99']}, {lost} lost")
    finally:
        system.stop()


def curve(distribution):
    """(1 / (1 - quantile), microseconds): what gnuplot draws on a logarithmic axis."""
    total = sum(distribution.counts.values())
    seen, points = 0, []
    for value in sorted(distribution.counts):
        seen += distribution.counts[value]
        if seen < total:
            points.append((total / (total - seen), value / 1000))
    return points


def plot(bench, distributions):
    program = shutil.which("gnuplot")
    if not program:
        return None
    curves, script = [], []
    for index, (name, distribution) in enumerate(distributions.items()):
        if not distribution.counts:
            continue
        path = bench.folder / f"curve-{index}.dat"
        path.write_text("".join(f"{x} {y}\n" for x, y in curve(distribution)))
        curves.append(f'"{path}" using 1:2 with lines linewidth 2 title "{name}"')
    image = bench.output / "relay_latency.png"
    script = ["set terminal pngcairo size 1000,600", f'set output "{image}"', "set logscale xy", "set grid",
              f'set title "Wire to relay, {CHANNELS} channels of {RATE}/s, {SIZE} B, recorded"',
              'set xlabel "percentile"', 'set ylabel "microseconds"', "set key below",
              'set xtics ("50" 2, "90" 10, "99" 100, "99.9" 1000, "99.99" 10000, "99.999" 100000, "99.9999" 1000000)',
              "plot " + ", ".join(curves)]
    subprocess.run([program], input="\n".join(script), text=True, check=True, timeout=60, capture_output=True)
    bench.result.files.append(image)
    return image


def run(bench):
    routes = [systems.Route(bench.address(0, 13000 + i), bench.address(1, 14000 + i)) for i in range(CHANNELS)]
    slices, seconds = bench.choose((3, 20), (1, 3))
    distributions = {kind.name: Distribution() for kind in SYSTEMS}
    for _ in range(slices):
        for kind in SYSTEMS:
            measure(bench, kind, routes, seconds, distributions[kind.name])

    bare = distributions[systems.Bare.name]
    table = bench.result.table(
        f"Relay latency, {CHANNELS} channels of {RATE:,}/s, {SIZE} B, {slices * seconds} s each",
        ["system", *(name for name, _ in PERCENTILES), "p50 of bare", "p99 of bare", "lost"])
    for name, distribution in distributions.items():
        figures = distribution.figures
        table.add(name, *figures.values(), report.ratio(figures["p50"], bare.figures["p50"]),
                  report.ratio(figures["p99"], bare.figures["p99"]), report.number(distribution.lost))
        bench.result.figures[name] = {"percentiles": figures, "lost": distribution.lost,
                                      "histogram_ns": sorted(distribution.counts.items())}
    image = plot(bench, distributions)
    table.notes.append(f"Plot: {image}" if image else "No plot: gnuplot is not installed.")
