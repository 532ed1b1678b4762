"""Calls that must not type-check, each with the code of mypy's complaint. Never run; see test_typed.py."""

import io

import corefilt

corefilt.filter("core", "out")  # type: ignore[call-arg]
corefilt.filter("core", "out", 0x33)  # type: ignore[call-arg]
corefilt.filter("core", "out", filter=3.3)  # type: ignore[arg-type]
corefilt.filter("core", "out", filter=None)  # type: ignore[arg-type]
corefilt.filter("core", "out", filter=["default"])  # type: ignore[arg-type]
corefilt.filter(io.StringIO(), "out", filter=0x33)  # type: ignore[arg-type]
corefilt.filter("core", "out", filter=0x33, assume=1)  # type: ignore[arg-type]
corefilt.filter("core", "out", filter=0x33, assumed=["a=private-dax"])  # type: ignore[call-arg]
corefilt.filter("core", "out", filter=0x33, pid="1")  # type: ignore[arg-type]
corefilt.filter("core", "out", filter=0x33, loadmaps=(1, 2, 3))  # type: ignore[arg-type]
corefilt.filter("core", "out", filter=0x33, threads="two")  # type: ignore[arg-type]
corefilt.filter("core", "out", filter=0x33, values={"h": 1})  # type: ignore[dict-item]
corefilt.open()  # type: ignore[call-arg]
corefilt.open(["core"])  # type: ignore[arg-type]
corefilt.open("core", max_headers=6.4)  # type: ignore[arg-type]
corefilt.open("core", True)  # type: ignore[call-arg]

core = corefilt.open("core")
core.plan()  # type: ignore[call-arg]
core.plan(0x33, "keep")  # type: ignore[call-arg]
core.plan(0x33).write()  # type: ignore[call-arg]
core.plan(0x33).kept("0")  # type: ignore[arg-type]
core.mappings = []  # type: ignore[misc]
core.mappings[0].kind = "special"  # type: ignore[misc]
core.mappings[0].path.encode()  # type: ignore[union-attr]
report = core.plan(0x33).write("out")
print(report.seconds + report.engine)  # type: ignore[operator]
print(report.kept)  # type: ignore[attr-defined]
print(corefilt.CoredumpFilter.DEFAUT)  # type: ignore[attr-defined]
print(corefilt.filter_bits)  # type: ignore[attr-defined]
