"""One command per file; `up` starts a node, every other command speaks HTTP to one."""
