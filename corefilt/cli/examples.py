"""Examples of every command, as --help and the manual page show them; a test parses each."""

from __future__ import annotations

EXAMPLES = {
    "filter": (
        ("corefilt 0x33 core -o small.core", "keep what the kernel keeps by default (0x33)"),
        ("corefilt default,-shared-anonymous core -o small.core", "the same without anonymous shared memory (0x31)"),
        ("corefilt 0x33 core -n", "only show how much would be kept and dropped"),
        ("corefilt 0x33 core --minimal -o stacks.core", "keep only what a backtrace needs"),
        ("corefilt 0x33 core --fit 500M -o fits.core", "write a complete core of at most 500 MiB, stacks first"),
        ("corefilt 0x33 core -i", "punch holes into the core itself"),
        ("zstd -dc core.zst | corefilt 0x33 > small.core", "filter from a pipe into a pipe"),
    ),
    "inspect": (
        ("corefilt inspect core", "show whose core it is, and what it holds by kind"),
        ("corefilt inspect core --filter 0x33", "show what this filter would keep"),
        ("corefilt inspect core --json=core.json", "write the report as JSON"),
    ),
    "batch": (
        ("corefilt batch 0x33 /var/lib/systemd/coredump --to /srv/cores", "filter all cores into another directory"),
        ("corefilt batch 0x33 /srv/cores --replace", "replace each core, once its filtered copy is verified"),
        ("corefilt batch 0x33 /srv/cores -n --html report.html", "only report what there is and what would be freed"),
        ("corefilt batch 0x33 s3://bucket/cores --to s3://bucket/small", "filter the cores of an object store"),
    ),
    "verify": (
        ("corefilt verify core small.core", "check that no kept byte was changed and none was invented"),
        ("corefilt verify core small.core --filter 0x33", "also check that exactly this filter's bytes are kept"),
    ),
    "digest": (("corefilt digest core", "print one line per segment"),),
    "show": (
        ("corefilt show 1234", "show the filter of process 1234, and what it would keep"),
        ("corefilt show 1234 --filter 0x31", "show what another filter would keep"),
    ),
    "set": (
        ("corefilt set 0x31 1234", "set the filter of process 1234"),
        ("corefilt set default,-shared-anonymous -- postgres -D data", "run a command with this filter"),
    ),
    "doctor": (
        ("corefilt doctor 1234", "show why process 1234 would leave no core"),
        ("corefilt doctor", "show what this machine allows"),
    ),
    "install": (
        ("corefilt install -n", "say what would change"),
        ("corefilt install --pipe-limit 4", "install, with at most four handlers at once"),
    ),
    "uninstall": (("corefilt uninstall", "restore the core_pattern from before"),),
    "status": (("corefilt status", "show whether cores reach the handler"),),
    "serve": (("corefilt serve /run/corefilt.sock", "take cores by a socket (Linux 6.17 and later)"),),
    "scrub": (
        ("corefilt scrub core -o scrubbed --report scrubbed.json", "overwrite secrets, and list what was overwritten"),
    ),
    "list": (
        ("corefilt list /var/lib/corefilt", "list the cores there, oldest first"),
        (
            "corefilt list cores --executable '*/postgres' --json=cores.ndjson",
            "write what is known of these cores as JSON",
        ),
    ),
    "bundle": (
        ("corefilt bundle core -o core.corebundle.tar.zst", "pack a core with everything that a debugger needs for it"),
        ("corefilt bundle core -o small.corebundle.tar.zst --minimal", "the same with a core for backtraces only"),
    ),
    "open": (
        ("corefilt open core.corebundle.tar.zst", "check the files and start gdb; nothing of the bundle is run"),
        ("corefilt open core.corebundle.tar.zst --bt", "print the backtraces of all threads"),
        ("corefilt open core.corebundle.tar.zst --lldb -- -o 'bt all'", "start lldb, with arguments of your own"),
    ),
    "vacuum": (
        ("corefilt vacuum /var/lib/corefilt -n", "show what the settings would remove"),
        (
            "corefilt vacuum cores --max-use 10G --max-age 90d",
            "remove cores older than 90 days, then more until all take at most 10 GiB",
        ),
    ),
    "restore": (("corefilt restore small.core", "make a core complete again"),),
    "demo": (("corefilt demo", "crash a small process and filter its core"),),
    "help": (("corefilt help batch", "show what corefilt batch --help says"),),
    "version": (("corefilt version", "show what a bug report should contain"),),
    "man": (("corefilt man | man -l -", "show the manual page"),),
    "completion": (("corefilt completion bash > ~/.local/share/bash-completion/completions/corefilt", "for bash"),),
}
