"""The journal in a database: rows, the store that keeps them, and the writer of the pair."""
