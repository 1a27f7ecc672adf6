import { afterEach, describe, expect, it, vi } from "vitest";

import { ApiError, load } from "../src/api";
import { matching, SHOWN } from "../src/choices";
import { modeOf } from "../src/colour-mode";
import { errorText } from "../src/error-texts";
import { sortedRows } from "../src/parts/DataTable";

const respond = (status: number, body: string, type = "application/json") =>
  vi.stubGlobal("fetch", async () => new Response(body, { status, headers: { "content-type": type } }));

afterEach(() => {
  vi.unstubAllGlobals();
});

describe("load", () => {
  it("returns the JSON", async () => {
    respond(200, '{"a": 1}');
    expect(await load("/x")).toEqual({ a: 1 });
  });

  it.each([
    [404, '{"detail": "unknown"}', "application/json", 404, "unknown"],
    [422, '{"detail": [{"loc": []}]}', "application/json", 422, null],
    [502, "<html>", "text/html", 502, null],
    [500, "{broken", "application/json", 500, null],
    [200, "<html>Airflow", "text/html", 0, null],
    [200, "{broken", "application/json", 0, null],
  ])("reports HTTP %d with %s", async (status, body, type, reported, detail) => {
    respond(status, body, type);
    await expect(load("/x")).rejects.toMatchObject({ status: reported, detail });
  });

  it("reports a network that fails", async () => {
    vi.stubGlobal("fetch", async () => {
      throw new TypeError("Failed to fetch");
    });
    await expect(load("/x")).rejects.toMatchObject({ status: null });
  });
});

describe("errorText", () => {
  it.each([null, 0, 401, 403, 404, 422, 429, 500, 503])("of status %s has a cause and an advice", (status) => {
    for (const subject of ["spend", "task"] as const) {
      const text = errorText(new ApiError(status, null), subject);
      expect(text.title.length).toBeGreaterThan(5);
      expect(text.todo.length).toBeGreaterThan(20);
    }
  });

  it("offers the login only to those who are logged out", () => {
    expect(errorText(new ApiError(401, null), "spend").login).toBe(true);
    expect(errorText(new ApiError(403, null), "spend").login).toBe(false);
  });

  it("repeats the cause of a refused request", () => {
    expect(errorText(new ApiError(422, "end is before start"), "spend").todo).toContain("end is before start");
  });

  it("does not say whether a task instance exists", () => {
    expect(errorText(new ApiError(404, null), "task").todo).toContain("or you may not read");
  });
});

describe("modeOf", () => {
  it.each([
    [["dark"], "light", false, "dark"],
    [["light"], "dark", true, "light"],
    [[], "dark", false, "dark"],
    [[], "light", true, "light"],
    [[], "system", true, "dark"],
    [[], null, false, "light"],
  ] as const)("with classes %j, stored %s and a dark system %s is %s", (classes, stored, systemIsDark, mode) => {
    expect(modeOf({ classes: [...classes], stored, systemIsDark })).toBe(mode);
  });
});

describe("matching", () => {
  it("has what is chosen first, whatever is searched", () => {
    expect(matching(["b", "a", "c", "a"], ["c"], "", undefined)).toEqual({ shown: ["c", "a", "b"], left: 0 });
    expect(matching(["b", "a", "c"], ["c"], "A").shown).toEqual(["c", "a"]);
  });

  it("finds all words in any order", () => {
    expect(matching(["reviews_daily", "daily", "reviews"], [], "Daily rev").shown).toEqual(["reviews_daily"]);
  });

  it("counts what it leaves out", () => {
    const many = Array.from({ length: SHOWN + 7 }, (_, index) => `dag_${index}`);
    expect(matching(many, [], "").left).toBe(7);
  });
});

describe("sortedRows", () => {
  const rows = [{ n: 2 }, { n: null }, { n: 10 }, { n: 1 }];

  it("sorts numbers as numbers, null last in both directions", () => {
    expect(sortedRows(rows, (row) => row.n, false).map((row) => row.n)).toEqual([1, 2, 10, null]);
    expect(sortedRows(rows, (row) => row.n, true).map((row) => row.n)).toEqual([10, 2, 1, null]);
    expect(rows[0]).toEqual({ n: 2 });
  });
});
