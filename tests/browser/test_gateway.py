"""A browser looks at a server's pages through the relay, by way of the portal."""

from __future__ import annotations

import json
import time

from dwcloud.cli.demo_browser import write_certificate
from dwcloud.cli.demo_cloud import LOOPBACK
from tests.browser.portal_case import PASSWORD, Cloud, Person, PortalCase
from tests.browser.web_services import CameraProgram, EchoSite

DOMAIN = "relay.example.org"

PICTURE = """
const image = document.getElementById("live");
if (!image || !image.naturalWidth) return null;
const canvas = document.createElement("canvas");
canvas.width = image.naturalWidth;
canvas.height = image.naturalHeight;
const pen = canvas.getContext("2d");
pen.drawImage(image, 0, 0);
return [canvas.width, canvas.height, canvas.toDataURL("image/png")];
"""
"""What the page shows at the moment."""

SOCKET = """
const [size, done] = arguments;
const socket = new WebSocket(`wss://${location.host}/socket`);
socket.binaryType = "arraybuffer";
const got = [];
socket.onopen = () => {
  socket.send("hello");
  socket.send(new Uint8Array(size).fill(7));
};
socket.onmessage = (event) => {
  got.push(event.data);
  if (got.length === 2) socket.close();
};
socket.onclose = (event) => {
  const bytes = new Uint8Array(got[1] ?? 0);
  const sum = bytes.reduce((a, b) => a + b, 0);
  done({ text: got[0], size: bytes.length, sum, clean: event.wasClean });
};
"""

UPLOAD = """
const [size, done] = arguments;
fetch("/upload", { method: "POST", body: new Uint8Array(size).fill(1) })
  .then((answer) => answer.text()).then(done, (error) => done(String(error)));
"""


class GatewayCloud(Cloud):
    """A cloud whose relay lets browsers in."""

    def mediator_options(self) -> list[str]:
        """The relay that the portal may send browsers to."""
        return [f"--web-gateway={DOMAIN}:{self.web_port}"]

    def relay_options(self) -> list[str]:
        """What lets browsers in."""
        key, certificate = write_certificate(self.directory, DOMAIN)
        return [
            f"--portal=https://{self.address}",
            f"--web-domain={DOMAIN}",
            f"--web-endpoint=ssl:{self.web_port}:privateKey={key}"
            f":certKey={certificate}:interface={LOOPBACK}",
        ]

    def browser_arguments(self) -> list[str]:
        """All names below the domain are this machine's."""
        return [f"--host-resolver-rules=MAP *.{DOMAIN} {LOOPBACK}"]


class GatewayTests(PortalCase):
    """The way in, what is shown, and the way out."""

    at = "gateway"
    make_cloud = GatewayCloud

    def system(self, person: Person, name: str, port: int, *, web: bool = True) -> str:
        """Serve what is at a port; return the origin where browsers find it."""
        self.serving = person.serve(name, f"web={LOOPBACK}:{port}")
        systems = person.ask("GET", "/systems")["systems"]
        (self.system_id,) = [s["id"] for s in systems if s["name"] == name]
        if web:
            person.ask("PATCH", f"/systems/{self.system_id}", {"web": True})
        assert isinstance(self.cloud, GatewayCloud)
        return f"https://{self.system_id}.{DOMAIN}:{self.cloud.web_port}"

    def go(self, address: str) -> None:
        """Type an address."""
        self.browser.driver.get(address)

    def sign_in_on_the_way(self, person: Person) -> None:
        """Be led to the portal, and sign in there."""
        self.browser.find("h1", "Sign in")
        self.assertTrue(
            self.browser.driver.current_url.startswith(f"https://{self.mediator}/")
        )
        self.browser.fill(name=person.name, password=PASSWORD)
        self.browser.click("form button", "Sign in")

    def enter(self, address: str, person: Person) -> None:
        """Go to a system's page by the portal."""
        self.go(address)
        self.sign_in_on_the_way(person)
        self.browser.see("can read this traffic")
        self.browser.click("button", "Open it")
        origin = "/".join(address.split("/")[:3])
        self.browser.until(
            f"the way to {origin}",
            lambda: self.browser.driver.current_url.startswith(origin),
        )

    def camera(self) -> CameraProgram:
        """Start a camera."""
        camera = CameraProgram(self.cloud.directory)
        self.addCleanup(camera.stop)
        return camera

    def echo_site(self) -> EchoSite:
        """Start a site with a WebSocket."""
        site = EchoSite()
        self.addCleanup(site.stop)
        return site

    def watch(self, wanted: int = 4) -> list[str]:
        """Look at the video until so many different pictures were there."""
        seen: dict[str, None] = {}

        def look() -> bool:
            picture = self.browser.script(PICTURE)
            if picture:
                self.assertEqual(picture[:2], [512, 384])
                seen[picture[2]] = None
            return len(seen) >= wanted

        self.browser.until(f"{wanted} pictures", look)
        return list(seen)

    def viewers(self, camera: CameraProgram) -> int:
        return int(json.loads(camera.status())["viewers"])

    def test_camera(self) -> None:
        """Live video plays in the browser, and it came by the relay."""
        anna, camera = self.person("gwanna"), self.camera()
        origin = self.system(anna, "street", camera.port)
        self.enter(f"{origin}/?from=a&link=b", anna)
        self.assertEqual(self.browser.driver.current_url, f"{origin}/?from=a&link=b")
        self.watch()
        before = json.loads(camera.status())["pictures_sent"]
        self.watch()
        self.assertGreater(json.loads(camera.status())["pictures_sent"], before)
        self.assertEqual(self.viewers(camera), 1)
        # The cookie is none that a script could read.
        self.assertEqual(self.browser.script("return document.cookie"), "")
        self.serving.wait_for('"path": "relay"')
        self.serving.wait_for('"account": "gwanna"')
        self.go("about:blank")
        self.browser.until("the end of the video", lambda: self.viewers(camera) == 0)

    def test_switched_off(self) -> None:
        """When the owner switches it off, the video ends within a minute."""
        anna, camera = self.person("gwotto"), self.camera()
        origin = self.system(anna, "yard", camera.port)
        self.enter(f"{origin}/", anna)
        self.watch(2)
        began = time.monotonic()
        anna.ask("PATCH", f"/systems/{self.system_id}", {"web": False})
        self.browser.until("the end of the video", lambda: self.viewers(camera) == 0)
        self.assertLess(time.monotonic() - began, 60)
        self.go(f"{origin}/")
        self.browser.see("The server does not let you in")
        self.browser.click("a", "Try again")
        self.browser.see("yard is not open to browsers")
        # The video that was cut is what Chromium has to say.
        self.browser.complaints()

    def test_role_taken(self) -> None:
        """When a viewer's role is taken away, so is the video."""
        anna, bert, camera = self.person("gwida"), self.person("gwbert"), self.camera()
        origin = self.system(anna, "hall", camera.port)
        self.go(f"{origin}/")
        self.sign_in_on_the_way(bert)
        self.browser.see("You have no access to this system")
        members = f"/systems/{self.system_id}/members"
        anna.ask("PUT", f"{members}/gwbert", {"role": "viewer"})
        self.go(f"{origin}/")
        self.browser.see("belongs to gwida")
        self.browser.click("button", "Open it")
        self.watch(2)
        anna.ask("DELETE", f"{members}/gwbert")
        self.browser.until("the end of the video", lambda: self.viewers(camera) == 0)
        self.go(f"{origin}/")
        self.browser.see("The server does not let you in")
        self.browser.complaints()

    def test_websocket(self) -> None:
        """A WebSocket's messages come back, and an upload arrives."""
        anna, site = self.person("gwmaria"), self.echo_site()
        origin = self.system(anna, "echo", site.port)
        self.enter(f"{origin}/", anna)
        self.browser.see("The echo site")
        came = self.browser.driver.execute_async_script(SOCKET, 300_000)
        self.assertEqual(
            came, {"text": "hello", "size": 300_000, "sum": 2_100_000, "clean": True}
        )
        uploaded = self.browser.driver.execute_async_script(UPLOAD, 2_000_000)
        self.assertEqual(uploaded, "2000000 bytes, sum 2000000")
        self.assertFalse([c for c in site.cookies if "dwcloud" in c], site.cookies)

    def test_remembered(self) -> None:
        """Who is asked once and says so is not asked again, until leaving for good."""
        anna, site = self.person("gwpaul"), self.echo_site()
        origin = self.system(anna, "attic", site.port)
        self.go(f"{origin}/")
        self.sign_in_on_the_way(anna)
        self.browser.see("can read this traffic")
        self.assertEqual(self.browser.barriers(), [])
        self.browser.click("input[name=keep]")
        self.browser.click("button", "Open it")
        self.browser.see("The echo site")
        self.go(f"{origin}/.dwcloud/")
        self.browser.see("the relay itself can read it")
        self.browser.click("button", "Leave")
        self.browser.see("You have left")
        self.go(f"{origin}/again")
        self.browser.see("The echo site")

    def test_other_systems_page(self) -> None:
        """A page of one system reaches nothing of another, though signed in to both."""
        anna = self.person("gwnora")
        mine, other = self.echo_site(), self.echo_site()
        first = self.system(anna, "one", mine.port)
        second = self.system(anna, "two", other.port)
        self.enter(f"{first}/", anna)
        self.browser.see("The echo site")
        self.go(f"{second}/")
        self.browser.click("button", "Open it")
        self.browser.see("The echo site")
        before = len(mine.cookies)
        told = self.browser.driver.execute_async_script(
            "const [where, done] = arguments;"
            "const asked = [fetch(where, {mode: 'no-cors', credentials: 'include'}),"
            " fetch(where, {mode: 'no-cors', credentials: 'include', method: 'POST'})];"
            "const socket = new WebSocket(where.replace('https', 'wss'));"
            "asked.push(new Promise((end) => { socket.onclose = end; }));"
            "Promise.allSettled(asked).then((all) => done(all.length));",
            f"{first}/secret",
        )
        self.assertEqual(told, 3)
        self.assertEqual(len(mine.cookies), before)
        self.browser.complaints()
