import { describe, expect, it } from "vitest";

import { ApiError } from "../src/api";
import { delayOf, INTERVAL, isTemporary, LONGEST } from "../src/polling";

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
