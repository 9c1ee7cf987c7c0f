"""A TCP proxy that lets a chosen number of bytes through to the server, and the rest when told. Changes no byte."""

import contextlib
import socket
import threading

CHUNK_BYTES = 4096


class DosingProxy:
    """Stands on ``port`` before ``server_port``, from ``start`` on; until then that port refuses connections.

    What clients send is held back once ``dose_bytes`` of it went through.
    """

    def __init__(self, port, server_port, dose_bytes):
        self.port = port
        self.server_port = server_port
        self._left_bytes = dose_bytes
        self._released = threading.Event()
        self._ended = False
        self._sockets = []
        self._threads = []
        self._listener = None

    def start(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._run(self._accept)

    def release(self):
        """Hold nothing back from now on."""
        self._released.set()

    def cut(self):
        """End the connections there are; new ones are taken."""
        for one in list(self._sockets):
            self._end(one)

    def close(self):
        self._ended = True
        self.release()
        if self._listener is not None:
            self._end(self._listener)  # wakes the accepting thread, which close alone does not
            self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def _run(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            try:
                server = socket.create_connection(("127.0.0.1", self.server_port))
            except OSError:
                self._end(client)
                continue
            self._sockets.append(server)
            self._run(self._pump, client, server, True)
            self._run(self._pump, server, client, False)

    def _pump(self, source, sink, dosed):
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if dosed and not self._released.is_set():
                    self._left_bytes -= len(data)
                    if self._left_bytes <= 0:
                        self._released.wait()
                sink.sendall(data)
        self._end(source)
        self._end(sink)

    def _end(self, one):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
