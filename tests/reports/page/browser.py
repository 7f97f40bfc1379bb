"""A real browser for the tests of the page: headless Chromium, driven by Selenium."""

import json
import shutil
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WHY_NOT = None if CHROMIUM and DRIVER else "needs chromium and chromedriver (chromium-driver)"


class Browser:
    """One window. What the page says to the console is kept."""

    def __init__(self, *, width: int = 1200, is_dark: bool = False) -> None:
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage",
                     f"window-size={width},1000"):  # fmt: skip
            options.add_argument(f"--{word}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=ChromeService(executable_path=str(DRIVER)))
        if is_dark:
            media = [{"name": "prefers-color-scheme", "value": "dark"}]
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def close(self) -> None:
        self.driver.quit()

    def open(self, page: Path) -> None:
        """Open a page and draw all of its charts."""
        self.driver.get(page.as_uri())
        self.run("return window.raymat.drawAll()")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and give what it returns; a promise is waited for."""
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """Give what was written to the console since the last call, warnings and errors."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Give the addresses that the page fetched."""
        script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        return [name for name in self.run(script) if not name.startswith(("data:", "blob:"))]

    def points(self) -> dict[str, tuple[int, int]]:
        """Give title -> rows in the page, and rows that the drawn chart has, of every chart."""
        script = """
            const { data, views } = window.raymat;
            return JSON.stringify(Object.entries(views).map(([id, view]) =>
              [data[id].title, data[id].rows.length, view.data("rows").length]));
        """
        return {title: (n, drawn) for title, n, drawn in json.loads(self.run(script))}

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return list(self.run(script, selector))
