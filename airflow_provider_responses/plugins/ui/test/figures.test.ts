import { describe, expect, it } from "vitest";

import type { Sums } from "../src/api";
import { metricFor, missingFrom, ranked, ticksFor, tokensOf, valueOf, valueText } from "../src/figures";

const sums = (changes: Partial<Sums> = {}): Sums => ({
  requests: 1,
  cost: 0.1,
  unpriced: 0,
  input_tokens: 10,
  output_tokens: 5,
  cached: 0,
  failed: 0,
  task_instances: 1,
  ...changes,
});
const NOTHING = { unreadable: 0, not_ours: 0, without_usage: 0, earlier_attempts: false, backend: null };

describe("valueOf", () => {
  it("is null where requests have no known cost, and 0 where there were none", () => {
    expect(valueOf(sums({ cost: null }), "cost")).toBeNull();
    expect(valueOf(sums({ cost: null, requests: 0 }), "cost")).toBe(0);
    expect(valueOf(sums({ cost: null, requests: 0, unpriced: 1 }), "cost")).toBeNull();
  });

  it("counts tokens of both directions, and those of one if the other is unknown", () => {
    expect(tokensOf(sums())).toBe(15);
    expect(tokensOf(sums({ output_tokens: null }))).toBe(10);
    expect(tokensOf(sums({ input_tokens: null, output_tokens: null }))).toBeNull();
  });

  it("writes an unknown cost in words", () => {
    expect([valueText(null, "cost"), valueText(null, "tokens"), valueText(0, "cost")]).toEqual([
      "cost unknown",
      "unknown",
      "$0",
    ]);
  });
});

describe("metricFor", () => {
  it("is the cost, and requests if no cost is known", () => {
    expect(metricFor(null, sums())).toBe("cost");
    expect(metricFor(null, sums({ cost: null }))).toBe("requests");
    expect(metricFor(null, sums({ cost: 0, unpriced: 1 }))).toBe("requests");
    expect(metricFor(null, sums({ cost: 0 }))).toBe("cost");
    expect(metricFor("cost", sums({ cost: null }))).toBe("cost");
  });
});

describe("ranked", () => {
  it("has the most expensive first, the unknown last, and names decide a tie", () => {
    const rows = [
      { ...sums({ cost: null }), name: "unknown" },
      { ...sums({ cost: 1 }), name: "b" },
      { ...sums({ cost: 1 }), name: "a" },
      { ...sums({ cost: 2 }), name: "most" },
      { ...sums({ cost: 0 }), name: "free" },
    ];
    expect(ranked(rows, "cost", (row) => row.name).map((row) => row.name)).toEqual(["most", "a", "b", "free", "unknown"]);
  });
});

describe("ticksFor", () => {
  it.each([
    [0.2494, "cost", [0, 0.1, 0.2, 0.3]],
    [4, "cost", [0, 1, 2, 3, 4]],
    [1, "requests", [0, 1]],
    [3, "requests", [0, 1, 2, 3]],
    [0, "cost", [0]],
  ] as const)("of %d %s are %j", (highest, metric, ticks) => {
    const made = ticksFor(highest, metric);
    expect(made).toHaveLength(ticks.length);
    made.forEach((tick, index) => expect(tick).toBeCloseTo(ticks[index] ?? Number.NaN, 9));
  });

  it("always cover the highest value with at most five lines", () => {
    for (let exponent = -7; exponent < 12; exponent += 0.037) {
      const highest = 10 ** exponent;
      const ticks = ticksFor(highest, "cost");
      expect(ticks.length).toBeLessThanOrEqual(5);
      expect(ticks.at(-1)).toBeGreaterThanOrEqual(highest * (1 - 1e-6));
      expect(ticks.at(-1)).toBeLessThanOrEqual(highest * 2.51);
    }
  });

  it("are whole numbers of requests", () => {
    for (let highest = 1; highest < 500; highest += 1) {
      expect(ticksFor(highest, "requests").every(Number.isInteger)).toBe(true);
    }
  });
});

describe("missingFrom", () => {
  it("is empty if nothing is missing", () => {
    expect(missingFrom(NOTHING)).toEqual([]);
  });

  it("names the number and the cause of each", () => {
    const missing = { unreadable: 2, not_ours: 1, without_usage: 1, earlier_attempts: true, backend: "S3Backend" };
    expect(missingFrom(missing)).toEqual([
      "1 finished task instance has no usage: their XComs were cleared or purged, or do_xcom_push is off.",
      "2 usage XComs could not be read from the XCom backend S3Backend.",
      "1 XCom named usage has another form and is not counted.",
      "Attempts before a task was last cleared are not counted.",
    ]);
  });
});
