# SPDX-License-Identifier: MIT
"""What one datagram costs at which rate, with an ordinary sender: one send() per datagram, evenly spaced. Waking up
dominates at low rates, the work itself at high ones. The floor is the least that the full job can cost without holdfast:
the bare loop, write() of the same bytes with fdatasync every second, and the decimated sends."""

import machine
import report
import systems

SIZE = 800


class BareGro(systems.Bare):
    name = "bare loop with UDP_GRO"
    options = ("--gro", "yes")


class Floor(systems.Bare):
    name = "floor: bare loop, write(), decimated sends"
    records = True

    def start(self):
        self.folder = self.bench.disk_folder("floor")
        super().start()

    def extra(self, index, route):
        return ("--file", self.folder / str(index), "--decimated", route.decimated)

    def stop(self):
        super().stop()
        systems.shutil.rmtree(self.folder, ignore_errors=True)


class HoldfastBatchDelay(systems.Holdfast):
    name = "holdfast, full job, batch_delay = 1ms"
    settings = {"batch_delay": "1ms"}


SYSTEMS = [systems.Holdfast, systems.HoldfastRelayRecord, systems.HoldfastRelay, HoldfastBatchDelay,
           systems.HoldfastOffload, Floor, systems.Bare, BareGro, systems.Socat]


def measure(bench, kind, route, rates, figures):
    system = kind(bench, [route])
    try:
        system.start()
    except systems.Absent as absent:
        for figure in figures.values():
            figure.why = str(absent)
        return
    seconds = bench.choose(2.0, 0.3)
    also = [route.decimated] if getattr(system, "decimate", False) or kind is Floor else []
    try:
        for rate in rates:
            for counts in (False, True):  # memory that is touched for the first time is not the subject
                machine.touch_memory((64 << 20) + int(rate * seconds * SIZE * 3))
                mark, before = system.mark(), system.cpu_ns()
                result = bench.traffic([route.listen], [route.to], also, rate=rate, size=SIZE, segments=1,
                                       count=max(64, int(rate * (seconds if counts else 0.2))), idle_ms=150)
                lost = system.settle(mark, result["sent"], result)
                cost = (system.cpu_ns() - before) / result["sent"]
            reached = result["rate"] >= 0.95 * rate
            bench.say(f"{system.name}, {rate:,}/s: {cost:.0f} ns, {lost} lost, sent at {result['rate']:,.0f}/s")
            if reached:
                figures[rate].add(cost, lost > 0)
            elif not figures[rate].values:
                figures[rate].why = f"the sender reached {result['rate']:,.0f}/s"
    finally:
        system.stop()


def run(bench):
    route = systems.Route(bench.address(0, 13000), bench.address(1, 13001), bench.address(1, 13002))
    rates = bench.choose((1000, 5000, 20000, 50000, 100000, 200000, 400000), (20000, 100000))
    figures = {kind.name: {rate: report.Figure(unit="ns") for rate in rates} for kind in SYSTEMS}
    for _ in range(bench.choose(3, 1)):
        for kind in SYSTEMS:
            measure(bench, kind, route, rates, figures[kind.name])
    table = bench.result.table(
        f"CPU per datagram against rate, {SIZE} B, one send() per datagram, evenly spaced",
        ["system"] + [f"{rate:,}/s" for rate in rates],
        ["CPU is user + system time of all processes of the system under test, in parentheses what the full job is of it; "
         f"it has {len(bench.pinning.under_test)} CPU(s)."])
    full = figures[systems.Holdfast.name]
    for kind in SYSTEMS:
        row = figures[kind.name]
        table.add(kind.name, *(f"{row[rate]} ({report.ratio(full[rate], row[rate])})" for rate in rates))
    bench.result.figures["rate"] = {name: {str(rate): figure for rate, figure in row.items()}
                                    for name, row in figures.items()}
