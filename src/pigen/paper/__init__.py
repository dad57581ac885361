"""The paper: its published figures, its tables and figures, and how they are reproduced."""
