"""Object storage: reading objects by URL, in parts, through a bounded cache on the local disk."""
