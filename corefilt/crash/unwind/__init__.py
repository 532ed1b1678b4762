"""The frames of a thread: by call frame information, else by the chains that some ABIs keep."""
