"""When an accepted result can no longer be questioned: after a lag of further clean work of its vehicle.

A history is metered by an odometer that never goes back: all work accepted in it. A result has its place on
it. Results are final up to a line that trails the odometer by a lag, long enough that a vehicle which cheats
all the time would have been audited meanwhile: audits come every n / k on average (n the clean work, k the
faulty share over the error target), so three such gaps let one in twenty through, and 200 units cover the
beginning, where audits are dense.

Work behind a failed check proves nothing for work before it: after one, the line stands still until the new
clean work alone is longer than the lag. Pure arithmetic in micro-WU.
"""

from pool_protocol.money import ceil_div

#: Units of clean work that follow a final result at least.
LAG_UNITS_MIN = 200
#: Mean gaps between audits that follow it at least.
LAG_GAPS = 3


def lag_uwu(*, epsilon: float, assumed_faulty_share: float, work_uwu: int, clean_uwu: int) -> int:
    """Return the lag behind a history's odometer: max(200 units, 3 n / k).

    Args:
        epsilon: The level's error target.
        assumed_faulty_share: The rule's f; k = max(1, f / epsilon).
        work_uwu: Work of one unit, micro-WU.
        clean_uwu: Clean work since the last failed check: n.
    """
    # k in millionths: integers, so that two machines draw the same line.
    k_ppm = max(1_000_000, int(assumed_faulty_share / epsilon * 1_000_000))
    return max(LAG_UNITS_MIN * work_uwu, ceil_div(LAG_GAPS * clean_uwu * 1_000_000, k_ppm))


def final_through_uwu(*, odometer_uwu: int, clean_uwu: int, floor_uwu: int, lag_uwu: int) -> int:
    """Return the odometer's value up to which results are final; never below the floor."""
    if clean_uwu < lag_uwu:
        return floor_uwu
    return max(floor_uwu, odometer_uwu - lag_uwu)
