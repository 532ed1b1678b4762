"""What ``corefilt inspect`` shows of a core: whose it is, an overview, its mappings, its modules, an address."""
