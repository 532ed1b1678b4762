"""What is kept and where it lands: plan, layout, RLIMIT_CORE, format."""
