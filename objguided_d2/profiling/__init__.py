"""How long things take, how much memory they need and how near they come to what the machine can do."""
