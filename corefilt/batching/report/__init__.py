"""What all outcomes of a batch come to: totals, and the HTML page."""
