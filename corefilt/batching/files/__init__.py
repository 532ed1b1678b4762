"""Files and directories of a batch: locks, safe paths, work as the owner of a file."""
