"""The doors that proxies ask before they pass a request on: Envoy, nginx, Caddy and Traefik, and plugins for OPA.

Whatever a proxy sends, one of two things comes of it: a permit, which rests on a decided allow, or a refusal. A client
never talks to these doors; who asks is the proxy, by a key of its own.
"""
