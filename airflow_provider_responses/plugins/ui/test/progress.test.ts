import { describe, expect, it } from "vitest";

import { isRunning, progressText, shareOf } from "../src/task/progress";

describe("isRunning", () => {
  it.each([
    ["running", true, true],
    ["deferred", true, true],
    ["running", false, false],
    ["running", undefined, false],
    ["up_for_retry", true, false],
    ["success", true, false],
    [null, true, false],
  ])("in state %s with a record of this attempt: %s", (state, isCurrent, expected) => {
    const progress = isCurrent === undefined ? {} : { is_current: isCurrent };
    expect(isRunning({ state, progress })).toBe(expected);
  });

  it("is false without a record", () => {
    expect(isRunning({ state: "running", progress: null })).toBe(false);
  });
});

describe("shareOf", () => {
  it.each([
    [40, 100, true, 0.4],
    [0, 0, true, null],
    [0, 0, false, 1],
    [null, 100, true, null],
    [1, null, false, null],
  ])("of %s of %s (running: %s) is %s", (done, total, running, share) => {
    expect(shareOf({ done, total }, running)).toBe(share);
  });
});

describe("progressText", () => {
  it("counts requests", () => {
    const progress = { done: 40, total: 100, rate: 2.5, seconds_left: 24 };
    expect(progressText(progress, true)).toBe("40 of 100 requests (40%), 2.5 requests/s, about 24 s left");
    expect(progressText(progress, false)).toBe("40 of 100 requests (40%), 2.5 requests/s");
    expect(progressText({ done: 3 }, true)).toBe("3 requests done");
  });

  it("is complete if an attempt without requests has ended", () => {
    expect(progressText({ done: 0, total: 0 }, false)).toBe("0 of 0 requests (100%)");
    expect(progressText({ done: 0, total: 0 }, true)).toBe("0 of 0 requests (–)");
  });
});

describe("progress", () => {
  it("has requests, speed and the time that is left", () => {
    const progress = { done: 4200, total: 10_000, rate: 42.5, seconds_left: 136.5 };
    expect(progressText(progress, true)).toBe("4,200 of 10,000 requests (42%), 43 requests/s, about 2 min 17 s left");
    expect(shareOf(progress, true)).toBeCloseTo(0.42);
  });

  it("does not invent what is unknown", () => {
    expect(progressText({ done: 12, total: null, rate: null, seconds_left: null }, true)).toBe("12 requests done");
    expect(shareOf({ done: 12, total: null }, true)).toBeNull();
    expect(shareOf({ done: 12, total: 0 }, true)).toBeNull();
  });

  it("never leaves the bar", () => {
    expect(shareOf({ done: 12, total: 10 }, true)).toBe(1);
  });
});
