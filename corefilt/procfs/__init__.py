"""What the kernel tells of a process: /proc/PID, maps, coredump_filter, core_pattern, pidfds."""
