"""The YAML: its keys, defaults and bounds, and what is said of a wrong one."""
