#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Uses the page of `minivmx matrix --html` in headless Chromium: check.js runs inside it and finds what a person would.

    check_page.py MINIVMX       prints test lines
"""

import html
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CHECK = Path(__file__).resolve().parent / "check.js"
# What Chromium is told beside the page: sizes of a desktop, of a phone, and the dark scheme. The page comes in a frame of the
# wanted size, since windows have a least width.
VARIANTS = {"wide": (1500, 900, []), "phone": (390, 844, []), "dark": (1280, 800, ["--force-dark-mode"])}
BROWSER = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
           "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1600,1000"]
SECONDS = 60
# Takes the result out of the page once it is there.
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin: 0">
<iframe id="frame" style="border: 0; width: {width}px; height: {height}px" src="checked.html"></iframe>
<script>
const poll = setInterval(() => {{
  const lines = document.getElementById("frame").contentDocument?.getElementById("test-lines");
  if (!lines) return;
  clearInterval(poll);
  document.body.append(lines);
}}, 50);
</script>"""


def main():
    with tempfile.TemporaryDirectory(prefix="minivmx-page-") as name:
        directory = Path(name)
        page = directory / "page.html"
        subprocess.run([sys.argv[1], "matrix", "--html", page], check=True)
        text = page.read_text()
        for variant, (width, height, flags) in VARIANTS.items():
            print_lines(variant, in_browser(directory, with_check(text, variant), width, height, flags))
        check_paper(directory, page)


def with_check(text, variant):
    """The page with the check behind its own script."""
    before = f'<script>var variant = "{variant}", errors = []; addEventListener("error", (e) => errors.push(e.message));</script>'
    head, body = text.split("<head>", 1)
    body, tail = body.rsplit("</body>", 1)
    return f"{head}<head>{before}{body}<script>{CHECK.read_text()}</script></body>{tail}"


def in_browser(directory, text, width, height, flags):
    """The document after the page's scripts have run in a frame of this size."""
    (directory / "checked.html").write_text(text)
    frame = directory / "frame.html"
    frame.write_text(FRAME.format(width=width, height=height))
    run = browser(directory, *flags, "--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom", frame.as_uri())
    return run.stdout


def browser(directory, *arguments):
    return subprocess.run([*BROWSER, f"--user-data-dir={directory}/profile", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, errors="replace", timeout=SECONDS)


def print_lines(variant, document):
    found = re.search(r'<pre id="test-lines">(.*?)</pre>', document, re.DOTALL)
    print(html.unescape(found[1]) if found else f"not ok - {variant}: the page is used: no result came back", flush=True)


def check_paper(directory, page):
    """Printed it must be pages of a table, not a window's worth of it."""
    paper = directory / "page.pdf"
    browser(directory, "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    pages = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) if paper.exists() else 0
    what = "paper: the whole table is on two to four pages"
    print(f"ok - {what}" if 2 <= pages <= 4 else f"not ok - {what}: {pages}", flush=True)


if __name__ == "__main__":
    main()
