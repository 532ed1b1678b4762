"""What lies beside a core: saved maps, a journal, a report, mapped files, and what the user states."""
