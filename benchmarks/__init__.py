"""Speed of OctoDB beside its peers, measured in one run: ``python -m benchmarks`` (``make bench``).

Every number is printed next to what it is compared with, taken in the same run on the same machine. Nothing here
is a test of correctness, and no test depends on a time.
"""
