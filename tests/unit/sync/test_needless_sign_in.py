"""A sign-in where nobody asks for one is ignored without error (auth=none and auth=node)."""

import pytest

from octodb.model.identities import AuthMode
from octodb.wire.messages import Login, Signup
from tests.unit.sync.test_primary import Story


@pytest.mark.parametrize("request_kind", [Signup, Login])
def test_a_login_while_the_node_waits_for_its_decision_is_ignored(request_kind):
    story = Story(auth=AuthMode.NODE)
    story.prove()
    story.session.node_found(None)
    assert story.receive(request_kind("anything")) == []
