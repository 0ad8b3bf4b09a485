"""A configuration for the data and the machine at hand, with the reason of every choice."""
