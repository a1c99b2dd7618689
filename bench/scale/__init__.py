"""How far the service goes: what a turn costs, measured; what that makes of many sessions, by arithmetic; and a day
of them under an autoscaler, simulated. Nothing here runs in the product."""
