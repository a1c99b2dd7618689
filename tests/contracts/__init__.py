"""What every tool, channel and model promises, as checks that anybody can run on theirs."""
