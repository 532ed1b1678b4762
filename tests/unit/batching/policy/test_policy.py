"""Policies: what their rules mean, what they refuse, and that nothing is lost because something is not known."""

from __future__ import annotations

import ctypes
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builder import EM_MIPS, FileEntry, Load, kernel_notes, make_core
from support.frames import BUILD_ID, core_of, tables
from support.opening import open_file
from support.samples import ANON, LIBRARY, PAGE, noise, sample_core

from corefilt.batching.policy.facts import Facts, facts_of
from corefilt.batching.policy.policy import ACTIONS, DELETE, FILTER, KEEP, Policy
from corefilt.batching.policy.toml_file import load_policy, parse_policy
from corefilt.classify.classifier import classifier_for
from corefilt.corefile.signals import NAMES, number_of, show_signal
from corefilt.errors import InputError, PolicyError

DAY = 86400
KNOWN = Facts(
    age=40 * DAY,
    size=3 << 30,
    executable="/usr/lib/postgresql/15/bin/postgres",
    signal=6,
    machine="x86-64",
    uid=105,
    command="postgres -D /data --role primary",
    modules=("/usr/lib/libssl.so.3", "5a" * 20),
    signature="0123456789abcdef",
    shares={"shared-anonymous": (0.8, 0.9), "private-anonymous": (0.1, 0.1)},
)


def policy_of(*rules: str) -> Policy:
    text = "\n".join(f'[[rule]]\nname = "rule {i}"\n{rule}' for i, rule in enumerate(rules))
    return parse_policy(text.encode(), "policy.toml")


def decided(policy: Policy, facts: Facts) -> tuple[str | None, str]:
    rule, action, _ = policy.decide(facts)
    return rule, action.name


# --- what conditions mean -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ('older = "30d"', True),
        ('older = "6w"', False),
        ('younger = "6w"', True),
        ('younger = "960h"', False),
        ('larger = "2G"', True),
        ('larger = "3G"', False),
        ('smaller = "3G"', False),
        ('smaller = "3073M"', True),
        ('executable = "*/postgres"', True),
        ('command = "*--role primary*"', True),
        ('command = ["*--role replica*", "postgres"]', False),
        ('module = "*/libssl.so*"', True),
        ('module = "5a5a*"', True),
        ('module = ["*/libcrypto.so*", "6b*"]', False),
        ('signature = "0123456789abcdef"', True),
        ('signature = ["fedcba9876543210"]', False),
        ('executable = ["/opt/*", "/usr/lib/*"]', True),
        ('executable = "postgres"', False),
        ('executable = "*/POSTGRES"', False),
        ('signal = "SIGABRT"', True),
        ("signal = 6", True),
        ('signal = ["SIGSEGV", 7]', False),
        ("uid = 105", True),
        ("uid = [0, 1000]", False),
        ('share = "shared-anonymous>75%"', True),
        ('share = "shared-anonymous>95%"', False),
        ('share = "shared-anonymous<95%"', True),
        ('share = ["shared-anonymous>75%", "private-anonymous>50%"]', False),
        ('share = "private-huge<1%"', True),
        ('share = "private-huge>0%"', False),
    ],
)
def test_condition(condition: str, fits: bool) -> None:
    policy = policy_of(f'when.{condition}\naction = "keep"')
    assert decided(policy, KNOWN) == (("rule 0", KEEP) if fits else (None, FILTER))


def test_all_conditions_of_a_rule_must_fit() -> None:
    policy = policy_of('when = { older = "30d", uid = 0 }\naction = "delete"', 'action = "minimal"')
    assert decided(policy, KNOWN) == ("rule 1", "minimal")
    assert decided(policy, replace(KNOWN, uid=0)) == ("rule 0", DELETE)


def test_the_first_rule_that_fits_decides() -> None:
    policy = policy_of('when.uid = 1\naction = "keep"', 'when.uid = 105\naction = "minimal"', 'action = "keep"')
    assert decided(policy, KNOWN) == ("rule 1", "minimal")


def test_what_an_action_carries() -> None:
    policy = policy_of('when.uid = 1\naction = "fit"\nsize = "16M"\nfilter = "default"', 'action = "filter"')
    fit = policy.decide(replace(KNOWN, uid=1)).action
    assert (fit.name, fit.size, fit.filter) == ("fit", 16 << 20, 0x33)
    assert policy.decide(KNOWN).action.filter is None


def test_a_bus_error_has_the_number_of_the_machine() -> None:
    policy = policy_of('when.signal = "SIGBUS"\naction = "keep"')
    assert decided(policy, replace(KNOWN, signal=7))[1] == KEEP
    assert decided(policy, replace(KNOWN, signal=10))[1] == FILTER
    assert decided(policy, replace(KNOWN, signal=10, machine="mips"))[1] == KEEP


def test_signals_are_shown_by_a_name_only_where_it_is_everybodys() -> None:
    for name in NAMES:
        numbers = {number_of(name, machine) for machine in ("x86-64", "mips", "alpha", "sparc", "parisc", "aarch64")}
        shown = {show_signal(number) for number in numbers}
        assert shown == ({name} if len(numbers) == 1 else {str(number) for number in numbers})


# --- what is not known --------------------------------------------------------------------------------------

UNKNOWN = {
    'older = "1d"': "age",
    'smaller = "1G"': "size",
    'executable = "*"': "executable",
    "signal = 6": "signal",
    "uid = 105": "uid",
    'share = "shared-anonymous>10%"': "shares",
}


@pytest.mark.parametrize(("condition", "fact"), UNKNOWN.items())
def test_nothing_is_deleted_by_a_fact_that_is_not_known(condition: str, fact: str) -> None:
    policy = policy_of(f'when.{condition}\naction = "delete"')
    assert decided(policy, replace(KNOWN, **{fact: None})) == (None, FILTER)


@pytest.mark.parametrize(("condition", "fact"), UNKNOWN.items())
def test_nothing_is_deleted_that_an_earlier_rule_may_have_meant_to_keep(condition: str, fact: str) -> None:
    policy = policy_of(f'when.{condition}\naction = "keep"', 'when.older = "0d"\naction = "delete"')
    facts = replace(KNOWN, age=3 * DAY) if fact != "age" else KNOWN
    facts = replace(facts, **{fact: None})
    decision = policy.decide(facts)
    assert decision.action.name != DELETE
    if fact != "age":
        assert decision.rule == "rule 0"
        assert fact.removesuffix("s") in decision.doubt


@pytest.mark.parametrize("action", ["filter", "minimal", "delete"])
def test_a_rule_that_is_skipped_because_a_fact_is_not_known_is_named(action: str) -> None:
    first = f'when = {{ signature = "0123456789abcdef", older = "1d" }}\naction = "{action}"'
    for more in (["action = 'keep'"], [], ["when.uid = 1\naction = 'delete'"]):
        decision = policy_of(first, *more).decide(replace(KNOWN, signature=None, uid=105))
        assert decision.rule == ("rule 1" if more == ["action = 'keep'"] else None)
        assert decision.doubt == "rule 'rule 0' was skipped: signature not known"
    assert policy_of(first).decide(KNOWN).doubt == ""
    both = policy_of(first, 'when = { uid = 1 }\naction = "keep"', "when.signal = 6\naction = 'delete'")
    decision = both.decide(replace(KNOWN, signature=None, age=None, uid=None))
    assert decision.rule == "rule 1"
    assert decision.doubt == "not delete, as the uid is not known; rule 'rule 0' was skipped: signature, age not known"


def test_a_share_between_its_bounds_is_not_known() -> None:
    policy = policy_of('when.share = "shared-anonymous>85%"\naction = "delete"')
    assert decided(policy, KNOWN) == (None, FILTER)
    assert decided(policy, replace(KNOWN, shares={"shared-anonymous": (0.86, 0.9)})) == ("rule 0", DELETE)


def test_a_condition_that_is_known_not_to_fit_settles_the_rule() -> None:
    policy = policy_of('when = { uid = 0, older = "1d" }\naction = "keep"', 'when.signal = 6\naction = "delete"')
    assert decided(policy, replace(KNOWN, age=None)) == ("rule 1", DELETE)


CONDITIONS = st.sampled_from(
    ['older = "1d"', 'younger = "1d"', 'larger = "1G"', "uid = 105", "uid = 0", "signal = 6", 'executable = "/bin/*"']
)
RULES = st.tuples(
    st.lists(CONDITIONS, min_size=1, max_size=3, unique_by=lambda c: c.split()[0]), st.sampled_from(ACTIONS)
)
FACTS = st.sampled_from(["age", "size", "executable", "signal", "uid"])
HARSH = {KEEP: 0, FILTER: 1, "fit": 1, "minimal": 1, DELETE: 2}


@given(rules=st.lists(RULES, min_size=1, max_size=5), hidden=st.sets(FACTS))
def test_hiding_facts_never_makes_the_outcome_harsher(rules: list[tuple[list[str], str]], hidden: set[str]) -> None:
    text = [
        "\n".join([*(f"when.{c}" for c in conditions), f'action = "{action}"', *(['size = "1M"'] * (action == "fit"))])
        for conditions, action in rules
    ]
    policy = policy_of(*text)
    known = HARSH[policy.decide(KNOWN).action.name]
    less = HARSH[policy.decide(replace(KNOWN, **dict.fromkeys(hidden))).action.name]
    assert less <= known


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('action = "shred"', "rule 'rule 0': action: 'shred' is not one of"),
        ("", "rule 'rule 0': action: is missing"),
        ('action = "keep"\nsize = "1M"', "rule 'rule 0': size: not used by the action keep"),
        ('action = "delete"\nfilter = "0x33"\nwhen.uid = 0', "filter: not used by the action delete"),
        ('action = "fit"', "rule 'rule 0': size: is missing"),
        ('action = "fit"\nsize = "1 QB"', "size: size '1 QB' cannot be read"),
        ('action = "fit"\nsize = -1', "size: -1 is not a size"),
        ('action = "filter"\nfilter = "33"', "filter: filter '33' could be decimal"),
        ('action = "delete"', "when: deleting needs a condition"),
        ('action = "delete"\nwhen = {}', "when: deleting needs a condition"),
        ('action = "keep"\nwhen = "old"', "when: 'old' is not a table"),
        ('action = "keep"\nwhen.age = "1d"', "when.age: no such key"),
        ('action = "keep"\nolder = "1d"', "rule 'rule 0': older: no such key"),
        ('action = "keep"\nwhen.older = "1 day"', "when.older: age '1 day' cannot be read"),
        ('action = "keep"\nwhen.older = "-1d"', "when.older: age '-1d' cannot be read"),
        ('action = "keep"\nwhen.older = 30', "when.older: age 30 has no unit"),
        ('action = "keep"\nwhen.larger = ["1G"]', "when.larger: ['1G'] is not a size"),
        ('action = "keep"\nwhen.executable = []', "when.executable: the list is empty"),
        ('action = "keep"\nwhen.executable = [7]', "when.executable: 7 is not a quoted string"),
        ('action = "keep"\nwhen.signal = "SEGV"', "when.signal: 'SEGV' is not a signal"),
        ('action = "keep"\nwhen.signal = 0', "when.signal: 0 is not a signal"),
        ('action = "keep"\nwhen.signal = true', "when.signal: True is not a signal"),
        ('action = "keep"\nwhen.uid = "root"', "when.uid: 'root' is not a user ID"),
        ('action = "keep"\nwhen.uid = -1', "when.uid: -1 is not a user ID"),
        ('action = "keep"\nwhen.share = "shared-anonymous"', "when.share: share 'shared-anonymous' cannot be read"),
        ('action = "keep"\nwhen.share = "shared-anonymous>101%"', "cannot be read"),
        ('action = "keep"\nwhen.share = "shared-anonymous>%"', "cannot be read"),
        ('action = "keep"\nwhen.share = "shared>50%"', "no kind 'shared'"),
    ],
)
def test_refused(rule: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_of(rule)
    assert str(caught.value).startswith("policy.toml: ")
    assert said in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "policy.toml: holds no rules"),
        ("rule = 1", "policy.toml: rule: 1 is not a list of tables"),
        ("rule = []", "policy.toml: holds no rules"),
        ("[rule]\nname = 'x'", "policy.toml: rule: {'name': 'x'} is not a list of tables"),
        ("[[rules]]\n", "policy.toml: rules: no such key"),
        ("[[rule]]\nname = ?\n", "line 2"),
        ("[[rule]]\naction = 'keep'", "policy.toml: rule 1: name: every rule needs a name"),
        ("[[rule]]\nname = ' '", "rule 1: name"),
        ('[[rule]]\nname = "a\\u001b"', "rule 1: name"),
        ("[[rule]]\nname='a'\naction='keep'\nwhen.uid=0\n[[rule]]\nname='a'\naction='keep'", "rule 'a': name: two"),
        ("[[rule]]\nname='a'\naction='keep'\n[[rule]]\nname='b'\naction='keep'", "rule 'b': is never reached"),
        ("a = " + "[" * 5000, "policy.toml: "),
    ],
)
def test_refused_files(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text.encode(), "policy.toml")
    assert said in str(caught.value)


@given(st.text() | st.text("[]{}=.'\"\n rulenamewhenactiond0123456789"))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    try:
        assert parse_policy(text.encode(), "policy.toml").rules
    except PolicyError as error:
        assert str(error).startswith("policy.toml: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_policy(str(tmp_path / "none.toml"))
    path = tmp_path / "policy.toml"
    path.write_bytes(b"# caf\xe9")
    with pytest.raises(PolicyError, match="byte 5 is not UTF-8"):
        load_policy(str(path))
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(PolicyError, match="the limit for a policy"):
        load_policy(str(path))


def test_a_policy_crosses_to_another_process() -> None:
    policy = policy_of('when.share = "shared-huge>5%"\naction = "delete"', 'action = "fit"\nsize = "1M"')
    assert pickle.loads(pickle.dumps(policy)) == policy


# --- the facts of a core ------------------------------------------------------------------------------------


def facts(path: Path, *, age: float | None = None, shares: bool = False) -> Facts:
    with open_file(path) as core:
        return facts_of(core, age=age, classifier=classifier_for(core) if shares else None)


def test_facts_of_a_core(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(
        make_core(
            [Load(LIBRARY, noise(1), flags="r-x")],
            kernel_notes([FileEntry(LIBRARY, LIBRARY + PAGE, 0, "/opt/\u00fcber/server")], {3: LIBRARY + 64}),
        )
    )
    found = facts(path, age=5.0)
    assert (found.age, found.size, found.machine) == (5.0, path.stat().st_size, "x86-64")
    assert (found.executable, found.signal, found.uid) == ("/opt/über/server", 6, 0)
    assert found.shares is None


def test_facts_that_look_at_memory_are_found_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "core"
    functions = [(0x400800, 0x40, b"\x41\x0e\x10"), (0x400900, 0x40, b"\x0e\x28"), (0x400A00, 0x40, b"\x07\x10")]
    words = [0, 0x400905, 1, 2, 3, 4, 0x400A07]
    path.write_bytes(core_of(tables(functions), words, pc=0x400804))
    with open_file(path) as core:
        found = facts_of(core, age=None, classifier=None, asked={"signature"})
        nothing = facts_of(core, age=None, classifier=None)
    assert found.modules == ("/bin/victim", BUILD_ID.hex()) and found.command is None
    assert found.signature is not None and len(found.signature) == 16
    assert (nothing.modules, nothing.command, nothing.signature) == (None, None, None)
    # Without the frames that follow it is not known, and a rule that asks for it does nothing.
    path.write_bytes(core_of(tables(functions), [], pc=0x400804))
    with open_file(path) as core:
        assert facts_of(core, age=None, classifier=None, asked={"signature"}).signature is None


def test_holes_count_for_no_share(tmp_path: Path) -> None:
    """A mapping of a gigabyte that nobody wrote to is a hole of the core, and no reason to take a rule's measure."""
    path = tmp_path / "core"
    path.write_bytes(sample_core(anon_pages=10, shared_pages=20))
    with open_file(path) as core:
        before = facts_of(core, age=None, classifier=classifier_for(core)).shares
        i = max(core.maps.phdr, key=core.table.p_filesz.__getitem__)
        at, size = core.table.p_offset[i], core.table.p_filesz[i]
    with path.open("r+b") as file:
        libc = ctypes.CDLL(None, use_errno=True)
        punch = libc.fallocate(file.fileno(), 3, ctypes.c_long(at), ctypes.c_long(size))
    if punch:
        pytest.skip("this file system makes no holes")
    with open_file(path) as core:
        after = facts_of(core, age=None, classifier=classifier_for(core)).shares
    assert before is not None and after is not None and after != before
    assert sum(least for least, _ in after.values()) <= 1.0


def test_what_a_core_does_not_tell_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(make_core([Load(ANON, noise(1))], machine=EM_MIPS))
    found = facts(path, age=-1.0)
    assert (found.age, found.executable, found.signal, found.uid) == (None, None, None, None)
    assert found.machine == "mips"


def test_shares_are_bounds_where_a_mapping_could_be_several_things(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(sample_core(anon_pages=10, shared_pages=20))
    shares = facts(path, shares=True).shares
    assert shares is not None
    with open_file(path) as core:
        total = sum(mapping.present for mapping in core.mappings)
        certain: dict[str, int] = {}
        for mapping in core.mappings:
            if not mapping.finding.others():
                certain[mapping.kind] = certain.get(mapping.kind, 0) + mapping.present
    assert shares["private-anonymous"][1] >= 10 * PAGE / total
    for kind, (least, most) in shares.items():
        assert 0 <= least <= most <= 1
        assert least == certain.get(kind, 0) / total
    assert sum(least for least, _ in shares.values()) <= 1 <= sum(most for _, most in shares.values())
    assert any(least < most for least, most in shares.values())
