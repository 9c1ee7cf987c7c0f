"""A short campaign of kill -9, and whether its reckoning would see what is wrong. ``make crash`` is the long one."""

import apsw
import pytest

from tests.crash.campaign import Campaign
from tests.crash.reckoning import Reckoning


@pytest.fixture(scope="module")
def fought(tmp_path_factory):
    campaign = Campaign(tmp_path_factory.mktemp("crash"), seed=1)
    return campaign, campaign.run(6)


def test_what_was_committed_is_there_once_whatever_was_killed(fought):
    campaign, statuses = fought
    reckoning = Reckoning(campaign, statuses)
    assert reckoning.problems == []
    assert campaign.counts["rounds"] >= 6
    assert 3 * campaign.hits >= campaign.kills >= 8, campaign.inside
    assert reckoning.counts["transactions acknowledged"] > 100


DAMAGE = {
    "lost": "DELETE FROM entries WHERE token = (SELECT token FROM entries WHERE parts = 1 LIMIT 1)",
    "duplicates": "INSERT INTO entries (token, part, parts, row_owner)"
    " SELECT token, part, parts, row_owner FROM entries WHERE parts = 1 LIMIT 1",
    "half transactions": "DELETE FROM entries WHERE id = (SELECT id FROM entries WHERE parts > 1 LIMIT 1)",
    "made up": "INSERT INTO entries (token, part, parts, row_owner) VALUES ('ada-1.1.999999', 1, 1, 2)",
    "differing tables": "UPDATE entries SET filler = 'other' WHERE id = (SELECT max(id) FROM entries)",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_reckoning_sees(fought, kind):
    campaign, statuses = fought
    db = apsw.Connection(campaign.primary.path)
    try:
        db.execute("BEGIN IMMEDIATE")
        db.execute(DAMAGE[kind])
        found = Reckoning(campaign, statuses, primary=db)
        db.execute("ROLLBACK")
    finally:
        db.close()
    assert found.counts[kind], found.problems
