"""Which rows, quantities, marks and words a report shows."""
