"""What stands between a crash and its core: the conditions of core(5), and what this machine allows."""
