"""Which kind each mapping is: candidates, rules, and the classifier that runs them."""
