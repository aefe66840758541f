"""The camera of the demonstration: a page with live video, as small cameras have it.

``python -m dwcloud.cli.demo_camera [PORT]`` runs it alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from dwcloud.cli.demo_picture import draw, encode_jpeg

__all__ = ["PICTURES_PER_SECOND", "Camera", "camera_site", "main"]

PICTURES_PER_SECOND = 10
_BOUNDARY = b"next-picture"

_PAGE = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Camera</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 34rem;
  padding: 0 1rem; background: #15191d; color: #e8ecef; }
img { width: 100%; image-rendering: pixelated; border-radius: 8px; background: #000; }
a { color: #8cc8ff; }
</style></head>
<body><h1>Camera</h1>
<img id="live" src="live.mjpeg" width="512" height="384" alt="A street, live">
<p>Live pictures of a street that exists in this program alone.
<a href="still.jpg">One picture</a> <a href="status.json">Figures</a></p>
</body></html>
"""


class Camera:
    """Takes pictures while somebody looks.

    :param clock: gives seconds, from any beginning.
    :param time_of_day: returns what the camera's clock shows.
    :ivar taken: pictures so far.
    :ivar sent: pictures to those who look at the video.
    """

    def __init__(
        self,
        reactor: Any,
        time_of_day: Callable[[], str] = lambda: time.strftime("%H:%M:%S"),
    ) -> None:
        self._reactor = reactor
        self._time_of_day = time_of_day
        self._viewers: set[_Viewer] = set()
        self._beat = LoopingCall(self._take)
        self._beat.clock = reactor
        self.taken = 0
        self.sent = 0

    @property
    def viewers(self) -> int:
        """How many look at the video."""
        return len(self._viewers)

    def picture(self) -> bytes:
        """Take a picture: a JPEG file."""
        self.taken += 1
        cells = draw(self._time_of_day(), self._reactor.seconds(), self.taken)
        return encode_jpeg(cells)

    def add(self, viewer: _Viewer) -> None:
        """Somebody begins to look."""
        self._viewers.add(viewer)
        if not self._beat.running:
            self._beat.start(1 / PICTURES_PER_SECOND)

    def remove(self, viewer: _Viewer) -> None:
        """Somebody looks no more."""
        self._viewers.discard(viewer)
        if not self._viewers and self._beat.running:
            self._beat.stop()

    def _take(self) -> None:
        picture = self.picture()
        for viewer in list(self._viewers):
            self.sent += viewer.show(picture)


@implementer(IPushProducer)
class _Viewer:
    """One who looks; who is too slow misses pictures, instead of seeing them late."""

    def __init__(self, camera: Camera, request: Request) -> None:
        self._camera = camera
        self._request: Any = request
        self._is_ready = True
        request.setHeader(
            b"content-type", b"multipart/x-mixed-replace; boundary=" + _BOUNDARY
        )
        request.setHeader(b"cache-control", b"no-store")
        self._request.notifyFinish().addErrback(lambda _: self.stopProducing())
        self._request.registerProducer(self, True)
        self._request.write(b"--" + _BOUNDARY)
        camera.add(self)

    def show(self, picture: bytes) -> bool:
        """Send a picture, unless the one before is still on its way."""
        if self._is_ready:
            self._request.write(
                b"\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n--%b"
                % (len(picture), picture, _BOUNDARY)
            )
        return self._is_ready

    def pauseProducing(self) -> None:
        """Wait: the line is full."""
        self._is_ready = False

    def resumeProducing(self) -> None:
        """Go on."""
        self._is_ready = True

    def stopProducing(self) -> None:
        """Nobody looks any more."""
        self._camera.remove(self)


class _Fixed(Resource):
    """An answer that is made at once."""

    isLeaf = True

    def __init__(self, media_type: bytes, make: Callable[[], bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._media_type = media_type
        self._make = make

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        request.setHeader(b"content-type", self._media_type)
        request.setHeader(b"cache-control", b"no-store")
        return self._make()


class _Live(Resource):
    """The video."""

    isLeaf = True

    def __init__(self, camera: Camera) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._camera = camera

    def render_GET(self, request: Request) -> int:
        """Begin to show it."""
        _Viewer(self._camera, request)
        return NOT_DONE_YET


def camera_site(camera: Camera) -> Site:
    """Return the web server of a camera."""

    def status() -> bytes:
        figures = {
            "pictures_taken": camera.taken,
            "pictures_sent": camera.sent,
            "viewers": camera.viewers,
        }
        return json.dumps(figures).encode()

    root = Resource()
    root.putChild(b"", _Fixed(b"text/html; charset=utf-8", lambda: _PAGE))
    root.putChild(b"still.jpg", _Fixed(b"image/jpeg", camera.picture))
    root.putChild(b"status.json", _Fixed(b"application/json", status))
    root.putChild(b"live.mjpeg", _Live(camera))
    site = Site(root)
    site.displayTracebacks = False
    return site


def main() -> None:
    """Run a camera, on loopback, until interrupted."""
    from twisted.internet import reactor as _reactor

    reactor = cast(Any, _reactor)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    listening = reactor.listenTCP(
        port, camera_site(Camera(reactor)), interface="127.0.0.1"
    )
    print(f"camera at http://127.0.0.1:{listening.getHost().port}/", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
