"""The doors for proxies, and the real proxies before them."""
