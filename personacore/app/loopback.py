"""The one address at which anything is served: this machine's own."""

import errno
import socket

from personacore.errors import UserError

HOST = "127.0.0.1"


def check_port(port: int) -> None:
    """See whether a port is free.

    Raises:
        UserError: it is taken, or is no port.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        raise UserError(f"port {port} {'is taken' if taken else 'cannot be used'}: name another with --port") from None
