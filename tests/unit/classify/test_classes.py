"""Mappings are decided by classes: what is found of each is what the rules find of it alone."""

from __future__ import annotations

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import FileEntry, Load, kernel_notes, make_core, page
from support.opening import opened
from support.strategies import cores

from corefilt.classify.classifier import Classifier, classifier_for
from corefilt.classify.findings import Findings
from corefilt.evidence.gather import gather

PAGE = 4096
PATHS = ("/data/table", "/usr/share/x", "/dev/zero (deleted)", "/memfd:m (deleted)", "/SYSV0 (deleted)", "/a/b.so")


def check(classifier: Classifier) -> None:
    alone = [classifier.decide(m) for m in range(len(classifier.parts))]
    assert list(classifier.decide_all()) == alone


@settings(max_examples=100)
@given(cores(), st.booleans())
def test_the_same_as_one_by_one(raw: bytes, looks: bool) -> None:
    with opened(raw) as core:
        check(classifier_for(core, evidence=gather(core), with_payload=looks))


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Draw a core of many mappings of few files, some split, some over each other, in any order."""
    loads, files, address = [], [], 0x10000000
    for _ in range(draw(st.integers(2, 12))):
        address += draw(st.sampled_from([0, 0, PAGE, -PAGE]))
        pages = draw(st.sampled_from([1, 1, 2]))
        there = draw(st.sampled_from([0, 1, pages]))
        flags = draw(st.sampled_from(["r--", "r--", "rw-", "r-x", "---"]))
        loads.append(Load(address, page(b"x", there) if there else b"", memsz=pages * PAGE, flags=flags))
        if draw(st.booleans()):
            offset = draw(st.sampled_from([0, PAGE, address - 0x10000000]))
            files.append(FileEntry(address, address + pages * PAGE, max(offset, 0), draw(st.sampled_from(PATHS))))
        address += pages * PAGE
    if draw(st.booleans()):
        loads.reverse()
    return make_core(loads, kernel_notes(files, {}))


@settings(max_examples=100)
@given(tables(), st.booleans())
def test_files_that_are_split_and_mixed_are_told_apart(raw: bytes, looks: bool) -> None:
    with opened(raw) as core:
        check(classifier_for(core, with_payload=looks))


def test_an_assumption_leaves_each_mapping_alone() -> None:
    loads = [Load(0x10000 * n, page(b"x")) for n in range(1, 5)]
    with opened(make_core(loads, kernel_notes())) as core:
        classifier = classifier_for(core, ["0x20000=shared-anonymous"])
        assert [finding.kind for finding in classifier.decide_all()][1] == "shared-anonymous"
        assert len(classifier.classes().first) == 4
        assert all(classifier.classes().alone)


def test_a_million_alike_are_one_class() -> None:
    loads = [Load(0x100000 + 2 * PAGE * n, b"", memsz=PAGE) for n in range(3000)]
    files = [FileEntry(load.vaddr, load.vaddr + PAGE, n * PAGE, "/data") for n, load in enumerate(loads) if n % 2]
    with opened(make_core(loads, kernel_notes(files))) as core:
        findings = classifier_for(core).decide_all()
    # Without a name, and with one.
    assert len(findings.of_class) <= 3
    assert sorted(findings.count()) in ([1500, 1500], [1, 1499, 1500])
    assert findings.sums(array("Q", [1 << 63]) * 3000) == [count << 63 for count in findings.count()]


def test_offsets_past_64_bits_leave_each_file_alone() -> None:
    loads = [Load(0x10000 * n, b"", memsz=PAGE) for n in range(1, 4)]
    files = [FileEntry(load.vaddr, load.vaddr + PAGE, 0, "/data") for load in loads]
    raw = make_core(loads, kernel_notes(files))
    table = b"".join(load.vaddr.to_bytes(8, "little") + (load.vaddr + PAGE).to_bytes(8, "little") for load in loads[:1])
    at = raw.index(table) + 16
    raw = raw[:at] + b"\xff" * 8 + raw[at + 8 :]
    with opened(raw) as core:
        assert core.maps.wide
        classifier = classifier_for(core)
        assert all(classifier.classes().alone)
        check(classifier)


def test_findings_one_by_one() -> None:
    with opened(make_core([Load(0x10000, page(b"x"))], kernel_notes())) as core:
        (finding,) = classifier_for(core).decide_all()
    findings = Findings.each([finding, finding])
    assert (len(findings), findings[1], list(findings.numbers)) == (2, finding, [0, 0])
