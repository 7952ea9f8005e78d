#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""diff.py REAL OURS ALLOWED HOW: compares what diff.c printed; fails but for the differences that ALLOWED lists.

A line of ALLOWED is `SECTION | LINE | OURS | REASON`: in that section the real library prints LINE (a regular expression
for the whole line) and ours, in its place, OURS (likewise; empty: no line). SECTION@HOW: only if ours was used that way (run, path). What is listed and does not occur is
reported as well, without failing: it may depend on the kernel's version."""
import difflib
import re
import sys


def sections(path):
    found, name = {}, None
    for line in open(path, errors="replace").read().splitlines():
        start = re.fullmatch(r"==== (\w+)", line)
        if start:
            name = start[1]
            found[name] = []
        else:
            found.setdefault(name, []).append(line)
    return found


real, ours = sections(sys.argv[1]), sections(sys.argv[2])
allowed = []
for number, line in enumerate(open(sys.argv[3]), 1):
    if line.strip() and not line.startswith("#"):
        parts = line.rstrip("\n").split(" | ")
        if len(parts) != 4 or not parts[3]:
            sys.exit(f"{sys.argv[3]}:{number}: not `SECTION | LINE | OURS | REASON`")
        section, _, how = parts[0].partition("@")
        if how in ("", sys.argv[4]):
            allowed.append([section] + parts[1:] + [0])


def is_allowed(section, a, b):
    for entry in allowed:
        if re.fullmatch(entry[0], section) and re.fullmatch(entry[1], a or "") and re.fullmatch(entry[2], b or ""):
            entry[4] += 1
            return True
    return False


bad = 0
for section in list(real) + [name for name in ours if name not in real]:
    a, b = real.get(section, []), ours.get(section, [])
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        for k in range(max(i2 - i1, j2 - j1)):
            x = a[i1 + k] if i1 + k < i2 else None
            y = b[j1 + k] if j1 + k < j2 else None
            if is_allowed(section, x, y):
                continue
            if bad == 0 or last != section:
                print(f"[{section}]")
            last = section
            # A line that says what this is about, where the differing one does not.
            about = ""
            if (x or y).startswith("  "):
                about = next((line for line in reversed(a[:i1 + k]) if not line.startswith("  ")), "")
            print(f"  real: {x}{'   <- ' + about if about else ''}\n  ours: {y}")
            bad += 1
lines = sum(len(x) for x in real.values())
for entry in allowed:
    if any(re.fullmatch(entry[0], name) for name in real) and not entry[4]:
        print(f"listed, but it does not occur: {entry[0]} | {entry[1]}")
print(f"{lines} lines, {bad} differ")
sys.exit(bad != 0)
