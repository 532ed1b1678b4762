# Completes corefilt in fish; made by `python manual` of what --help tells.

function __corefilt_command
    set -l words (commandline -opc)
    if contains -- "$words[2]" filter inspect demo man completion
        echo $words[2]
    else
        echo filter
    end
end

function __corefilt_is
    test (__corefilt_command) = $argv[1]
end

function __corefilt_first
    test (count (commandline -opc)) = 1
end

# Names of a filter behind whatever terms are there already.
function __corefilt_filter
    set -l before (string match -r '^.*,' -- (commandline -ct); or echo '')
    printf "$before%s\n" private-anonymous shared-anonymous private-file-backed shared-file-backed elf-headers private-huge shared-huge private-dax shared-dax default all none omit-anonymous-shared
end

complete -c corefilt -f
complete -c corefilt -n __corefilt_first -a '(__corefilt_filter)' -d FILTER
complete -c corefilt -n __corefilt_first -a filter -d 'what a bare FILTER does'
complete -c corefilt -n '__corefilt_is filter' -s h -l help -d 'show this help message and exit'
complete -c corefilt -n '__corefilt_is filter' -s o -l output -r -F -d 'a file, or - for standard output (default)'
complete -c corefilt -n '__corefilt_is filter' -s f -l force -d 'replace OUT if it exists; with -i, go ahead with a core that is damaged, has several names, or would lose bytes on an assumption'
complete -c corefilt -n '__corefilt_is filter' -l name -x -d 'name OUT as core_pattern does, like core.%e.%p'
complete -c corefilt -n '__corefilt_is filter' -l directory -x -a '(__fish_complete_directories)' -d 'with --name: the folder for it (default: this one)'
complete -c corefilt -n '__corefilt_is filter' -l set -x -d 'with --name: what %X stands for, which a core may not tell: h=web1'
complete -c corefilt -n '__corefilt_is filter' -l uses-pid -x -d 'with --name: end a name without %p in .PID: yes as core_uses_pid does, threads as Linux 2.6.27 and before did for processes of several threads'
complete -c corefilt -n '__corefilt_is filter' -s i -l in-place -d 'make holes in CORE where the dropped bytes are, and write no other file; its length stays'
complete -c corefilt -n '__corefilt_is filter' -l compact -d 'with -i: shorten CORE too, by cutting its end off or by putting a copy without the holes in its place'
complete -c corefilt -n '__corefilt_is filter' -l unknown -x -a 'keep guess drop' -d 'what to do with a mapping that could be of several kinds: keep what any of them would keep (default), guess the likeliest, or drop all but what each of them would keep'
complete -c corefilt -n '__corefilt_is filter' -l assume -x -d 'say what a mapping is; SELECTOR is an address, a path glob, or like \'size>64G\''
complete -c corefilt -n '__corefilt_is filter' -l maps -r -F -d 'a saved /proc/PID/maps or smaps, alone or in a report or journal; auto: look beside CORE'
complete -c corefilt -n '__corefilt_is filter' -l pid -x -a '(__fish_complete_pids)' -d 'the process, while it still exists'
complete -c corefilt -n '__corefilt_is filter' -l sysroot -x -a '(__fish_complete_directories)' -d 'the mapped files below this folder'
complete -c corefilt -n '__corefilt_is filter' -l annotate -d 'record kinds and evidence in a note, to be filtered by later'
complete -c corefilt -n '__corefilt_is filter' -l truncate -x -d 'cut where the kernel would have cut this under RLIMIT_CORE = SIZE; rlimit: this process\'s soft limit'
complete -c corefilt -n '__corefilt_is filter' -l fit -x -d 'at most SIZE bytes, and complete: what a backtrace needs first, then the rest by its worth; rlimit takes this process\'s RLIMIT_CORE'
complete -c corefilt -n '__corefilt_is filter' -l fit-allocated -d 'have --fit count disk use instead of length'
complete -c corefilt -n '__corefilt_is filter' -l ladder -x -d 'with --fit: take the richest of these filters whole that fits, before filling up; minimal is one'
complete -c corefilt -n '__corefilt_is filter' -l minimal -d 'keep only what a backtrace needs'
complete -c corefilt -n '__corefilt_is filter' -l follow -x -d 'keep also what registers and stacks point to, N levels deep, SIZE bytes at most (default 16M)'
complete -c corefilt -n '__corefilt_is filter' -l format -x -a 'same elf fdpic' -d 'the notes as the ELF-FDPIC dumper writes them, or as the plain one does, which debuggers read'
complete -c corefilt -n '__corefilt_is filter' -l loadmaps -x -d 'with --format fdpic: addresses of the loadmaps of a core that does not tell; 0 for none'
complete -c corefilt -n '__corefilt_is filter' -l dumper -x -a 'current fdpic-old' -d 'whose rules: fdpic-old is the FDPIC dumper before Linux 5.10'
complete -c corefilt -n '__corefilt_is filter' -l strict -d 'write nothing while anything hangs on an assumption'
complete -c corefilt -n '__corefilt_is filter' -l sparse -x -a 'auto always never' -d 'auto: keep the holes of a file, make holes of zeros from a pipe; always: look for zeros; never: no holes'
complete -c corefilt -n '__corefilt_is filter' -l engine -x -a 'auto reflink copy_file_range sendfile splice readwrite' -d 'demand one way to move bytes (or COREFILT_ENGINE)'
complete -c corefilt -n '__corefilt_is filter' -l jobs -x -d 'threads that copy between files (default: two for a large core while a processor is idle, else one)'
complete -c corefilt -n '__corefilt_is filter' -l cache -x -a 'auto keep' -d 'auto: leave the page cache as it was when more than an eighth of the memory is copied; keep: leave the copy in it'
complete -c corefilt -n '__corefilt_is filter' -l no-sync -d 'do not wait for the disk before OUT gets its name'
complete -c corefilt -n '__corefilt_is filter' -l spool -d 'copy a pipe to a temporary file first, for cores made by gdb'
complete -c corefilt -n '__corefilt_is filter' -l max-headers -x -d 'how much a pipe may bring before the end of NT_FILE (default 64M)'
complete -c corefilt -n '__corefilt_is filter' -s n -l dry-run -d 'plan and report only'
complete -c corefilt -n '__corefilt_is filter' -l json -d 'the report as one JSON object, on standard output or in FILE'
complete -c corefilt -n '__corefilt_is filter' -l progress -x -a 'auto always never' -d 'a bar, after one second'
complete -c corefilt -n '__corefilt_is filter' -s q -l quiet -d 'say nothing but warnings and errors'
complete -c corefilt -n '__corefilt_is filter' -s v -l verbose -d 'say more'
complete -c corefilt -n '__corefilt_is filter' -l version -d 'the version, the engines and the libraries'
complete -c corefilt -n 'not __corefilt_first; and __corefilt_is filter' -a '(__corefilt_filter)'
complete -c corefilt -n 'not __corefilt_first; and __corefilt_is filter' -F
complete -c corefilt -n __corefilt_first -a inspect -d 'the mappings, their kinds and evidence, what every bit keeps'
complete -c corefilt -n '__corefilt_is inspect' -s h -l help -d 'show this help message and exit'
complete -c corefilt -n '__corefilt_is inspect' -l filter -x -a '(__corefilt_filter)' -d 'show what this filter keeps (default all)'
complete -c corefilt -n '__corefilt_is inspect' -l maps -r -F -d 'a saved /proc/PID/maps or smaps, alone or in a report or journal; auto: look beside CORE'
complete -c corefilt -n '__corefilt_is inspect' -l pid -x -a '(__fish_complete_pids)' -d 'the process, while it still exists'
complete -c corefilt -n '__corefilt_is inspect' -l sysroot -x -a '(__fish_complete_directories)' -d 'the mapped files below this folder'
complete -c corefilt -n '__corefilt_is inspect' -l unknown -x -a 'keep guess drop' -d 'as for corefilt filter'
complete -c corefilt -n '__corefilt_is inspect' -l assume -x -d 'as for corefilt filter'
complete -c corefilt -n '__corefilt_is inspect' -l dumper -x -a 'current fdpic-old' -d 'as for corefilt filter'
complete -c corefilt -n '__corefilt_is inspect' -l spool -d 'copy a pipe to a temporary file first'
complete -c corefilt -n '__corefilt_is inspect' -l max-headers -x -d 'as for corefilt filter'
complete -c corefilt -n '__corefilt_is inspect' -l json -d 'the report as one JSON object, on standard output or in FILE'
complete -c corefilt -n '__corefilt_is inspect' -l version -d 'the version, the engines and the libraries'
complete -c corefilt -n 'not __corefilt_first; and __corefilt_is inspect' -F
complete -c corefilt -n __corefilt_first -a demo -d 'crashes a small process here and filters its core'
complete -c corefilt -n '__corefilt_is demo' -s h -l help -d 'show this help message and exit'
complete -c corefilt -n '__corefilt_is demo' -l filter -x -a '(__corefilt_filter)' -d 'which mappings to keep (default omit-anonymous-shared)'
complete -c corefilt -n '__corefilt_is demo' -l version -d 'the version, the engines and the libraries'
complete -c corefilt -n __corefilt_first -a man -d 'a manual page, for man -l -'
complete -c corefilt -n '__corefilt_is man' -s h -l help -d 'show this help message and exit'
complete -c corefilt -n '__corefilt_is man' -l version -d 'the version, the engines and the libraries'
complete -c corefilt -n __corefilt_first -a completion -d 'what completes corefilt\'s words in bash, zsh or fish'
complete -c corefilt -n '__corefilt_is completion' -s h -l help -d 'show this help message and exit'
complete -c corefilt -n '__corefilt_is completion' -l version -d 'the version, the engines and the libraries'
complete -c corefilt -n 'not __corefilt_first; and __corefilt_is completion' -a 'bash zsh fish'
