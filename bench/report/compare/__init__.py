"""Methods against each other: ranks, intervals, tests."""
