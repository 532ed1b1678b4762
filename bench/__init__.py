"""How fast corefilt is, beside other programs: one script per question, run by ``python -m bench``."""
