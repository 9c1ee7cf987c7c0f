"""An asyncio event loop in virtual time, and a network for it that can be slow, cut, partitioned and garbled in time.

When nothing is ready the clock jumps to the next timer: an hour of sync takes as long as its work does. Connections are
pairs of ``SimTransport``. Everything random comes from the ``random.Random`` given to the network.
"""

import asyncio
import contextvars
from collections import deque

NODE = contextvars.ContextVar("node", default=None)
"""Whose code runs: tasks inherit it from the engine that made them."""


class Stalled(Exception):
    """Nothing is ready and no timer is set, but the simulation has not ended."""


class _NoFiles:
    """Stands where BaseEventLoop has its selector: waiting is moving the clock."""

    def __init__(self, loop):
        self._loop = loop

    def select(self, timeout):
        if timeout is None:
            raise Stalled
        if timeout > 0:
            self._loop.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    def __init__(self, network):
        super().__init__()
        self.now = 0.0
        self.network = network
        self.tasks_of = {}  # node → its tasks
        self._selector = _NoFiles(self)
        self._clock_resolution = 1e-6  # after ninety days a float cannot tell nanoseconds apart
        network.loop = self
        self.set_task_factory(self._make_task)

    def time(self):
        return self.now

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        pass  # call_soon_threadsafe: there is one thread

    def _make_task(self, loop, coroutine, **arguments):
        task = asyncio.Task(coroutine, loop=loop, **arguments)
        tasks = self.tasks_of.setdefault(NODE.get(), {})
        tasks[task] = None
        task.add_done_callback(lambda task: self._task_done(tasks, task))
        return task

    def _task_done(self, tasks, task):
        """A task of an engine that dies of an error leaves the engine lame."""
        tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self.call_exception_handler({"message": "a task died", "exception": task.exception()})

    async def create_connection(self, factory, host, port):
        return await self.network.connect(NODE.get(), factory, host, port)

    async def create_server(self, factory, host, port, **_):
        return self.network.listen(NODE.get(), factory, host, port)


class _Server:
    """What asyncio gives for a listening socket, as far as the engine looks at it."""

    def __init__(self, network, address):
        self._network, self._address = network, address
        self.sockets = [self]

    def getsockname(self):
        return self._address

    def close(self):
        self._network.listeners.pop(self._address, None)


class Link:
    """One connection: two transports, and what is on the way between them."""

    def __init__(self, network, dialer, server):
        self.network, self.dialer, self.server = network, dialer, server
        self.cut = False
        self.ends = ()

    def lost(self):
        """Whether nothing gets through now: cut for good, or partitioned for a while."""
        return self.cut or self.network.is_apart(self.dialer, self.server)


class SimTransport(asyncio.Transport):
    """One end. Bytes arrive at the other end later, in order, in pieces of any size."""

    def __init__(self, link, owner, protocol, context):
        super().__init__()
        self._link, self.owner, self._protocol, self._context = link, owner, protocol, context
        self._network = link.network
        self.peer = None
        self._on_the_way = deque()
        self._bytes_on_the_way = 0
        self._pump_set = False
        self._closing = False
        self._ended = False

    def get_extra_info(self, name, default=None):
        return ("sim", 0) if name == "peername" else default

    def is_closing(self):
        return self._closing

    def get_write_buffer_size(self):
        return self._bytes_on_the_way

    def write(self, data):
        if self._closing or not data:
            return
        self._network.observe(self.owner, self.peer.owner, data)
        self._on_the_way.append(bytes(data))
        self._bytes_on_the_way += len(data)
        self._set_pump()

    def close(self):
        if not self._closing:
            self._closing = True
            self._on_the_way.append(None)
            self._set_pump()
            self._end(None)

    def abort(self):
        if not self._closing:
            self._closing = True
            self._on_the_way.clear()
            self._on_the_way.append(None)
            self._set_pump()
            self._end(None)

    def vanish(self):
        """The process died: the other side hears of it as of any lost connection."""
        self._ended = True
        self.abort()

    def break_off(self):
        """The line broke: part of what is on the way arrives, and both ends notice."""
        for end in (self, self.peer):
            arrives = self._network.arriving(end._bytes_on_the_way)
            while arrives > 0 and end._on_the_way and end._on_the_way[0] is not None:
                piece = end._on_the_way.popleft()[:arrives]
                arrives -= len(piece)
                if not end.peer._closing:
                    end.peer._context.run(end.peer._protocol.data_received, piece)
        for end in (self, self.peer):
            end._closing = True
            end._end(ConnectionResetError("the line broke"))

    def _end(self, error):
        if not self._ended:
            self._ended = True
            self._network.loop.call_soon(self._protocol.connection_lost, error, context=self._context)

    def _set_pump(self):
        if not self._pump_set:
            self._pump_set = True
            self._network.loop.call_later(self._network.latency_s(self._bytes_on_the_way), self._pump)

    def _pump(self):
        """Deliver some of what is on the way."""
        self._pump_set = False
        if not self._on_the_way or self._link.cut:
            return
        if self._link.lost():
            self._network.loop.call_later(0.5, self._pump)  # held up by a partition, as TCP would
            self._pump_set = True
            return
        first = self._on_the_way[0]
        if first is None:
            self._on_the_way.popleft()
            if not self.peer._closing:
                self.peer._closing = True
                self.peer._end(None)
            return
        piece = first[: self._network.piece_size(len(first))]
        if len(piece) == len(first):
            self._on_the_way.popleft()
        else:
            self._on_the_way[0] = first[len(piece) :]
        self._bytes_on_the_way -= len(piece)
        if not self.peer._closing and not self.peer._ended:
            self.peer._context.run(self.peer._protocol.data_received, piece)
        if self._on_the_way:
            self._set_pump()


class Network:
    """Who can reach whom, and how fast. ``observed(sender, receiver, data)`` sees every byte that is sent."""

    def __init__(self, random, observed):
        self._random = random
        self.observe = observed
        self.loop = None
        self.listeners = {}
        self.links = []
        self.apart = {}  # (dialer, server) → until when
        self.slow_until = 0.0

    # --- faults --------------------------------------------------------------------------------------

    def cut(self, link):
        """Break a connection, with whatever is on the way."""
        if not link.cut and not any(end.is_closing() for end in link.ends):
            link.cut = True
            link.ends[0].break_off()
            return True
        return False

    def part(self, dialer, server, duration_s):
        self.apart[dialer, server] = self.loop.now + duration_s

    def is_apart(self, dialer, server):
        return self.apart.get((dialer, server), 0.0) > self.loop.now

    def heal(self):
        self.apart.clear()
        self.slow_until = 0.0

    def live_links(self):
        self.links = [link for link in self.links if not all(end.is_closing() for end in link.ends)]
        return [link for link in self.links if not link.cut]

    # --- timing --------------------------------------------------------------------------------------

    def latency_s(self, waiting_bytes):
        base = self._random.choice((0.0002, 0.001, 0.02))
        return base if self.loop.now >= self.slow_until else base + 0.2 + waiting_bytes / 20_000

    def arriving(self, waiting_bytes):
        """How much of what is on the way still arrives when the line breaks."""
        return self._random.randint(0, waiting_bytes) if waiting_bytes else 0

    def piece_size(self, length):
        return length if self._random.random() < 0.8 else self._random.randint(1, length)

    # --- connections ---------------------------------------------------------------------------------

    def listen(self, owner, factory, host, port):
        if (host, port) in self.listeners:
            raise OSError(98, "address already in use")
        self.listeners[host, port] = (owner, factory, contextvars.copy_context())
        return _Server(self, (host, port))

    async def connect(self, dialer, factory, host, port):
        await asyncio.sleep(self.latency_s(0))
        found = self.listeners.get((host, port))
        if found is None:
            raise ConnectionRefusedError(111, "connection refused")
        owner, server_factory, server_context = found
        if self.is_apart(dialer, owner):
            await asyncio.sleep(3600)  # the engine gives up long before
        link = Link(self, dialer, owner)
        server_protocol = server_context.run(server_factory)
        client_protocol = factory()
        client = SimTransport(link, dialer, client_protocol, contextvars.copy_context())
        server = SimTransport(link, owner, server_protocol, server_context)
        client.peer, server.peer = server, client
        link.ends = (client, server)
        self.links.append(link)
        server_context.run(server_protocol.connection_made, server)
        client_protocol.connection_made(client)
        return client, client_protocol

    def drop_node(self, node):
        """The process of ``node`` died."""
        for address, (owner, _, _) in list(self.listeners.items()):
            if owner is node:
                del self.listeners[address]
        for link in self.links:
            for end in link.ends:
                if end.owner is node and not end.is_closing():
                    end.vanish()
