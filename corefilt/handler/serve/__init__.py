"""The server of coredump sockets."""
