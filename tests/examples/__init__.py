"""Three extensions that a stranger could have written, with their tests."""
