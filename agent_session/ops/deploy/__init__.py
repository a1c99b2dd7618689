"""Rolling deploys: which worker versions there are, which one is current, and moving sessions off an old one."""
