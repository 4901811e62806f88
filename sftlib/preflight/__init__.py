"""Before the hours: what a run will take, and whether the contract holds on these rows."""
