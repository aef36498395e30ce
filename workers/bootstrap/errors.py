"""Why there is no binary."""

from gateway.kernel.errors import UpstreamUnavailable


class BootstrapFailed(UpstreamUnavailable):
    """Names the step and the rule that was broken, never an address with credentials in it."""
