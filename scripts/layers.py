#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""layers.py: every import in src/ points down, and none closes a circle (docs/architecture.md has the map).

A module is a folder of src/ or a file beside them. What it imports is what its `use` lines, `crate::` paths and `super::`
paths name. Tests within a file are left out. A method that a module adds to the type of a lower one is not seen, nor is a
function that the linker finds (docs/architecture.md names those).
"""

import re
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"

LAYERS = [
    "abi hooks sync sys",
    "registry syscall",
    "request",
    "attr policy profiles ring sharing",
    "engine",
    "queue",
    "personality",
    "process",
]
# Lower modules that are still hidden from some.
HIDDEN = [("personality", "engine")]
# Of the personalities, what the others may name.
SHARED = ["instance"]
LINES_MAX = 700
# Tables of data may have any length.
TABLES = ["syscall/table.rs"]
# The root, and files that are compiled for tests alone.
NO_MODULES = ["header_test.rs", "lib.rs", "models.rs", "tests.rs"]


def code_of(text):
    """The text without comments and literals; a line stays a line."""
    keep_lines = lambda match: "\n" * match[0].count("\n")
    text = re.sub(r'//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', keep_lines, text, flags=re.S)
    # An inline module: its tests are left out, and in another `super` is the file itself.
    text = re.sub(r"^mod tests \{\n.*?^\}", keep_lines, text, flags=re.S | re.M)
    inner = lambda match: re.sub(r"\bsuper::", "self::", match[0])
    return re.sub(r"^(?:pub )?mod \w+ \{\n.*?^\}", inner, text, flags=re.S | re.M)


def paths_of(tree):
    """The paths that a use tree names, as lists of segments."""
    head, brace, rest = tree.partition("{")
    prefix = [segment for segment in head.strip().split("::") if segment]
    if not brace:
        return [[segment.split(" as ")[0].strip() for segment in prefix]]
    parts, depth = [""], 0
    for char in rest[: rest.rindex("}")]:
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [prefix + path for part in parts if part.strip() for path in paths_of(part)]


def module_of(path):
    """The place of a file in the tree of modules."""
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    if parts[-1] == "mod":
        parts.pop()
    parts[-1] = parts[-1].removesuffix("_model")
    return parts


def imports(path):
    """The modules that a file imports, each with the line that does."""
    here = module_of(path)
    code = code_of(path.read_text())
    found = []
    for match in re.finditer(r"\buse ([^;]*);|\b((?:crate|super)(?:::\w+)+)", code):
        line = code.count("\n", 0, match.start()) + 1
        for names in paths_of(match[1] or match[2]):
            if names[0] == "crate":
                found.append((names[1], line))
            elif names[0] == "super":
                ups = next((i for i, name in enumerate(names) if name != "super"), len(names))
                found += [(name, line) for name in (here[:-ups] + names[ups:])[:1]]
    return here[0], found


def circle(graph):
    """A list of modules each of which imports the next, and the last the first; or None."""
    done, way = set(), []

    def walk(module):
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return None
        way.append(module)
        for other in sorted(graph.get(module, ())):
            if found := walk(other):
                return found
        done.add(way.pop())
        return None

    return next((found for module in sorted(graph) if (found := walk(module))), None)


def main():
    layer = {module: number for number, names in enumerate(LAYERS) for module in names.split()}
    faults, graph = [], {}
    for path in sorted(SRC.rglob("*.rs")):
        name = str(path.relative_to(SRC))
        if len(path.read_text().splitlines()) > LINES_MAX and name not in TABLES:
            faults.append(f"src/{name} has more than {LINES_MAX} lines")
        if name in NO_MODULES:
            continue
        module, found = imports(path)
        if module not in layer:
            faults.append(f"src/{name}: {module} has no layer in scripts/layers.py")
        for named in re.findall(r"\bpersonality::(\w+)", code_of(path.read_text())) if module == "personality" else []:
            if module_of(path)[1:2] not in ([named], *([shared] for shared in SHARED)) and named not in SHARED:
                faults.append(f"src/{name}: a personality names {named}, which is another")
        for other, line in found:
            if not {module, other} <= layer.keys() or other == module:
                continue
            graph.setdefault(module, set()).add(other)
            if (module, other) in HIDDEN:
                faults.append(f"src/{name}:{line}: {module} must not know {other}")
            if layer[other] > layer[module]:
                faults.append(f"src/{name}:{line}: {module} (layer {layer[module]}) imports {other} (layer {layer[other]})")
    if re.search(r"^(pub )?use ", (SRC / "lib.rs").read_text(), flags=re.M):
        faults.append("src/lib.rs: a name for a module would hide who imports it")
    if found := circle(graph):
        faults.append("a circle: " + " -> ".join(found + found[:1]))
    print("\n".join(faults) if faults else f"{sum(map(len, graph.values()))} imports, all of which point down")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
