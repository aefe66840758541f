"""The portal in a real browser, with a real mediator, servers and clients."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from urllib.parse import quote

import pyotp

from dwcloud.protocol.mediation.result_codes import ResultCode
from tests.browser.chromium import ENTER, ESCAPE, SPACE, TAB
from tests.browser.introductions import introduce
from tests.browser.portal_case import PASSWORD, PortalCase

ATTACK = '<img src=x onerror="window.attacked=1"><script>attacked=1</script>'

_FORBIDDEN = """
const stopped = [];
try { document.body.innerHTML = "<b>x</b>"; } catch { stopped.push("markup"); }
try { document.body.setAttribute("onclick", "1"); } catch { stopped.push("handler"); }
return stopped;
"""
_FOREIGN = """
const done = arguments[0];
fetch("https://other.example/").then(() => done("went"), () => done("stopped"));
"""


class AccountTests(PortalCase):
    """An account, from its beginning to its end."""

    at = "people"

    def test_life(self) -> None:
        """Register, change the password, sign out and in, delete the account."""
        browser = self.browser
        browser.click("a", "Make an account")
        browser.fill(name="anna", password="short")
        browser.click("button", "Make the account")
        browser.find("[role=alert]", "10")
        browser.fill(password=PASSWORD)
        browser.click("button", "Make the account")
        browser.see("You have no systems yet", "Live")
        browser.click("nav a", "Account")
        browser.see("Browser (this one)", "anna registered the account")
        browser.fill(old="not the password", new="lantern gravel 9")
        browser.click("button", "Change the password")
        browser.find("[role=alert]", "password")
        browser.fill(old=PASSWORD, new="lantern gravel 9")
        browser.click("button", "Change the password")
        browser.see("The password is changed", "anna changed the password")
        browser.click("button", "Sign out")
        browser.find("h1", "Sign in")
        browser.fill(name="anna", password=PASSWORD)
        browser.click("form button", "Sign in")
        browser.find("[role=alert]", "password")
        browser.fill(password="lantern gravel 9")
        browser.click("form button", "Sign in")
        browser.find("h1", "Systems")
        # Reloaded, the page is still signed in, and may still change things.
        browser.driver.refresh()
        browser.click("nav a", "Account")
        browser.click("button", "Delete this account")
        browser.find("dialog input").send_keys("lantern gravel 9")
        browser.click("dialog button", "Delete it")
        browser.see("Your account is deleted", "Make an account")

    def test_second_factor(self) -> None:
        """Set it up, sign in with it and with a recovery code, remove it."""
        browser = self.browser
        self.sign_in(self.person("otto"))
        browser.click("nav a", "Account")
        browser.click("button", "Set it up")
        browser.find("svg.qr")
        uri = browser.find("a[href^='otpauth:']").get_attribute("href")
        factor = pyotp.parse_uri(uri)
        assert isinstance(factor, pyotp.TOTP)
        browser.fill(code=factor.now())
        browser.click("button", "Switch it on")
        browser.see("Keep these recovery codes")
        codes = [item.text for item in browser.all(".codes li")]
        browser.click("button", "Sign out")
        browser.fill(name="otto", password=PASSWORD)
        browser.click("form button", "Sign in")
        browser.find("input[name=totp]")
        self.assertIn("second factor", browser.focused)
        browser.fill(totp=codes[0])
        browser.click("form button", "Sign in")
        browser.find("h1", "Systems")
        browser.click("nav a", "Account")
        browser.click("button", "Remove it")
        browser.find("dialog input[name=password]").send_keys(PASSWORD)
        browser.find("dialog input[name=code]").send_keys(codes[1])
        browser.click("dialog button", "Remove it")
        browser.see("Off. With a second factor")

    def test_other_session_ends(self) -> None:
        """A session can be ended from elsewhere, and the page notices."""
        browser = self.browser
        person = self.person("ida")
        self.sign_in(person)
        [mine] = [
            session["id"]
            for session in person.ask("GET", "/sessions")["sessions"]
            if session["kind"] == "cookie"
        ]
        person.ask("DELETE", f"/sessions/{mine}")
        browser.click("nav a", "Account")
        browser.see("You are signed out")
        browser.find("h1", "Sign in")

    def test_token(self) -> None:
        """A token of a program is told apart from sessions, and revoked."""
        browser = self.browser
        person = self.person("rita")
        system = person.bind("garage")
        body = {"label": "night build", "lifetime": 900}
        made = person.ask("POST", f"/systems/{system}/tokens", body)
        self.sign_in(person)
        browser.click("nav a", "Account")
        browser.see("Token “night build”", "Viewer of garage, and nothing else")
        browser.see("rita made the token “night build” with the role viewer")
        browser.click("button", "Revoke")
        browser.see_gone("Viewer of garage")
        self.assertEqual(person.ask("GET", f"/systems/{system}/tokens")["tokens"], [])
        self.assertEqual(len(made["access_token"]), 43)

    def test_somebody_leaves(self) -> None:
        """The log tells those who leave from those who are removed."""
        browser = self.browser
        owner, guest = self.person("tina"), self.person("udo")
        system = owner.bind("garage")
        path = f"/systems/{system}/members/udo"
        owner.ask("PUT", path, {"role": "viewer"})
        guest.ask("DELETE", path)
        owner.ask("PUT", path, {"role": "viewer"})
        owner.ask("DELETE", path)
        self.sign_in(owner)
        browser.click("a", "garage")
        browser.see("udo left the system", "tina removed udo")

    def test_where_to_after(self) -> None:
        """After signing in it goes on where one wanted to go, if that is here."""
        browser = self.browser
        self.person("olga")
        for wanted, reached in (
            ("/gateway?host=x", "/gateway?host=x"),
            ("/\\other.example/", "/?next="),
            ("/\t/other.example/", "/?next="),
        ):
            browser.begin()
            browser.open(f"?next={quote(wanted)}")
            browser.fill(name="olga", password=PASSWORD)
            browser.click("form button", "Sign in")
            browser.see_gone("Account name")
            here = browser.driver.current_url.removeprefix(browser.origin)
            self.assertTrue(here.startswith(reached), here)

    def test_policy(self) -> None:
        """The browser stops what the page never does: frames, other hosts, markup."""
        browser = self.browser
        browser.find("form")
        stopped = browser.script(_FORBIDDEN)
        self.assertEqual(stopped, ["markup", "handler"])
        asked = browser.driver.execute_async_script(_FOREIGN)
        self.assertEqual(asked, "stopped")
        violations = browser.complaints()
        self.assertTrue(any("connect-src" in text for text in violations), violations)
        site = self.site(f"<iframe src='{browser.origin}/'></iframe>")
        browser.driver.get(site)
        browser.until(
            "a refusal", lambda: "frame-ancestors" in str(browser.complaints())
        )

    def test_hostile_program(self) -> None:
        """What a program calls itself is shown as the text that it is."""
        browser = self.browser
        person = self.person("eve")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(self.mediator, context=context)
        credentials = json.dumps({"name": "eve", "password": PASSWORD})
        fields = {"Content-Type": "application/json", "User-Agent": ATTACK}
        connection.request("POST", "/api/v1/sessions", credentials, fields)
        self.assertEqual(connection.getresponse().status, 201)
        connection.close()
        self.sign_in(person)
        browser.click("nav a", "Account")
        browser.see(ATTACK)
        self.assertIsNone(browser.script("return window.attacked || null"))


class SystemTests(PortalCase):
    """Systems: online and offline, connections, sharing."""

    at = "systems"

    def test_live(self) -> None:
        """A system, its server and a connection come and go on a page left alone."""
        browser = self.browser
        person = self.person("anna")
        self.sign_in(person)
        browser.see("You have no systems yet")
        service = self.echo()
        server = person.serve("garage", f"echo=127.0.0.1:{service}")
        browser.find(".card", "garage")
        browser.find(".card .state", "Online")
        browser.see("1 server online, nobody connected", "1 system, 1 online")
        client = person.command("connect", "garage", "--path", "relay")
        client.send(b"over the relay")
        client.wait_for("over the relay")
        browser.find(".card .chip.relay", "Relay")
        browser.click(".card a", "garage")
        browser.find(".line.relay")
        browser.see("Through a relay", "14 B to the client, 14 B to the server")
        browser.find(".entry.good", "anna connected")

        def sees_traffic() -> bool:
            client.send(b"x" * 100_000)
            time.sleep(0.5)
            figure = browser.find(".figures dd").text
            return re.match(r"[\d.]+ KB/s", figure) is not None

        browser.until("traffic in the plot", sees_traffic)
        title = browser.script("return document.querySelector('svg title').textContent")
        self.assertIn("anna is connected: Through a relay", title)
        client.stop()
        browser.see("Nobody is connected now")
        # Online, but not for who tried last.
        [system] = person.ask("GET", "/systems")["systems"]
        introduce(person, system["id"], "phone", ResultCode.UDT_FAILED)
        browser.find(".title-row .state", "Unreachable")
        browser.see("UDP packets did not get through")
        # One who comes later learns it, too.
        browser.driver.refresh()
        browser.find(".title-row .state", "Unreachable")
        server.stop()
        browser.find(".title-row .state", "Offline")
        browser.open("#/systems")
        browser.see("Last seen")

    def test_failures(self) -> None:
        """A connection that failed is there with its reason, in plain words."""
        browser = self.browser
        person = self.person("berta")
        system = person.bind("barn")
        self.sign_in(person)
        browser.click(".card a", "barn")
        self.assertIs(introduce(person, system, ATTACK), ResultCode.PEER_OFFLINE)
        browser.find(".entry.bad", "berta could not connect")
        browser.see("No server of this system was in touch with the cloud", ATTACK)
        self.assertIsNone(browser.script("return window.attacked || null"))

    def test_sharing(self) -> None:
        """A second person sees what is shared, as long as it is."""
        browser = self.browser
        owner, other = self.person("dora"), self.person("emil")
        system = owner.bind("dock")
        self.sign_in(owner)
        browser.click(".card a", "dock")
        browser.fill(member="nobody-of-that-name")
        browser.click("form button", "Share")
        browser.find("[role=alert]", "no account named")
        browser.fill(member="emil")
        browser.click("form button", "Share")
        browser.find(".person", "emil")
        browser.click("button", "Give it to somebody else")
        browser.find("dialog input").send_keys("nobody-of-that-name")
        browser.click("dialog button", "Give it away")
        browser.find("dialog [role=alert]", "no account named")
        browser.click("dialog button", "Cancel")
        browser.click("button", "Make an invitation link")
        link = browser.find(".sharing input[readonly]").get_attribute("value")
        self.assertRegex(link, rf"^https://{self.mediator}/#/invitation/\S+$")
        browser.click("button", "Sign out")
        self.sign_in(other)
        browser.find(".card", "Owned by dora")
        browser.click(".card a", "dock")
        browser.find(".person", "emil")
        self.assertFalse(
            [b.text for b in browser.all("button")].count("Unbind this system…")
        )
        for switch in browser.all("[role=switch]"):
            self.assertFalse(switch.is_enabled())
        owner.ask("DELETE", f"/systems/{system}/members/emil")
        browser.see("You have no role on dock any more", "You have no systems yet")

    def test_open_invitations(self) -> None:
        """Those not accepted yet are listed, and withdrawn by who may."""
        browser = self.browser
        owner, helper = self.person("lena"), self.person("mats")
        system = owner.bind("loft")
        path = f"/systems/{system}/invitations"
        owner.ask("PUT", f"/systems/{system}/members/mats", {"role": "administrator"})
        owner.ask("POST", path, {"role": "administrator"})
        self.sign_in(helper)
        browser.click(".card a", "loft")
        browser.find(".invitations .person", "Invitation for one administrator")
        browser.see("by lena, good until")
        browser.click("button", "Make an invitation link")
        browser.find(".invitations .person", "Invitation for one viewer")
        link = browser.find(".invitations input[readonly]").get_attribute("value")
        # An administrator gives no other that role, and takes no other's away.
        shown = [b for b in browser.all(".invitations .person button") if b.text]
        self.assertEqual([b.text for b in shown], ["Withdraw"])
        browser.click(".invitations .person button", "Withdraw")
        browser.see("Its link gives nobody a role any more")
        browser.click("dialog button", "Withdraw")
        browser.see("The invitation is withdrawn")
        browser.see_gone("by you, good until")
        self.assertEqual(browser.all(".invitations input[readonly]"), [])
        browser.until("the focus", lambda: browser.focused == "Make an invitation link")
        [left] = owner.ask("GET", path)["invitations"]
        self.assertEqual(left["role"], "administrator")
        code = str(link).rpartition("/")[2]
        other = self.person("nils")
        with self.assertRaises(AssertionError) as raised:
            other.ask("POST", "/invitations/accept", {"code": code})
        self.assertIn(" 404 ", str(raised.exception))
        browser.click("button", "Sign out")
        self.sign_in(owner)
        browser.click(".card a", "loft")
        browser.click("button", "Make an invitation link")
        browser.find(".invitations .person", "Invitation for one viewer")
        browser.click(".invitations .person button", "Withdraw")
        browser.click("dialog button", "Withdraw")
        browser.see_gone("Invitation for one administrator")
        # The link that is still good is still there.
        browser.find(".invitations input[readonly]")
        browser.click(".invitations .person button", "Withdraw")
        browser.click("dialog button", "Withdraw")
        browser.see_gone("Open invitations")
        self.assertEqual(owner.ask("GET", path)["invitations"], [])

    def test_invitation(self) -> None:
        """Somebody without an account comes by a link, registers, and accepts."""
        browser = self.browser
        owner = self.person("frida")
        system = owner.bind("farm")
        made = owner.ask("POST", f"/systems/{system}/invitations", {"role": "viewer"})
        browser.open(f"#/invitation/{made['code']}")
        browser.driver.refresh()
        browser.see("Somebody shares a system with you")
        browser.fill(name="guest", password=PASSWORD)
        browser.click("button", "Make the account")
        browser.click("button", "Accept the invitation")
        browser.find("h1", "farm")
        browser.see("Owned by frida; you are viewer")

    def test_switches(self) -> None:
        """Public and web gateway say what they mean, and do what they say."""
        browser = self.browser
        person = self.person("gerda")
        system = person.bind("greenhouse")
        self.sign_in(person)
        browser.click(".card a", "greenhouse")
        for label, name, warning in (
            ("Public", "public", "On: everybody who knows the identifier"),
            ("Web gateway", "web", "whoever runs the relay can read and change them"),
        ):
            browser.click(".switch label", label)
            browser.see(warning)
            told = person.ask("GET", f"/systems/{system}")["system"]
            self.assertTrue(told[name], name)
        browser.find(".entry", "switched public access on")
        browser.open("#/systems")
        browser.find(".chip.warn", "Public")

    def test_mediator_restarts(self) -> None:
        """The page says that it has lost touch, and goes on when it can."""
        browser = self.browser
        person = self.person("hilda")
        person.bind("hut")
        self.sign_in(person)
        browser.find(".card", "hut")
        self.cloud.stop_mediator()
        browser.find("#live", "Reconnecting")
        self.cloud.start_mediator()
        browser.find("#live.live", "Live")
        person.bind("hall")
        browser.find(".card", "hall")


class EveryoneTests(PortalCase):
    """The portal for people with a keyboard alone, a phone, or a screen reader."""

    at = "everyone"

    def views(self) -> list[str]:
        """Sign in, and return all views, the one of a system among them."""
        person = self.person("vera")
        system = person.bind(
            "a-very-long-name-of-a-system-without-any-break-in-it-at-all"
        )
        self.person("berta-with-a-name-that-is-as-long-as-names-of-accounts-can-be")
        person.ask(
            "PUT",
            f"/systems/{system}/members/"
            "berta-with-a-name-that-is-as-long-as-names-of-accounts-can-be",
            {"role": "administrator"},
        )
        for role in ("viewer", "administrator"):
            person.ask("POST", f"/systems/{system}/invitations", {"role": role})
        introduce(person, system, "C" * 60)
        self.sign_in(person)
        return ["#/systems", f"#/systems/{system}", "#/account", "gateway?host=x"]

    def test_views(self) -> None:
        """No barrier for anybody, nothing wider than a phone, light and dark."""
        browser = self.browser
        found: list[str] = []
        views = ["#/sign-in", "#/register"]
        for view in [*views, *self.views()]:
            if view == "#/systems":
                # From here on somebody is signed in.
                views.clear()
            browser.open(view)
            browser.find("h1")
            browser.until("the log", lambda: "Loading" not in browser.text)
            for summary in browser.all("summary"):
                summary.click()
            for width, dark in ((1280, False), (320, True)):
                browser.resize(width, 800, dark=dark)
                found += [f"{view} {width}: {b}" for b in browser.barriers()]
                wide = browser.script(
                    "return [document.documentElement.scrollWidth, innerWidth]"
                )
                self.assertLessEqual(wide[0], wide[1], f"{view} at {width}")
        self.assertEqual(found, [])

    def test_keyboard(self) -> None:
        """Sign in, open a system, change a switch and leave a dialog by keys alone."""
        browser = self.browser
        person = self.person("kurt")
        system = person.bind("kiosk")
        browser.find("form")
        self.assertEqual(browser.focused, "Account name")
        browser.press("kurt", TAB, PASSWORD, ENTER)
        browser.find("h1", "Systems")
        browser.find(".card", "kiosk")
        browser.driver.refresh()
        browser.find(".card", "kiosk")
        order = [self._next() for _ in range(6)]
        self.assertEqual(
            order,
            ["Skip to content", "dwcloud", "Systems", "Account", "Sign out", "kiosk"],
        )
        browser.press(ENTER)
        browser.find("h1", "kiosk")
        self.assertEqual(browser.focused, "kiosk")
        self._tab_to("Public")
        browser.press(SPACE)
        browser.see("On: everybody who knows the identifier")
        self.assertTrue(person.ask("GET", f"/systems/{system}")["system"]["public"])
        self._tab_to("Unbind this system…")
        browser.press(ENTER)
        browser.find("dialog h2", "Unbind kiosk?")
        self.assertIn("Type", browser.focused)
        browser.press("not its name", ENTER)
        browser.find("dialog [role=alert]", "That is not its name")
        browser.press(ESCAPE)
        browser.until("the end of the dialog", lambda: not self._dialogs())
        self.assertEqual(browser.focused, "Unbind this system…")

    def _dialogs(self) -> int:
        return len(self.browser.all("dialog"))

    def _next(self) -> str:
        self.browser.press(TAB)
        return self.browser.focused

    def _tab_to(self, name: str) -> None:
        """Press the tabulator until something has the focus."""
        passed = []
        while len(passed) < 60:
            passed.append(self._next())
            if passed[-1] == name:
                return
        raise AssertionError(f"{name} is not among {passed}")
