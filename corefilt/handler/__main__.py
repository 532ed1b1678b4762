"""``python -I -m corefilt.handler``: what the line of ``corefilt install`` starts."""

from corefilt.startup import before_loading

if __name__ == "__main__":
    before_loading()
    from corefilt.handler.entry import entry

    entry()
