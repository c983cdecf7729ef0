"""A line of some bandwidth in front of a server: a proxy that passes so many bits a second in each direction.

All connections share it, as they share what leads to a data centre. It adds no delay.
"""

import asyncio
import multiprocessing
import urllib.parse

PIECE = 16 * 1024


class Direction:
    """One direction of the line: bytes go out one after the other, each when those before it have gone."""

    def __init__(self, bytes_per_second):
        self.rate, self.free = bytes_per_second, 0.0

    async def pass_on(self, reader, writer):
        clock = asyncio.get_running_loop().time
        try:
            while piece := await reader.read(PIECE):
                self.free = max(self.free, clock()) + len(piece) / self.rate
                await asyncio.sleep(self.free - clock())
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass  # One end is gone: the other learns it below.
        finally:
            writer.close()


async def carry(host, port, megabits, said):
    up, down = (Direction(megabits * 1e6 / 8) for _ in range(2))

    async def connect(reader, writer):
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(up.pass_on(reader, far_writer), down.pass_on(far_reader, writer))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    said.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def run(*arguments):
    asyncio.run(carry(*arguments))


class Line:
    """A line to a server's URL, in a process of its own: what that costs is not counted to anybody."""

    def __init__(self, url, megabits):
        address = urllib.parse.urlsplit(url)
        hears, said = multiprocessing.Pipe(duplex=False)
        arguments = (address.hostname, address.port, megabits, said)
        self.process = multiprocessing.Process(target=run, args=arguments, daemon=True)
        self.process.start()
        self.url = f"http://127.0.0.1:{hears.recv()}"

    def close(self):
        self.process.terminate()
        self.process.join()
