"""What the tools of language runtimes need of a core: typed walks from each runtime's own roots."""
