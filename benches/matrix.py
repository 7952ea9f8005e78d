# SPDX-License-Identifier: MIT OR Apache-2.0
"""The matrix of run.sh: devices x patterns x depths x engines, by fio. See there."""

import argparse
import csv
import json
import os
import re
import resource
import statistics
import subprocess
import sys

BATCH = 16
# MiB, of each target.
SIZE = 1000
DEPTHS = [1, 8, 32, 128]
PATTERNS = {
    "randread": ["--rw=randread"],
    "randwrite": ["--rw=randwrite"],
    "read": ["--rw=read"],
    "fsync": ["--rw=randwrite", "--fdatasync=8"],
}
SMALL = list(PATTERNS)
# What people load models and write logs with: one request a call, few in flight.
LARGE = {"%s %s" % (way, size): ["--rw=" + way, "--bs=" + size] for way in ("read", "write") for size in ("128k", "1m", "8m")}
# Reads that do not follow each other, but ascend; and one a call.
SHAPES = {
    "stride read": ["--rw=read:60k"],
    "single randread": ["--rw=randread"],
}
PATTERNS |= LARGE | SHAPES
ONE_A_CALL = [*LARGE, "single randread"]
# name: target, fio's options. Cold: the page cache is dropped before each run, and no block is read twice.
DEVICES = {
    "zram": ("zram", ["--direct=1"]),
    "loop": ("loop", ["--direct=1"]),
    "direct": ("file", ["--direct=1"]),
    "cold": ("file", ["--direct=0", "--invalidate=1"]),
    "hot": ("file", ["--direct=0", "--invalidate=0", "--norandommap"]),
}
QUICK = [
    ("zram", "randread", 1),
    ("zram", "randread", 32),
    ("zram", "randread", 128),
    ("zram", "randwrite", 32),
    ("loop", "randread", 32),
    ("loop", "randread", 128),
    ("direct", "randread", 32),
    ("direct", "randread", 128),
    ("cold", "randread", 128),
]

ALL = (
    [(device, pattern, depth) for device in DEVICES for pattern in SMALL for depth in DEPTHS]
    + [(device, pattern, depth) for device in ("direct", "hot", "cold") for pattern in LARGE for depth in (1, 4, 16)
       if device != "cold" or "read" in pattern]
    + [(device, pattern, depth) for device in ("loop", "direct") for pattern in SHAPES for depth in (8, 32, 128)]
)


def goal(cell):
    """What we want beside the peers: at least so many IOPS as the best one's, at most so much p99 as that one's, and so much processor time as the
    cheaper one of libaio and io_uring. None: anything."""
    device, pattern, depth = cell
    if pattern in LARGE:
        return 1, 1.1, 1.1
    if depth == 1 and device in ("zram", "hot"):
        return 0.92, 1.2, None
    if device == "zram":
        return 1.7 if pattern == "randwrite" else 1.3, 1.1, 1.3
    if device == "hot":
        return 1.3, 1.1, 1.1
    return 1, 1.05, 1.15


# Cells for the ablation: each kind of device and pattern, alone and with many in flight.
ABLATION = [
    (device, pattern, depth)
    for device in ("zram", "loop", "direct", "hot")
    for pattern in ("randread", "randwrite")
    for depth in (1, 32)
] + [("cold", "randread", 32), ("direct", "fsync", 32)]
NEVER = 2**32 - 1
# name: the numbers of src/policy/tuning.rs without which that is switched off. Those of the second list matter to libaio's calls.
# The first changes nothing: what it seems to lose is what the machine makes of it.
HEURISTICS = {
    "nothing": "",
    "callers carry out fast requests": "fast_ns=0",
    "a new file is like its family": "young=0",
    "no worker for trivial requests": "trivial_ns=0",
    "a caller carries out a bounded request": "bounded_ns=0",
    "no worker is woken for a prompt caller": "prompt_in_a_row=%d" % NEVER,
    "a returning caller hands over": "back_in_a_row=%d" % NEVER,
    "a submitter hands over": "submit_hint_max=0",
    "a thread takes several": "takes=1",
    "merging": "batch_bytes=4096",
    "samples of device-bound files": "device_bound_sample=%d" % 2**31,
    "half the cost of a hand-over": "hand_over_ns=8000",
    "twice the cost of a hand-over": "hand_over_ns=32000",
    "half as many in a row": "in_a_row=16",
}
LIBAIO_HEURISTICS = {
    "reads within io_submit": "at_submit_ns=0",
    "hand-over within io_submit": "without_wait=%d,back_in_a_row=%d" % (NEVER, NEVER),
    "threads stay awake": "soon_in_a_row=%d" % NEVER,
} | {name: HEURISTICS[name] for name in ("nothing", "merging", "half the cost of a hand-over",
                                         "twice the cost of a hand-over")}


FIXED_BUFFERS = "--fixedbufs"


def engines(root):
    """name: (options, directory of libraries, whether it is ours)"""
    ours = ["--ioengine=external:" + os.path.join(root, "build/fio/aio2-engine.so"), "--submit_latency=1"]
    lib = os.path.join(root, "build/lib")
    return {
        "aio2": (ours, lib, True),
        "aio2 ring": (ours + ["--userspace_reap=1"], lib, True),
        "drop-in": (["--ioengine=libaio"], os.path.join(lib, "aio2"), True),
        "libaio": (["--ioengine=libaio"], None, False),
        "io_uring": (["--ioengine=io_uring"], None, False),
        "io_uring registered": (["--ioengine=io_uring", "--registerfiles", FIXED_BUFFERS], None, False),
        "posixaio": (["--ioengine=posixaio"], None, False),
        "psync": (["--ioengine=psync"], None, False),
        # The limit of threads: not a peer, as it is no single job.
        "psync, depth threads": (["--ioengine=psync", "--group_reporting"], None, True),
    }


def without(root):
    """The engines of the ablation: the library with the test hooks, as it is, and with each heuristic switched off."""
    lib = os.path.join(root, "build/hooks-lib")
    v2, _, ours = engines(root)["aio2"]
    all_engines = {"as it is": (v2, lib, ours)}
    for name, tuning in HEURISTICS.items():
        all_engines["not: " + name] = (v2, lib, ours, tuning)
    libaio = ["--ioengine=libaio"]
    all_engines["libaio: as it is"] = (libaio, os.path.join(lib, "aio2"), ours)
    for name, tuning in LIBAIO_HEURISTICS.items():
        all_engines["libaio: not: " + name] = (libaio, os.path.join(lib, "aio2"), ours, tuning)
    return all_engines


def before_and_after(root, before):
    """The engines of this checkout and of another one, which is built."""
    mine, other = engines(root), engines(before)
    return {name: engine for of in ("aio2", "drop-in") for name, engine in ((of + BEFORE, other[of]), (of, mine[of]))}


BEFORE = ", before"
RAMP = 0.2


def fio(command, environment):
    """Runs it; what it prints, and the CPU time of all its threads, the kernel's for it included, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def overhead(target):
    """CPU time of a fio that does next to nothing."""
    command = ["fio", "--name=job", "--filename=" + target, "--size=4k", "--bs=4k", "--rw=read", "--thread", "--output-format=json"]
    return statistics.median(fio(command, None)[1] for _ in range(3))


def measure(engine, cell, target, seconds, base):
    """One run: IOPS (syncs included), p50 and p99 (from before an I/O is submitted), CPU time of an I/O, and p99.9 of io_submit2, or None, all in
    microseconds. None if this engine cannot."""
    device, pattern, depth = cell
    options, libraries, _, *tuning = engine
    if pattern == "fsync":
        # With them fio's io_uring asks for syncs in a way that the kernel refuses at once, and takes no notice of that: there are none.
        options = [option for option in options if option != FIXED_BUFFERS]
    batch = 1 if pattern in ONE_A_CALL else min(depth, BATCH)
    size = "%dM" % SIZE
    environment = dict(os.environ)
    if libraries:
        environment["LD_LIBRARY_PATH"] = libraries
    if tuning:
        environment["AIO2_TUNING"] = tuning[0]
    command = ["fio", "--name=job", "--filename=" + target, "--bs=4k", "--thread"]
    if device != "cold":
        # Else it would come to what is in the page cache by then.
        command.append("--time_based")
    command += ["--runtime=%dms" % (seconds * 1000), "--ramp_time=%dms" % (RAMP * 1000), "--output-format=json", "--randrepeat=0"]
    command += ["--lat_percentiles=1", "--clat_percentiles=0"]
    if "--group_reporting" in options:
        if depth == 1:
            return None
        command.append("--numjobs=%d" % depth)
        if device == "cold":
            # Each its own part, so that nobody finds in the page cache what another has read.
            size = "%dk" % (SIZE * 1024 // depth // 4 * 4)
            command.append("--offset_increment=" + size)
        depth = 1
    command.append("--size=" + size)
    command += ["--iodepth=%d" % depth, "--iodepth_batch_submit=%d" % batch, "--iodepth_batch_complete_min=1"]
    command += ["--iodepth_batch_complete_max=%d" % batch] + DEVICES[device][1] + PATTERNS[pattern] + options
    done, cpu = fio(command, environment)
    # Two clock reads for a batch: it does not cost what it measures.
    submit = re.search(r"submit +\(usec\):.* p99\.9=([0-9.]+)", done.stderr)
    try:
        job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    except (ValueError, KeyError, IndexError):
        return None
    side = job["read"] if "read" in pattern else job["write"]
    if done.returncode != 0 or job["error"] != 0 or not side["iops"]:
        return None
    percentiles = side["lat_ns"]["percentile"]
    # fio gives asynchronous engines several syncs at a time, and with that more of them for as many writes than it gives others.
    took = side["runtime"] / 1e3
    iops = side["iops"] + job["sync"]["lat_ns"]["N"] / took
    cpu = (cpu - base) / (iops * (took + RAMP)) * 1e6
    return iops, percentiles["50.000000"] / 1e3, percentiles["99.000000"] / 1e3, cpu, float(submit[1]) if submit else None


def run_cell(cell, target, all_engines, rounds, seconds):
    results = {name: [] for name in all_engines}
    if cell[0] != "cold":
        # The first one is not to be the one that finds caches empty: of the file behind a loop device, for example.
        subprocess.run(["fio", "--name=warm", "--filename=" + target, "--size=%dM" % SIZE, "--rw=read", "--bs=1M", "--invalidate=0"]
                       + DEVICES[cell[0]][1], stdout=subprocess.DEVNULL, check=True)
    base = overhead(target)
    order = list(all_engines.items())
    for _ in range(rounds):
        # So that it is not always the same one that comes first.
        order.append(order.pop(0))
        for name, engine in order:
            # An engine that makes one request at a time is a peer at each depth; the others need not be asked twice.
            if results[name] is not None:
                result = measure(engine, cell, target, seconds, base)
                results[name] = None if result is None else results[name] + [result]
    return {name: result for name, result in results.items() if result}


def summarize(cell, results, all_engines):
    """Rows for the table, and ours by the best peer's, round by round."""
    peers = [name for name in results if not all_engines[name][2]]
    medians = {name: [None if runs[0][i] is None else statistics.median(run[i] for run in runs) for i in range(5)]
               for name, runs in results.items()}
    best = max(peers, key=lambda name: medians[name][0]) if peers else None
    cheapest = min((name for name in peers if name.startswith(("libaio", "io_uring"))), key=lambda name: medians[name][3], default=None)

    def beside(name, other, i):
        """The median of the rounds' ratios."""
        return statistics.median(mine[i] / its[i] for mine, its in zip(results[name], results[other])) if other else None

    rows = []
    for name, (iops, p50, p99, cpu, submit) in medians.items():
        ratios = [mine[0] / other[0] for mine, other in zip(results[name], results[best])] if best else []
        rows.append({
            "device": cell[0], "pattern": cell[1], "depth": cell[2], "engine": name,
            "iops": round(iops), "p50_us": round(p50, 1), "p99_us": round(p99, 1), "cpu_us": round(cpu, 2),
            "submit_p999_us": "" if submit is None else round(submit, 1),
            "best_peer": best or "", "ratio": round(statistics.median(ratios), 3) if ratios else "",
            "ratio_min": round(min(ratios), 3) if ratios else "", "ratio_max": round(max(ratios), 3) if ratios else "",
            "p99_ratio": round(beside(name, best, 2), 3) if best else "",
            "cpu_ratio": round(beside(name, cheapest, 3), 3) if cheapest else "",
        })
    return rows


def shortfall(rows):
    """A line for each of our engines: in how many cells it is short of what, for those that have peers there."""
    for name in ("aio2", "aio2 ring", "drop-in"):
        mine = [row for row in rows if row["engine"] == name and row["best_peer"]]
        goals = [goal((row["device"], row["pattern"], row["depth"])) for row in mine]
        iops = sum(row["ratio"] < wanted[0] for row, wanted in zip(mine, goals))
        p99 = sum(row["p99_ratio"] > wanted[1] for row, wanted in zip(mine, goals))
        cpu = sum(row["cpu_ratio"] != "" and wanted[2] is not None and row["cpu_ratio"] > wanted[2] for row, wanted in zip(mine, goals))
        yield "%s: of %d cells short of the goal in IOPS in %d, in p99 in %d, in processor time in %d" % (name, len(mine), iops, p99, cpu)


def compare(results, base_of):
    """Each engine that has a base, and its IOPS, p99 and CPU time by the base's: the medians of the rounds."""
    for name, runs in results.items():
        base = results.get(base_of(name))
        if base:
            yield name, [statistics.median(run[i] / other[i] for run, other in zip(runs, base)) for i in (0, 2, 3)]


def effects(cell, results):
    """What is lost without each heuristic, beside the library as it is."""
    def base_of(name):
        return None if "not: " not in name else "libaio: as it is" if name.startswith("libaio: ") else "as it is"

    for name, (iops, p99, cpu) in compare(results, base_of):
        lost = iops < 0.9 or p99 > 1.1 or cpu > 1.1
        yield {"device": cell[0], "pattern": cell[1], "depth": cell[2], "without": name.replace("not: ", ""), "iops": round(iops, 2),
               "p99": round(p99, 2), "cpu": round(cpu, 2), "lost": int(lost)}


def print_before_and_after(targets, all_engines, cells, rounds, seconds):
    print("%d rounds of %g s; ratios are to the library before" % (rounds, seconds))
    for cell in cells:
        target = targets.get(DEVICES[cell[0]][0])
        if target is None:
            continue
        results = run_cell(cell, target, all_engines, rounds, seconds)
        for name, ratios in compare(results, lambda name: name + BEFORE):
            print("%-6s %-10s %3d %-8s IOPS %.2f, p99 %.2f, CPU %.2f" % (*cell, name, *ratios))
        sys.stdout.flush()


def ablation(directory, targets, root, cells, rounds, seconds):
    rows = []
    for cell in cells:
        target = targets.get(DEVICES[cell[0]][0])
        if target is None:
            continue
        rows += effects(cell, run_cell(cell, target, without(root), rounds, seconds))
        with open(os.path.join(directory, "ablation.csv"), "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        print("%s, %s, depth %d" % cell)
        sys.stdout.flush()
    print("\n%-50s %s" % ("without", "cells that lose 10 % (IOPS, p99 or CPU time)"))
    for name in dict.fromkeys(row["without"] for row in rows):
        lost = ["%s/%s/%d %s %s %s" % tuple(row[k] for k in ("device", "pattern", "depth", "iops", "p99", "cpu")) for row in rows
                if row["without"] == name and row["lost"]]
        print("%-50s %s" % (name, "; ".join(lost) or "-"))


def picture(path, rows):
    """A bar for each engine of each cell."""
    cells = []
    for row in rows:
        cell = (row["device"], row["pattern"], row["depth"])
        if cell not in cells:
            cells.append(cell)
    names = list(dict.fromkeys(row["engine"] for row in rows))
    colours = ["#b2182b", "#ef8a62", "#fddbc7", "#2166ac", "#67a9cf", "#053061", "#999999", "#4d4d4d", "#c7c7c7"]
    width, left, line = 1000, 190, 11
    height = 60 + sum(18 + line * len([r for r in rows if (r["device"], r["pattern"], r["depth"]) == c]) for c in cells)
    svg = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="10">'
           % (width, height), '<rect width="100%" height="100%" fill="white"/>',
           '<text x="8" y="18" font-size="13">I/O operations per second beside the best of each cell (longer is better)</text>']
    for i, name in enumerate(names):
        svg.append('<rect x="%d" y="28" width="9" height="9" fill="%s"/><text x="%d" y="36">%s</text>'
                   % (8 + i * 105, colours[i % len(colours)], 20 + i * 105, name))
    y = 52
    for cell in cells:
        these = [r for r in rows if (r["device"], r["pattern"], r["depth"]) == cell]
        most = max(r["iops"] for r in these)
        svg.append('<text x="8" y="%d">%s</text>' % (y + 10, "%s, %s, depth %d" % cell))
        for row in these:
            length = (width - left - 90) * row["iops"] / most
            colour = colours[names.index(row["engine"]) % len(colours)]
            svg.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (left, y + 2, length, line - 2, colour))
            svg.append('<text x="%.1f" y="%d" font-size="8">%d</text>' % (left + length + 4, y + 9, row["iops"]))
            y += line
        y += 18
    svg.append("</svg>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(svg) + "\n")


def save(directory, rows):
    """After each cell: the whole matrix takes more than an hour, and may be interrupted."""
    with open(os.path.join(directory, "matrix.csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    picture(os.path.join(directory, "matrix.svg"), rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--before")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("cells", nargs="*", help="DEVICE/PATTERN/DEPTH, or a beginning of that")
    arguments = parser.parse_args()
    targets = dict(target.split("=", 1) for target in arguments.target)
    cells = QUICK if arguments.quick else ABLATION if arguments.ablation else ALL
    if arguments.cells:
        cells = [c for c in cells if any(("%s/%s/%d" % c).startswith(wanted) for wanted in arguments.cells)]
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    seconds = arguments.seconds or 1
    if arguments.ablation:
        return ablation(arguments.out, targets, arguments.root, cells, rounds, seconds)
    if arguments.before:
        return print_before_and_after(targets, before_and_after(arguments.root, arguments.before), cells, rounds, seconds)
    all_engines = engines(arguments.root)
    rows = []
    print("%d rounds of %g s; ratios are to the best peer, which is marked; of processor time (CPU), to the cheaper one of libaio and io_uring"
          % (rounds, seconds))
    for cell in cells:
        target = targets.get(DEVICES[cell[0]][0])
        if target is None:
            continue
        some = summarize(cell, run_cell(cell, target, all_engines, rounds, seconds), all_engines)
        rows += some
        print("\n%s, %s, depth %d" % cell)
        print("  %-22s %9s %9s %9s %8s %13s   %s" % ("", "IOPS", "p50 us", "p99 us", "CPU us", "submit p99.9", "ratio (range), p99, CPU"))
        for row in some:
            ratio = "%.2f (%.2f to %.2f)" % (row["ratio"], row["ratio_min"], row["ratio_max"]) if row["ratio"] != "" else ""
            ratio += "".join(", %.2f" % row[what] for what in ("p99_ratio", "cpu_ratio") if row[what] != "")
            print("%s %-22s %9d %9.1f %9.1f %8.2f %13s   %s" % ("*" if row["engine"] == row["best_peer"] else " ", row["engine"],
                  row["iops"], row["p50_us"], row["p99_us"], row["cpu_us"], row["submit_p999_us"], ratio))
        sys.stdout.flush()
        save(arguments.out, rows)
    print()
    for line in shortfall(rows):
        print(line)


main()
