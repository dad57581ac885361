"""The paper's figures from finished runs: each a PNG, with its data as CSV beside it."""
