"""Where shell commands run. `confinement.py` says what this machine can do, `bubblewrap.py` how."""
