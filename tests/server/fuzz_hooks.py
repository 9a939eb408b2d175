"""Hooks for schemathesis: how it sends a body of SDP, which it does not know."""

import schemathesis

schemathesis.serializer.alias("application/sdp", "text/plain")
