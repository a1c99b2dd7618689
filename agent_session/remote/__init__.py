"""Sessions that are reached through a gateway, with the same methods as those of this machine."""
