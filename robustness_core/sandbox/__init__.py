"""Uploads are parsed in a child process with limits. Nothing is imported here: the child limits itself first."""
