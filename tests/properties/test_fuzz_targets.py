"""The fuzz targets on bent seeds: what ``make fuzz`` runs for hours, for a moment at each run of the tests."""

import random

import pytest

from tests.fuzz.targets import TARGETS

ROUNDS = {"changesets": 400}


def bend(chance, data):
    """``data`` with some bytes changed, cut out or repeated."""
    data = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        place = chance.randint(0, len(data))
        how = chance.randrange(4)
        if how == 0 and place < len(data):
            data[place] = chance.choice((0, 1, 2, 3, 5, 127, 128, 255, chance.randrange(256)))
        elif how == 1:
            del data[place : place + chance.randint(1, 9)]
        elif how == 2:
            data[place:place] = chance.randbytes(chance.randint(1, 9))
        else:
            data[place:place] = data[place : place + chance.randint(1, 30)]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_bent_seeds(name):
    chance = random.Random(20240607)
    target = TARGETS[name]()
    try:
        seeds = target.seeds()
        for number in range(ROUNDS.get(name, 3000)):
            data = seeds[number] if number < len(seeds) else bend(chance, chance.choice(seeds))
            target.run(data)
    finally:
        target.close()
