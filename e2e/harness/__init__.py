"""Foreign clients, a recording endpoint and the truth about a call, for the scenarios."""
