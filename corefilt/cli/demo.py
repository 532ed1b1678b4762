"""tmp."""


def run(argv):
    return 0
