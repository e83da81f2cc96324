"""A headless Chromium, driven over its DevTools protocol with the standard library alone, and what a report must keep there.

The browser is `JMP_CHROMIUM`, or `chromium`, `chromium-browser` or `google-chrome` on the path. `JMP_SCREENSHOTS=DIR` keeps a
picture of each page that is checked.
"""
import base64
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0")
PATIENCE = 60  # seconds for a browser on a busy machine


def find():
    """The browser's path, or None."""
    given = os.environ.get("JMP_CHROMIUM")
    return given or next((path for path in map(shutil.which, NAMES) if path), None)


class Socket:
    """The client's side of a WebSocket (RFC 6455): text messages only."""

    def __init__(self, url):
        host, _, path = url.removeprefix("ws://").partition("/")
        name, _, port = host.partition(":")
        self.connection = socket.create_connection((name, int(port)), timeout=PATIENCE)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = ("GET /%s HTTP/1.1" % path, "Host: " + host, "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Key: " + key, "Sec-WebSocket-Version: 13", "", "")
        self.connection.sendall("\r\n".join(lines).encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head

    def more(self):
        data = self.connection.recv(1 << 16)
        if not data:
            raise ConnectionError("the browser closed the connection")
        return data

    def take(self, count):
        while len(self.buffer) < count:
            self.buffer += self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def send(self, text):
        data, mask = text.encode(), secrets.token_bytes(4)
        size = len(data)
        head = bytes([0x81, 0x80 | size]) if size < 126 else struct.pack(">BBH", 0x81, 0xFE, size) if size < 1 << 16 \
            else struct.pack(">BBQ", 0x81, 0xFF, size)
        stretched = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")
        self.connection.sendall(head + mask + masked)

    def receive(self):
        message = b""
        while True:
            first, size = self.take(2)
            if size == 126:
                (size,) = struct.unpack(">H", self.take(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self.take(8))
            message += self.take(size)
            if first & 0x0F == 8:
                raise ConnectionError("the browser closed the connection")
            if first & 0x80:
                return message.decode()


class Browser:
    """A browser with one page; use it in a `with` statement."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [find(), *FLAGS, "--user-data-dir=" + self.folder.name, "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = self.wait_for(Path(self.folder.name) / "DevToolsActivePort")
        pages = json.load(urllib.request.urlopen("http://127.0.0.1:%s/json" % port, timeout=PATIENCE))
        self.socket = Socket(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))
        self.number, self.events = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def wait_for(self, file):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if file.exists() and "\n" in file.read_text():
                return file.read_text().split("\n")[0]
            if self.process.poll() is not None:
                raise RuntimeError("the browser ended with code %s" % self.process.returncode)
            time.sleep(0.05)
        raise TimeoutError("the browser does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.connection.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.folder.cleanup()

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.receive())
            if message.get("id") == self.number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.events.append(message)

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, page, width, scheme):
        """Loads a file at a width in `light` or `dark`; returns what went wrong and what was asked of the network."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events = []
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.receive()))
        self.evaluate("document.fonts.ready.then(() => 0), 0")
        bad = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        faults = [event["params"] for event in self.events if event["method"] in bad]
        requests = [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return faults, [url for url in requests if url != page.as_uri()]

    def screenshot(self, file):
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(picture["data"]))


# What overlaps or sticks out, as a list of sentences. A pixel is rounding. What a closed part holds has a box, but is not seen.
OVERLAPS = """
(() => {
  const found = [], box = e => e.checkVisibility() ? e.getBoundingClientRect() : new DOMRect(), shown = r => r.width > 0 && r.height > 0;
  const words = e => JSON.stringify((e.textContent || e.tagName).slice(0, 40));
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  document.querySelectorAll('svg[role=img]').forEach(svg => {
    const frame = box(svg), label = svg.getAttribute('aria-label');
    const texts = Array.from(svg.querySelectorAll('text')).map(e => [e, box(e)]).filter(t => shown(t[1]));
    texts.forEach(([e, r], i) => {
      if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 1)
        found.push(label + ': ' + words(e) + ' sticks out');
      texts.slice(i + 1).forEach(([f, s]) => { if (meet(r, s)) found.push(label + ': ' + words(e) + ' over ' + words(f)); });
    });
  });
  const blocks = Array.from(document.querySelectorAll('h1, h2, h3, p, dl, figure, .scroll, nav, summary, footer'))
    .filter(e => !e.parentElement.closest('figure, .scroll, nav')).map(e => [e, box(e)]).filter(t => shown(t[1]));
  blocks.forEach(([e, r], i) => blocks.slice(i + 1).forEach(([f, s]) => {
    if (!e.contains(f) && !f.contains(e) && meet(r, s)) found.push(words(e) + ' over ' + words(f));
  }));
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) found.push('the page is ' + wide + ' pixels wider than the window');
  return found;
})()
"""

# Axes without a title, or whose title tells no unit; counts have none. Lying bars have their names in place of a second axis.
UNLABELLED = """
(() => {
  const found = [], counted = /^(atoms|structures|components|neighbours|edges|triplets|quadruplets|optimiser steps|loss|(energy|force) loss|metric|share|structures per second|L2 norm|largest learning rate|step)/;
  document.querySelectorAll('svg[role=img]').forEach(svg => {
    if (!svg.querySelector('.axis')) return;
    const titles = Array.from(svg.querySelectorAll('text.title')).map(t => t.textContent.trim());
    const expected = svg.getAttribute('aria-label').startsWith('Bars: ') ? 1 : 2;
    if (titles.length !== expected) found.push(svg.getAttribute('aria-label') + ': ' + titles.length + ' titles');
    titles.forEach(t => { if (!t.includes(' / ') && !counted.test(t)) found.push('no unit: ' + t); });
  });
  return found;
})()
"""

# Texts that do not stand out from what is behind them (WCAG 2: contrast 4.5, large text 3).
FAINT = """
(() => {
  const channels = c => (c.match(/[0-9.]+/g) || []).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const mix = (over, under, a) => over.slice(0, 3).map((v, k) => v * a + under[k] * (1 - a));
  const behind = e => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const found = [], seen = new Set();
  document.querySelectorAll('h1, h2, h3, p, dt, dd, td, th button, a, summary, figcaption, li, footer, svg text').forEach(e => {
    if (!e.textContent.trim() || !e.getBoundingClientRect().width) return;
    const style = getComputedStyle(e), svg = e.closest('svg');
    let ground = behind(svg ? svg.parentElement : e);
    const cell = e.parentElement.querySelector(':scope > rect');
    if (svg && cell && e.parentElement.tagName === 'g') { const s = getComputedStyle(cell);
      ground = mix(channels(s.fill), ground, Number(s.fillOpacity)); }
    let ink = channels(svg ? style.fill : style.color);
    ink = mix(ink, ground, svg ? Number(style.fillOpacity) : 1);
    if (e.classList.contains('inside')) return;
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), limit = size >= 18.6 || size >= 14 && Number(style.fontWeight) >= 600 ? 3 : 4.5;
    const what = e.tagName + '.' + e.getAttribute('class') + ' ' + ratio.toFixed(2);
    if (ratio < limit && !e.closest('.absent') && !seen.has(what)) { seen.add(what); found.push(what + ' ' + JSON.stringify(e.textContent.slice(0, 30))); }
  });
  return found;
})()
"""


# Plots without marks, legends without words, numbers that are none, tables without rows.
EMPTY = """
(() => {
  const found = [];
  document.querySelectorAll('svg[role=img]').forEach(svg => {
    if (!svg.querySelector('rect, circle, path:not(.grid, .axis)')) found.push(svg.getAttribute('aria-label') + ': nothing is drawn');
  });
  document.querySelectorAll('.legend').forEach(list => { if (!list.children.length) found.push('an empty legend'); });
  document.querySelectorAll('.legend li, th, dt, dd, figcaption, h1, h2, h3').forEach(e => {
    if (!e.textContent.trim()) found.push('an empty ' + e.tagName);
  });
  document.querySelectorAll('td, dd, svg text, .legend li, p').forEach(e => {
    if (/\\b(NaN|inf|undefined|null)\\b/.test(e.textContent)) found.push('not a number: ' + e.textContent);
  });
  document.querySelectorAll('table').forEach(table => { if (!table.tBodies[0].rows.length) found.push(table.ariaLabel + ' has no rows'); });
  return found;
})()
"""


def check_page(test, browser, page, name):
    """Asserts, at both widths and in both colour schemes, that a report opens from a file without errors and requests, that
    nothing overlaps, that axes are labelled, and that texts can be read; so with its closed parts opened too."""
    pictures = os.environ.get("JMP_SCREENSHOTS")
    for width in (1280, 400):
        for scheme in ("light", "dark"):
            with test.subTest(page=name, width=width, scheme=scheme):
                faults, requests = browser.open(page, width, scheme)
                test.assertEqual((faults, requests), ([], []))
                if pictures:
                    Path(pictures).mkdir(parents=True, exist_ok=True)
                    browser.screenshot(Path(pictures) / ("%s-%d-%s.png" % (name, width, scheme)))
                for opened in (False, True):
                    if opened:
                        browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
                    for fault in (OVERLAPS, UNLABELLED, FAINT, EMPTY):
                        test.assertEqual(browser.evaluate(fault), [])
