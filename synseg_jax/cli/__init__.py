"""What every command shares: flags, errors, exit codes."""
