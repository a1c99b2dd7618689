"""The container image and compose.yaml, with a real container engine. Not part of `make test`: `make containers`."""
