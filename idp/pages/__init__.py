"""What people see: handlers, the values they show, words, templates and static files."""
