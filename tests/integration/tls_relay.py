"""Somebody between a device and its primary: ends TLS with a certificate of his own and speaks TLS to the primary."""

import asyncio
import contextlib
import ssl
import threading

from octodb.model.node_uri import Address
from octodb.runtime.tls import check_certificate, fingerprint, make_certificate, server_context


class TlsRelay:
    """``address`` is what devices are told; ``seen`` is all that went through, both ways, in the clear."""

    def __init__(self, address):
        host, port = address.removeprefix("tls://").rsplit(":", 1)
        self._primary = host, int(port)
        certificate = check_certificate(*make_certificate((Address("127.0.0.1", 0),)))
        self.pin = fingerprint(certificate.der)
        self._context = server_context(certificate)
        self.seen = bytearray()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()))
        self._thread.start()
        assert self._listening.wait(10)

    def close(self):
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    async def _run(self):
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self._context)
        self.address = f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._ended.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accepted(self, from_device, to_device):
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(asyncio.CancelledError):
            from_primary, to_primary = await asyncio.open_connection(*self._primary, ssl=trusting)
            await asyncio.gather(self._pump(from_device, to_primary), self._pump(from_primary, to_device))

    async def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                self.seen += data
                sink.write(data)
        sink.transport.abort()
