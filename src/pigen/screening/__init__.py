"""Which structures are worth keeping: criteria, filter, funnel, labels, comparison."""
