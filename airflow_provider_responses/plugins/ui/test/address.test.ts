import { describe, expect, it } from "vitest";

import { airflow, api, login, runPage, taskInstanceOf, taskInstancePage, webLink } from "../src/address";

// In these tests the "bundle" is this source file: two folders above it is `…/ui/..`.
const base = new URL("../../", new URL("../src/address.ts", import.meta.url)).href;

describe("addresses", () => {
  it("are relative to the bundle", () => {
    expect(airflow()).toBe(base);
    expect(api("spend", new URLSearchParams({ dag_id: "a b" }))).toBe(
      new URL("../api/spend?dag_id=a+b", new URL("../src/address.ts", import.meta.url)).href,
    );
  });

  it("keep an id in its place, whatever it has in it", () => {
    expect(runPage("a/../b", "scheduled__2026-11-28T00:00:00+00:00?#")).toBe(
      `${base}dags/a%2F..%2Fb/runs/scheduled__2026-11-28T00%3A00%3A00%2B00%3A00%3F%23`,
    );
  });

  it("lead to the mapped task instance", () => {
    const key = { dagId: "d", runId: "r", taskId: "t", mapIndex: 0 };
    expect(taskInstancePage(key)).toBe(`${base}dags/d/runs/r/tasks/t/mapped/0`);
    expect(taskInstancePage({ ...key, mapIndex: -1 })).toBe(`${base}dags/d/runs/r/tasks/t`);
  });

  it("lead back from the login", () => {
    expect(login("http://x/responses/spend?a=1&b=2")).toBe(
      `${base}api/v2/auth/login?next=http%3A%2F%2Fx%2Fresponses%2Fspend%3Fa%3D1%26b%3D2`,
    );
  });
});

describe("webLink", () => {
  it.each(["javascript:alert(1)", " javascript:alert(1)", "data:text/html,x", "//evil", "/path", "http://", "", null])(
    "refuses %s",
    (text) => {
      expect(webLink(text)).toBeNull();
    },
  );

  it("accepts an address of the web", () => {
    expect(webLink("https://openrouter.ai/generation?id=1")).toBe("https://openrouter.ai/generation?id=1");
  });
});

describe("taskInstanceOf", () => {
  it("takes Airflow's props before the query", () => {
    const props = { dagId: "d", runId: "r", taskId: "t", mapIndex: "3" };
    expect(taskInstanceOf(props, "?dag_id=other")).toEqual({ dagId: "d", runId: "r", taskId: "t", mapIndex: 3 });
  });

  it("reads the query of the standalone page", () => {
    expect(taskInstanceOf({}, "?dag_id=d&run_id=r%2B1&task_id=t")).toEqual({
      dagId: "d",
      runId: "r+1",
      taskId: "t",
      mapIndex: -1,
    });
  });

  it.each(["", "?dag_id=d&run_id=r", "?dag_id=&run_id=r&task_id=t"])("is null for %s", (search) => {
    expect(taskInstanceOf({}, search)).toBeNull();
  });
});
