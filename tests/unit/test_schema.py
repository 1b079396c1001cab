"""Which revisions there are is known without Alembic, and is what Alembic says."""

import pytest
from alembic.script import ScriptDirectory

from shared.database import history, schema


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_the_names_of_the_files_tell_the_revisions_in_their_order(service: str) -> None:
    script = ScriptDirectory.from_config(history.configuration(service))

    walked = [revision.revision for revision in script.walk_revisions()]

    assert list(schema.revisions(service)) == walked[::-1]
