import { describe, expect, it } from "vitest";

import { ApiError } from "../src/api";
import { delayOf, INTERVAL, isTemporary, LONGEST } from "../src/polling";
import { progressText, shareOf } from "../src/task/progress";

const running = { visible: true, state: "running", error: null, failures: 0 };

describe("delayOf", () => {
  it.each(["running", "deferred", "queued", "up_for_retry"])("follows a task instance that is %s", (state) => {
    expect(delayOf({ ...running, state })).toBe(INTERVAL);
  });

  it.each(["success", "failed", "skipped", "removed", "upstream_failed", null, undefined])("ends at %s", (state) => {
    expect(delayOf({ ...running, state })).toBeNull();
  });

  it("rests while the page is hidden", () => {
    expect(delayOf({ ...running, visible: false })).toBeNull();
  });

  it("waits longer after each failure, up to a limit", () => {
    const error = new ApiError(503, null);
    const delays = [1, 2, 3, 20].map((failures) => delayOf({ ...running, error, failures }));
    expect(delays).toEqual([2 * INTERVAL, 4 * INTERVAL, 8 * INTERVAL, LONGEST]);
  });

  it.each([401, 403, 404, 422])("ends at HTTP %d, which no later request changes", (status) => {
    expect(delayOf({ ...running, error: new ApiError(status, null), failures: 1 })).toBeNull();
  });

  it("goes on when the network failed", () => {
    expect(isTemporary(new ApiError(null, null))).toBe(true);
  });
});

describe("progress", () => {
  it("has rows, speed and the time that is left", () => {
    const progress = { done: 4200, total: 10_000, rate: 42.5, seconds_left: 136.5 };
    expect(progressText(progress)).toBe("4,200 of 10,000 rows (42%), 43 rows/s, about 2 min 17 s left");
    expect(shareOf(progress)).toBeCloseTo(0.42);
  });

  it("does not invent what is unknown", () => {
    expect(progressText({ done: 12, total: null, rate: null, seconds_left: null })).toBe("12 rows done");
    expect(shareOf({ done: 12, total: null })).toBeNull();
    expect(shareOf({ done: 12, total: 0 })).toBeNull();
  });

  it("never leaves the bar", () => {
    expect(shareOf({ done: 12, total: 10 })).toBe(1);
  });
});
