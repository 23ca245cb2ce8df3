"""Every way in which a task can end, played on a real worker: `celery -A tests.endings worker`.

`tests/integration/test_endings.py` plays them as tests, `python -m tests.endings` as a table for each pool and
version of Celery. The tasks of `tests/integration/test_canvas.py` are here too.
"""

from tests.endings import members
from tests.endings.tasks import app

__all__ = ["app", "members"]
