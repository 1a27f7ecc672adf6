"""JavaScript that the tests run in a page."""

from __future__ import annotations

from typing import Any

from tools.pictures.browser import Page

DAY_CHART = "document.querySelector('[data-chart=days] .bar')"

# The milliseconds from the navigation to the frame that shows the first chart.
FIRST_CHART = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('[data-chart=days] .bar')) return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { window.firstChart = performance.now(); }));
}).observe(document, {childList: true, subtree: true});
"""

# Timers of a second or more do not run by themselves: `waits` are their times, `fire()` runs them.
TIMERS = """
(() => {
  const [set, clear] = [window.setTimeout.bind(window), window.clearTimeout.bind(window)];
  const pending = new Map();
  let next = 1e9;
  window.setTimeout = (run, time, ...rest) => {
    if (!(time >= 1000)) return set(run, time, ...rest);
    pending.set(++next, {run, time});
    return next;
  };
  window.clearTimeout = (id) => pending.delete(id) || clear(id);
  window.waits = () => [...pending.values()].map(({time}) => time);
  window.fire = () => { const due = [...pending.values()]; pending.clear(); due.forEach(({run}) => run()); };
  let hidden = false;
  Object.defineProperty(document, 'hidden', {get: () => hidden});
  window.hide = (value) => { hidden = value; document.dispatchEvent(new Event('visibilitychange')); };
})();
"""

# Texts whose contrast to what is behind them is below the limit of WCAG AA, and marks of charts below 3 to 1.
LOW_CONTRAST = """
(() => {
  const pixel = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const colour = (text) => {  // of any form that CSS has
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = text;
    pixel.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
    return {rgb: [r, g, b], a: a / 255};
  };
  const over = (top, below) => top.rgb.map((c, i) => c * top.a + below[i] * (1 - top.a));
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const {backgroundColor} = getComputedStyle(each);
      layers.push(colour(backgroundColor));
    }
    const canvas = getComputedStyle(document.documentElement).colorScheme.includes('dark') ? 18 : 255;
    return layers.reverse().reduce((below, layer) => over(layer, below), [canvas, canvas, canvas]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((m, n) => n - m);
    return (x + 0.05) / (y + 0.05);
  };
  const low = [];
  let checked = 0;
  const check = (element, property, limit, name) => {
    const value = getComputedStyle(element)[property];
    if (value === 'none') return;
    const below = behind(element);
    const found = contrast(over(colour(value), below), below);
    checked += 1;
    if (found < limit) low.push(`${name}: ${found.toFixed(2)}`);
  };
  const root = document.querySelector('.responses-ui');
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.tagName === 'TITLE' || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const property = element.closest('svg') ? 'fill' : 'color';
    check(element, property, large ? 3 : 4.5, walker.currentNode.data.slice(0, 40));
  }
  root.querySelectorAll('svg .bar').forEach((bar) => check(bar, 'fill', 3, 'bar'));
  root.querySelectorAll('svg .unknown').forEach((bar) => check(bar, 'stroke', 3, 'outline'));
  root.querySelectorAll('button.button, .field select, .field > button').forEach((control) =>
    check(control, 'borderTopColor', 3, `border of ${control.textContent}`));
  return {low, checked};
})()
"""

FOCUSED = """
(() => {
  const element = document.activeElement;
  if (!element || !element.closest('.responses-ui')) return null;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const name = element.getAttribute('aria-label') || element.labels?.[0]?.textContent || element.textContent || '';
  return {
    tag: element.tagName.toLowerCase(), role: element.getAttribute('role'), name: name.trim(),
    visible: box.width > 0 && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
  };
})()
"""

FOCUSABLE = """
[...document.querySelectorAll('.responses-ui :is(a[href], button, input, select, summary, [tabindex="0"])')]
  .filter((element) => element.getClientRects().length).length
"""


def text(tab: Page, selector: str = ".responses-ui") -> str:
    """Return the text that a part of the page shows."""
    return str(tab.run(f"document.querySelector({selector!r}).innerText"))


def tab_stops(tab: Page, limit: int = 400) -> list[dict[str, Any]]:
    """Press Tab until the focus leaves the page; return what had it."""
    stops: list[dict[str, Any]] = []
    for _ in range(limit):
        tab.press("Tab")
        stop = tab.run(FOCUSED)
        if stop is None and stops:
            return stops
        if stop is not None:
            stops.append(stop)
    raise AssertionError(f"the focus never left the page: {stops[-3:]}")


def tab_to(tab: Page, name: str, limit: int = 200) -> dict[str, Any]:
    """Press Tab until the element of that name has the focus."""
    for _ in range(limit):
        tab.press("Tab")
        stop = tab.run(FOCUSED)
        if stop is not None and stop["name"].startswith(name):
            assert stop["visible"], stop
            return dict(stop)
    raise AssertionError(f"Tab does not lead to {name}")
