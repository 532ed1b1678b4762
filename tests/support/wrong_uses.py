"""Forty ways to use the command line wrongly, and words of the two lines that each is answered with."""

from __future__ import annotations

HELP = "corefilt --help"
USES = {
    # The filter.
    "0x33x core": ("filter '0x33x' is neither a number nor a name", "the names are private-anonymous"),
    "33 core": ("filter '33' could be decimal (0x21) or hexadecimal (0x33)", "write 0x21 or 0x33"),
    "0x200 core": ("filter '0x200' has bits that do not exist: 0x200", "all is 0x1ff"),
    "frobnicate core": ("'frobnicate' is neither a command nor a filter", "corefilt help lists the commands"),
    "ff core": ("filter 'ff' is neither a number nor a name", "write 0xff"),
    "defualt core": ("filter 'defualt' is neither a number nor a name", "did you mean default?"),
    "shared-anonimous core": ("neither a number nor a name", "did you mean shared-anonymous?"),
    "default,shared core": (
        "'shared' is neither a number",
        "shared-anonymous, shared-file-backed, shared-huge, shared-dax?",
    ),
    "private core": (
        "'private' is neither a number",
        "private-anonymous, private-file-backed, private-huge, private-dax?",
    ),
    "all,-privat-huge core": ("neither a number nor a name", "did you mean private-huge?"),
    "-shared-anonymous core": ("filter '-shared-anonymous' starts with '-'", "write default,-shared-anonymous"),
    "default,,all core": ("filter 'default,,all' has an empty term", "write it like 0x33"),
    # Commands, and the order of arguments.
    "inspekt core": ("'inspekt' is neither a command nor a filter", "did you mean inspect?"),
    "verfy core core": ("'verfy' is neither a command nor a filter", "did you mean verify?"),
    "help inspekt": ("there is no command 'inspekt'", "did you mean inspect?"),
    "help nothing": ("there is no command 'nothing'", "the commands are filter, inspect"),
    "core 0x33": ("'core' is a file, not a filter", "the filter comes first: corefilt 0x33 core"),
    "core": ("'core' is a file, not a filter", "the filter comes first: corefilt 0x33 core"),
    "": ("the following arguments are required: FILTER", HELP),
    "0x33 core other": ("there is more than one CORE: other", "-o OUT names the output; corefilt batch filters"),
    "digest core other": ("unrecognized arguments: other", "corefilt digest --help"),
    "verify core": ("the following arguments are required: FILTERED", "corefilt verify --help"),
    "batch 0x33": ("the following arguments are required: SOURCE", "corefilt batch --help"),
    # Options.
    "0x33 core --anotate": ("unknown option --anotate", "did you mean --annotate?"),
    "0x33 core --out small": ("unknown option --out", HELP),
    "0x33 core --jobs 2": ("unknown option --jobs", "use --threads N"),
    "batch 0x33 . --to out --maps auto": ("unknown option --maps", "use --evidence auto or --evidence none"),
    "inspect core --filtre 0x33": ("unknown option --filtre", "did you mean --filter? corefilt inspect --help"),
    "0x33 core --json report.json": ("--json takes its file with '='", "--json=report.json"),
    "0x33 core --json =report.json": ("--json takes its file with '='", "try: --json=report.json"),
    "0x33 core --unknown kepp": ("argument --unknown: invalid choice: 'kepp'", HELP),
    "0x33 core --engine teleport": ("argument --engine: invalid choice: 'teleport'", HELP),
    "0x33 core --threads 99": ("--threads is '99'", "it can be 1 to 8"),
    "0x33 core --pid me": ("--pid: 'me' is not a process ID", "ps -e lists the processes"),
    "0x33 core -o": ("argument -o/--output: expected one argument", HELP),
    "0x33 core --fit 5X": ("size '5X' cannot be read", "write it like 65536, 64K, 500M, 0.5G, 16MiB or 16MB"),
    "0x33 core --truncate lots": ("size 'lots' cannot be read", "16MiB or 16MB"),
    "0x33 core --compress rar": ("--compress 'rar' is unknown", "it can be zstd"),
    "0x33 core --compress zstd:seekable:9": ("the level is not a number from 1 to 22", "like zstd:3:seekable"),
    "0x33 core --compress lz4:99": ("the level is not a number from 0 to 12", "write it like lz4:0"),
    "0x33 core --loadmaps 1": ("--loadmaps is '1'", "two addresses"),
    # What does not go together.
    "0x33 core -i -o small": ("-i and -o cannot be combined", "leave -i or -o out"),
    "0x33 core -i --truncate 1M": ("-i cannot move anything, and --truncate does", "use -o OUT"),
    "0x33 core --compact -o small": ("--compact needs -i", "add -i"),
    "0x33 core --follow 2 -o small": ("--follow needs --minimal or --fit", ""),
    "0x33 core --directory d -o small": ("--directory, --set and --uses-pid go with --name", "add --name TEMPLATE"),
    "0x33 core --name core.%p -o small": ("--name and -o both name the output", "leave one of them out"),
    "0x33 core --json": ("--json and the core both go to standard output", "--json=FILE"),
    "batch 0x33 . --to out --replace": ("--to and --replace both name the destination", "leave one of them out"),
    "batch 0x33 .": ("missing --to DIR or --replace", ""),
}
