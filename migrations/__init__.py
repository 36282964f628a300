"""What moves old to new: the shape of tables (schema), and whose rows they are (legacy)."""
