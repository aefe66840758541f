"""Headless Chromium, driven as a person would use it."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.requirements import require

__all__ = ["ENTER", "ESCAPE", "SPACE", "TAB", "WAIT", "Browser"]

TAB, ENTER, ESCAPE, SPACE = "\ue004", "\ue007", "\ue00c", " "
"""Keys, as WebDriver (17.4.2) writes them."""

WAIT = 90.0
"""Seconds for something to appear, on a machine with much else to do."""

_EXPECTED_NOISE = ("the server responded with a status of 4", "ERR_CONNECTION_REFUSED")
"""What Chromium logs of answers that the page handles, and of a stopped mediator."""

ResultT = TypeVar("ResultT")


class Browser:
    """One window of a browser.

    :param origin: what addresses that are opened begin with.
    :param more: arguments of the program.
    """

    def __init__(self, origin: str, *more: str) -> None:
        program, driver = shutil.which("chromium"), shutil.which("chromedriver")
        require(program and driver, "needs chromium and chromium-driver")
        try:
            from selenium import webdriver
        except ImportError:
            webdriver = None  # type: ignore[assignment]
        require(webdriver, "needs selenium")
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for argument in (
            "--headless=new",
            "--disable-gpu",
            "--no-proxy-server",
            *more,
        ):
            options.add_argument(argument)
        options.add_argument("--disable-dev-shm-usage")
        if os.geteuid() == 0:
            # Chromium's sandbox refuses to work for root.
            options.add_argument("--no-sandbox")
        options.set_capability("acceptInsecureCerts", True)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(driver)
        self.driver: Any = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(WAIT)
        self.origin = origin
        self.resize(1280, 900)

    def quit(self) -> None:
        """End it."""
        self.driver.quit()

    # The window

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be a screen of this size, for a person who likes it dark or light."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {
            "name": "prefers-color-scheme",
            "value": "dark" if dark else "light",
        }
        self._command("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        size = self._command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"]}
        told = self._command(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=True,
            clip={**clip, "scale": 1},
        )
        path.write_bytes(base64.b64decode(told["data"]))

    def _command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def script(self, text: str, *arguments: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(text, *arguments)

    def open(self, fragment: str) -> None:
        """Go to a view, such as ``#/systems``, as by the address bar."""
        self.driver.get(self.origin + "/" + fragment)

    def begin(self) -> None:
        """Load the page as somebody who was never here."""
        self.driver.get("about:blank")
        self._command("Network.clearBrowserCookies")
        self._command(
            "Storage.clearDataForOrigin", origin=self.origin, storageTypes="all"
        )
        self.open("")

    # Waiting

    def until(self, what: str, look: Callable[[], ResultT]) -> ResultT:
        """Return what ``look`` returns, once it is true.

        :param what: what is waited for, for the failure.
        """
        from selenium.common.exceptions import (
            NoSuchElementException,
            StaleElementReferenceException,
        )

        deadline = time.monotonic() + WAIT
        while True:
            try:
                found = look()
            except (NoSuchElementException, StaleElementReferenceException):
                found = None  # type: ignore[assignment]
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come; the page says: {self.text}")
            time.sleep(0.05)

    @property
    def text(self) -> str:
        """All that can be read."""
        return str(self.script("return document.body.innerText"))

    def see(self, *texts: str) -> None:
        """Wait until all these texts can be read."""
        for text in texts:
            self.until(repr(text), lambda text=text: text in self.text)  # type: ignore[misc]

    def see_gone(self, text: str) -> None:
        """Wait until this text can be read no more."""
        self.until(f"the end of {text!r}", lambda: text not in self.text)

    # Things in the page

    def find(self, selector: str, text: str = "") -> Any:
        """Wait for an element that can be seen, with this text in it."""

        def look() -> Any:
            for element in self.all(selector):
                if element.is_displayed() and text in element.text:
                    return element
            return None

        return self.until(f"{selector} {text}".strip(), look)

    def all(self, selector: str) -> list[Any]:
        """Return all elements that there are now."""
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def click(self, selector: str, text: str = "") -> None:
        """Click on an element; one that moves or is replaced is looked for again."""
        from selenium.common.exceptions import ElementClickInterceptedException

        def clicked() -> bool:
            try:
                self.find(selector, text).click()
            except ElementClickInterceptedException:
                return False
            return True

        self.until(f"a click on {selector} {text}", clicked)

    def fill(self, **values: str) -> None:
        """Type into the fields of these names."""
        for name, value in values.items():
            element = self.find(f"input[name={name}]")
            element.clear()
            element.send_keys(value)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    @property
    def focused(self) -> str:
        """What a screen reader calls the element that has the focus."""
        return str(self.driver.switch_to.active_element.accessible_name)

    # Judging

    def complaints(self) -> list[str]:
        """Return what Chromium has logged since the last time, such as violations."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if not any(noise in entry["message"] for noise in _EXPECTED_NOISE)
        ]

    def barriers(self) -> list[str]:
        """Return what axe-core finds of barriers for people with disabilities."""
        try:
            import axe_core_python
        except ImportError:
            axe_core_python = None  # type: ignore[assignment]
        require(axe_core_python, "needs axe-core-python")
        file = Path(axe_core_python.__file__).with_name("axe.min.js")
        self.script(file.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0];"
            "axe.run().then((found) => done(found.violations), (e) => done(String(e)));"
        )
        if isinstance(found, str):
            raise AssertionError(found)
        return [
            f"{violation['id']}: {node['html']}: {node['failureSummary']}"
            for violation in found
            for node in violation["nodes"]
        ]
