"""Systems, stages and their results in a workdir."""
