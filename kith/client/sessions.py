"""Both services, and what one person has written there."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Self

import grpc

from kith.client.calls import Calls, Line, Person
from kith.client.channel_options import client_options, usual_seconds
from kith.client.channels import open_channel
from kith.client.settings import Targets, TargetSettings, require_token
from kith.client.written import Positions, Reads, first_positions, tokens
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub

CHANNELS: Final = 2
"""How many channels to each service: each is a connection to one of the workers behind it."""


class KithClient:
    """Both services. Thread-safe; open one and keep it.

    Calls on the client itself remember nothing and are answered by the primary databases.
    """

    def __init__(
        self,
        *,
        graph: str,
        feed: str,
        access: TargetSettings,
        channels: int = CHANNELS,
        waits: bool = True,
        also_retried: Collection[str] = (),
    ) -> None:
        """Open channels to gRPC targets; nothing is sent before the first call.

        With `waits`, calls wait until a server is reachable, up to their deadline. Calls with a
        status of `also_retried`, such as ABORTED, are retried as well as those with UNAVAILABLE.
        """

        def line(service: str, target: str) -> Line[grpc.Channel]:
            options = client_options(service, waits=waits, also_retried=also_retried, bounds=False)
            return Line(
                [open_channel(target, access, options) for _ in range(channels)],
                usual_seconds(service),
            )

        self._permits_tokens = access.permits_tokens(graph, feed)
        self._graph, self._feed = line("graph", graph), line("feed", feed)
        self.graph_channel: grpc.Channel = Calls(self._graph)
        """For stubs of what graph_service offers besides, such as grpc.health.v1."""
        self.feed_channel: grpc.Channel = Calls(self._feed)
        """For stubs of what feed_service offers besides."""
        self.graph = GraphServiceStub(self.graph_channel)
        self.feed = FeedServiceStub(self.feed_channel)

    @classmethod
    def from_environment(
        cls,
        *,
        graph: str = "",
        feed: str = "",
        channels: int = CHANNELS,
        waits: bool = True,
        also_retried: Collection[str] = (),
    ) -> Self:
        """Open channels as GRAPH_TARGET, FEED_TARGET, TARGET_CA_FILE and its companions say.

        Targets that are given count more than those variables. Raises SettingsError.
        """
        targets = Targets.from_environment(graph=graph, feed=feed)
        return cls(
            graph=targets.graph,
            feed=targets.feed,
            access=targets.access,
            channels=channels,
            waits=waits,
            also_retried=also_retried,
        )

    def session(
        self,
        *,
        reads: Reads = "primary",
        positions: Mapping[str, Sequence[str]] | None = None,
        user_token: str | None = None,
    ) -> "Session":
        """Return what one person calls through; it opens no connection.

        Until the person has written something, the primary databases answer, or replicas if
        `reads` says that what others have just written may be missing. `positions` are those of an
        earlier session of the person, perhaps in another process.

        `user_token` is the person's own token, for a service that calls on their behalf: every call
        of the session sends it as `kith-user-token`, beside what the client shows of itself. When
        the token is renewed, open another session with the `positions` of this one.

        Raises ValueError for an empty token, and SettingsError for one that would be sent
        unencrypted to another machine.
        """
        if user_token is not None:
            require_token(user_token, is_permitted=self._permits_tokens)
        return Session(
            graph=self._graph,
            feed=self._feed,
            positions=first_positions(reads, positions),
            user_token=user_token,
        )

    def close(self) -> None:
        """Close the channels; calls that are under way are cancelled."""
        for channel in (*self._graph.channels, *self._feed.channels):
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()


class Session:
    """Both services for one person, who sees everything that was answered to them. Thread-safe.

    What others have written may come later, and, where several replicas answer, go once more.
    """

    def __init__(
        self,
        *,
        graph: Line[grpc.Channel],
        feed: Line[grpc.Channel],
        positions: dict[str, Positions],
        user_token: str | None = None,
    ) -> None:
        self._positions = positions

        def calls(line: Line[grpc.Channel], service: str) -> Calls:
            return Calls(line, Person(positions=positions[service], token=user_token))

        self.graph = GraphServiceStub(calls(graph, "graph"))
        self.feed = FeedServiceStub(calls(feed, "feed"))

    @property
    def positions(self) -> dict[str, list[str]]:
        """What the person has to see, to go on with in another session."""
        return tokens(self._positions)
