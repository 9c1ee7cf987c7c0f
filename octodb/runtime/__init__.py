"""Threads, asyncio, sockets, clock and randomness: here and nowhere else."""
