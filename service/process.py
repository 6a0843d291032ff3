"""A `serve`: the HTTP side is forked off first, before anything else is loaded."""

from dataclasses import replace

from service import interpreter, ports
from service.config import Config
from service.parent import Parent
from service.receiver import Receiver


def run(config: Config, parent: Parent | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. A second signal ends the process at once.

    For a process with one thread and no loop yet. Raises OperatorError if it cannot start; then
    everything begun is closed again. `parent`: whoever runs this process as one of several.
    """
    limits = ports.fitting(config.limits)
    fewer = limits != config.limits
    config = replace(config, limits=limits)
    receiver = Receiver.forked(config) if "ingress" in config.roles else None
    # Only now: loading it is most of a start, and the receiving process loads its part meanwhile.
    with interpreter.loading():
        from service import app

    app.run(config, receiver, parent, fewer=fewer)
