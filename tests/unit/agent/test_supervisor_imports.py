"""What the supervisor's process loads: no JAX, no database of the server, no dashboard."""

import json
import subprocess
import sys

PROBE = """
import json, sys
import car_agent.cli, car_agent.cli.doctor, car_agent.main.daemon, car_agent.control, car_agent.session.stream
import car_agent.runner.driver
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_the_supervisor_never_imports_jax() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(json.loads(answer.stdout))
    assert not loaded & {
        "jax",
        "jaxlib",
        "textual",
        "rich",
        "sqlalchemy",
        "sqlmodel",
        "chargepool",
        "pool_server",
    }
    assert {"grpc", "car_agent"} <= loaded, "the probe looks at the right thing"
