"""Why it happened: hypotheses, who makes them, and the code that checks them."""
