# SPDX-License-Identifier: MIT
"""What one datagram costs, and how many per second go through without a loss: holdfast, the bare loop, the peers."""

import report
import systems

SYSTEMS = [systems.Holdfast, systems.HoldfastOffload, systems.HoldfastRelay, systems.Bare, systems.Socat, systems.Nginx,
           systems.HoldfastRecord, systems.Tcpdump]
COMMON_RATE = 60000
FIRST_RATE = 50000
CLOSE_ENOUGH = 1.06  # lowest lossy rate / highest loss-free rate at which the search ends
SEARCH_TRIALS = 14


class Trial:
    def __init__(self, system, route, rate, size, seconds):
        bench = system.bench
        on = [route.to] if system.relays or isinstance(system, systems.Tcpdump) else []
        also = [route.decimated] if getattr(system, "decimate", False) else []
        to = [route.to] if isinstance(system, systems.Tcpdump) else [route.listen]
        mark = system.mark()
        before = system.cpu_ns()
        result = bench.traffic(to, on, also, rate=rate, count=max(64, int(rate * seconds)), size=size,
                               segments=system.segments, idle_ms=150)
        self.sent = result["sent"]
        self.rate = result["rate"]
        self.lost = system.settle(mark, self.sent, result)
        self.cpu_ns = (system.cpu_ns() - before) / self.sent
        self.sink_lost = result["sink_dropped"]
        self.limited = self.rate < 0.95 * rate
        # Memory that filled up during the run is no throughput.
        self.good = self.lost == 0 and system.drain_s < 0.03 + 0.03 * seconds


def trial(system, route, rate, size, seconds):
    """A failure counts when it happens twice: one hiccup of the machine is not the system's limit."""
    first = Trial(system, route, rate, size, seconds)
    return first if first.good else Trial(system, route, rate, size, seconds)


def search(system, route, size, start, seconds):
    """The highest loss-free rate: (trial there, was the sender the limit). None when even a trickle is lost."""
    best, worst, rate = None, None, start
    for _ in range(SEARCH_TRIALS):
        now = trial(system, route, int(rate), size, seconds)
        system.bench.say(f"{system.name}, {size} B: {now.rate:,.0f}/s, {now.lost} lost, {now.cpu_ns:.0f} ns")
        if now.good:
            best = now if best is None or now.rate > best.rate else best
            if now.limited:
                return best, True
        else:
            worst = rate
        if best and worst and worst / best.rate < CLOSE_ENOUGH:
            break
        if worst is None:
            rate *= 1.15 if start != FIRST_RATE else 1.8
        elif best is None:
            rate *= 0.9 if start != FIRST_RATE else 0.5
            if rate < 500:
                break
        else:
            rate = (best.rate + worst) / 2
    return best, False


class Row:
    def __init__(self, why=""):
        self.common = report.Figure(unit="ns", why=why)
        self.saturated = report.Figure(unit="ns", why=why)
        self.highest = report.Figure(unit="/s", why=why)
        self.sender_limit = False


def measure(bench, kind, route, size, row):
    system = kind(bench, [route])
    try:
        system.start()
    except systems.Absent as absent:
        for figure in (row.common, row.saturated, row.highest):
            figure.why = str(absent)
        return
    try:
        seconds = bench.choose(1.0, 0.25)
        Trial(system, route, COMMON_RATE, size, 0.3)  # memory that is touched for the first time is not the subject
        common = trial(system, route, COMMON_RATE, size, seconds)
        row.common.add(common.cpu_ns, common.lost > 0)
        start = row.highest.median * 0.95 if row.highest.values else FIRST_RATE
        best, limited = search(system, route, size, start, bench.choose(0.5, 0.2))
        if best:
            row.highest.add(best.rate)
            row.saturated.add(best.cpu_ns)
            row.sender_limit = row.sender_limit or limited
    finally:
        system.stop()


def tabulate(bench, size, rows):
    full, socat, bare = (rows[kind.name] for kind in (systems.Holdfast, systems.Socat, systems.Bare))
    table = bench.result.table(
        f"Relay cost, {size} B",
        ["system", f"CPU at {COMMON_RATE:,}/s", "CPU at its highest rate", "of bare", "of socat",
         "highest loss-free rate", "full job is"],
        ["CPU is user + system time of all processes per datagram. The system under test has "
         f"{len(bench.pinning.under_test)} CPU(s)."])
    for kind in SYSTEMS:
        row = rows[kind.name]
        highest = ("≥ " if row.sender_limit else "") + str(row.highest)
        table.add(kind.name, row.common, row.saturated, report.ratio(row.saturated, bare.saturated),
                  report.ratio(row.saturated, socat.saturated), highest, report.ratio(full.highest, row.highest))
    if any(row.sender_limit for row in rows.values()):
        table.notes.append("≥: the sender could not send faster.")
    bench.result.figures[f"{size}"] = {
        name: {"cpu_at_common_rate": row.common, "cpu_at_highest_rate": row.saturated, "highest_rate": row.highest,
               "sender_limit": row.sender_limit} for name, row in rows.items()}


def run(bench):
    route = systems.Route(bench.address(0, 13000), bench.address(1, 13001), bench.address(1, 13002))
    for size in bench.choose((64, 256, 800, 1472), (800,)):
        rows = {kind.name: Row() for kind in SYSTEMS}
        for _ in range(bench.choose(3, 1)):
            for kind in SYSTEMS:
                measure(bench, kind, route, size, rows[kind.name])
        tabulate(bench, size, rows)
