"""What stands between a crash and its core: the conditions of core(5), and what this machine allows.

One module a group of conditions: values of ``subject`` and ``settings`` go in, rows come out. Each condition is held
against the kernel in tests/kernel/test_doctor.py.
"""
