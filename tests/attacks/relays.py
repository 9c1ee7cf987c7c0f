"""Attacks by somebody on the line between a device and its primary: reading, changing, relaying, being either.

They need what the line is protected with; none are here yet.
"""

from tests.attacks.arena import attack_list

ATTACKS, attack = attack_list()
