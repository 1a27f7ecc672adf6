import { describe, expect, it } from "vitest";

import { compact, costOf, count, day, duration, money, NONE, percent, plural, time, times } from "../src/format";

describe("money", () => {
  it.each([
    [0.000031, "$0.000031"],
    [0.00003, "$0.00003"],
    [0.0000316, "$0.000032"],
    [1.05e-7, "$0.00000011"],
    [1e-9, "$0.000000001"],
    [4e-10, "<$0.000000001"],
    [0.00999, "$0.01"],
    [0.0312, "$0.0312"],
    [0.5, "$0.50"],
    [0.99996, "$1.00"],
    [1, "$1.00"],
    [1234567.891, "$1,234,567.89"],
    [0, "$0"],
    [-0.02, "-$0.02"],
  ])("shows %d as %s", (value, text) => {
    expect(money(value)).toBe(text);
  });

  it.each([null, undefined, Number.NaN, Number.POSITIVE_INFINITY, "1" as unknown as number])(
    "never shows %s as an amount",
    (value) => {
      expect(money(value)).toBe("unknown");
    },
  );

  it("keeps two digits that matter of every small amount", () => {
    for (let exponent = -8.9; exponent < -2; exponent += 0.013) {
      const amount = 10 ** exponent;
      const shown = Number(money(amount).replace("$", ""));
      expect(Math.abs(shown - amount) / amount).toBeLessThanOrEqual(0.05);
    }
  });
});

describe("costOf", () => {
  it("is unknown, not free, if no cost of the requests is known", () => {
    expect(costOf({ cost: null, requests: 3 })).toBe("unknown");
  });

  it("is none without requests", () => {
    expect(costOf({ cost: null, requests: 0 })).toBe(NONE);
  });

  it("is unknown if all that is known was at no cost", () => {
    expect(costOf({ cost: 0, unpriced: 2, requests: 3 })).toBe("unknown");
    expect(costOf({ cost: 0, unpriced: 0, requests: 3 })).toBe("$0");
  });

  it("is the sum of what is known", () => {
    expect(costOf({ cost: 0.25, unpriced: 2, requests: 3 })).toBe("$0.25");
  });
});

describe("counts", () => {
  it.each([
    [0, "0"],
    [1234, "1,234"],
    [null, "unknown"],
  ])("count %s is %s", (value, text) => {
    expect(count(value)).toBe(text);
  });

  it.each([
    [12, "12"],
    [99_999, "99,999"],
    [100_000, "100 k"],
    [123_456, "123 k"],
    [12_345_678, "12.3 M"],
    [4.2e9, "4.2 B"],
    [null, "unknown"],
  ])("compact %s is %s", (value, text) => {
    expect(compact(value)).toBe(text);
  });

  it("has a plural", () => {
    expect([plural(1, "row"), plural(2000, "row")]).toEqual(["1 row", "2,000 rows"]);
  });
});

describe("percent", () => {
  it.each([
    [0, 10, "0%"],
    [10, 10, "100%"],
    [1, 3, "33%"],
    [1, 100_000, "<0.1%"],
    [99_999, 100_000, ">99.9%"],
    [25, 1000, "2.5%"],
    [0, 0, NONE],
    [null, 5, NONE],
  ])("%s of %s is %s", (part, whole, text) => {
    expect(percent(part, whole)).toBe(text);
  });
});

describe("duration", () => {
  it.each([
    [0, "0 s"],
    [2.5, "2.5 s"],
    [45, "45 s"],
    [59.7, "1 min"],
    [450, "7 min 30 s"],
    [7500, "2 h 5 min"],
    [273_600, "3 d 4 h"],
    [null, "unknown"],
  ])("%s seconds are %s", (value, text) => {
    expect(duration(value)).toBe(text);
  });
});

describe("days and times", () => {
  it("shows a day of the API whatever the time zone of the browser", () => {
    expect([day("2026-11-28"), day("2026-11-28", false), day("no day")]).toEqual(["28 Nov 2026", "28 Nov", "no day"]);
  });

  it("shows a time in UTC", () => {
    expect(time("2026-11-28T23:30:00.5+02:00")).toBe("2026-11-28 21:30 UTC");
    expect([time(null), time("soon")]).toEqual([NONE, NONE]);
  });
});

describe("times", () => {
  it.each([
    [1, "once"],
    [2, "2 times"],
    [null, "unknown times"],
  ])("shows %s as %s", (value, text) => {
    expect(times(value)).toBe(text);
  });
});
