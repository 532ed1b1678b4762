"""Where the cores of a batch are found: directories, tar, zip, compressed files, apport reports."""
