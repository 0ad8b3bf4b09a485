"""`python -m synseg_jax COMMAND`, as the console's `synseg-jax COMMAND`."""

from synseg_jax.cli.console import run

run()
