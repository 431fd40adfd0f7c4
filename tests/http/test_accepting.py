"""Whoever connects to a server under load is not kept waiting for as many turns as there are others."""

import asyncio
import socket

import pytest
import uvloop

from remora.http.limits import Limits
from remora.http.server import Server

PEERS = 64


class Silent:
    def began(self, exchange):
        pass

    def ended(self, exchange):
        exchange.respond(200, [], b"")

    def aborted(self, exchange):
        pass


@pytest.mark.parametrize(("accepts_at_once", "turns_max"), [(16, 20), (1, 200)])
def test_connections_are_accepted_together(accepts_at_once, turns_max):
    async def scenario():
        listener = socket.create_server(("127.0.0.1", 0), backlog=PEERS)
        address = listener.getsockname()
        server = Server(Silent(), listener, Limits(accepts_at_once=accepts_at_once))
        await server.start()
        peers = [socket.create_connection(address) for _ in range(PEERS)]
        turns = 0
        while len(server.connections) < PEERS:
            await asyncio.sleep(0)
            turns += 1
        for peer in peers:
            peer.close()
        await server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        return turns

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) <= turns_max
