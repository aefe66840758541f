"""The tests of dwcloud, by level: see docs/design.rst and CONTRIBUTING.rst.

Hypothesis runs the same examples each time, so that a red run can be repeated;
``HYPOTHESIS_PROFILE=explore`` looks for new ones.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    # A busy machine is not a fault of the code under test.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", settings.get_profile("ci"), derandomize=False, max_examples=2000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
