"""Speed, shown beside a floor or a peer in the same run. Never part of a timed test."""
