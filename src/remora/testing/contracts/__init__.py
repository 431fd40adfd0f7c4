"""One suite for every door: what its drivers promise, as checks that any driver can be run through."""
