"""A local S3 server in a process of its own: prints its port and serves until it is killed.

The client's reader of tables holds Python's lock while it waits for the server.
"""

import threading

from moto.server import ThreadedMotoServer

if __name__ == "__main__":
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    print(server._server.server_port, flush=True)
    threading.Event().wait()
