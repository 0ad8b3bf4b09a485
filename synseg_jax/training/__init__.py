"""Training: the train step of every method, its state, optimizers, the loop, checkpoints and logged metrics."""
