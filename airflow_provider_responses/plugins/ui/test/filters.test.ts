import { describe, expect, it } from "vitest";

import { apiQuery, isFiltered, parseFilters, problemOfDays, searchOf, withoutChoices } from "../src/filters";

const NOW = new Date("2026-11-28T23:59:00Z");

describe("parseFilters", () => {
  it("begins with the last 30 days, today among them", () => {
    expect(parseFilters("", NOW)).toEqual({
      days: 30,
      start: "2026-10-30",
      end: "2026-11-28",
      dags: [],
      tasks: [],
      models: [],
      metric: null,
    });
  });

  it("reads what the address has", () => {
    const filters = parseFilters("?days=7&dag_id=a&dag_id=b&dag_id=a&task_id=t%26u&model=m&model=&metric=tokens", NOW);
    expect(filters).toMatchObject({
      days: 7,
      start: "2026-11-22",
      dags: ["a", "b"],
      tasks: ["t&u"],
      models: ["m", ""],
      metric: "tokens",
    });
  });

  it.each(["?days=0", "?days=-1", "?days=1e9", "?days=x", "?start=2026-11-02&end=2026-11-01", "?start=x&end=y", "?start=2026-11-01"])(
    "shows the last 30 days for %s",
    (search) => {
      expect(parseFilters(search, NOW)).toMatchObject({ days: 30, start: "2026-10-30", end: "2026-11-28" });
    },
  );
});

describe("searchOf", () => {
  it.each([
    "",
    "?days=90",
    "?start=2026-01-01&end=2026-01-31",
    "?dag_id=a&dag_id=b+c&task_id=%C3%A9&model=openai%2Fgpt&metric=requests",
    "?model=",
  ])("writes %s as it was read", (search) => {
    expect(searchOf(parseFilters(search, NOW), "")).toBe(search);
  });

  it("leaves alone what others put into the address", () => {
    expect(searchOf(parseFilters("?days=7", NOW), "?other=1&days=90&dag_id=old")).toBe("?other=1&days=7");
  });
});

describe("apiQuery", () => {
  it("has the days and each choice, but not the metric", () => {
    const filters = parseFilters("?days=1&dag_id=a&dag_id=b&model=&metric=cost", NOW);
    expect(apiQuery(filters).toString()).toBe("start=2026-11-28&end=2026-11-28&dag_id=a&dag_id=b&model=");
  });
});

describe("choices", () => {
  it("are cleared without touching the window", () => {
    const filters = parseFilters("?days=7&dag_id=a&task_id=b&model=c", NOW);
    expect(isFiltered(filters)).toBe(true);
    expect(withoutChoices(filters)).toMatchObject({ days: 7, dags: [], tasks: [], models: [] });
    expect(isFiltered(withoutChoices(filters))).toBe(false);
  });
});

describe("problemOfDays", () => {
  it.each([
    ["2026-11-01", "2026-11-01", null],
    ["2026-11-02", "2026-11-01", "The first day is after the last day."],
    ["", "2026-11-01", "Choose a first and a last day."],
    ["2020-01-01", "2026-11-01", "Choose at most 366 days."],
  ])("of %s to %s is %s", (start, end, problem) => {
    expect(problemOfDays(start, end)).toBe(problem);
  });
});
