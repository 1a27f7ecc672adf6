// The page without Airflow's frame: React as globals, as Airflow has it, then the same bundle.
import * as React from "react";
import * as ReactJSXRuntime from "react/jsx-runtime";
import { createRoot } from "react-dom/client";

Object.assign(globalThis, { React, ReactJSXRuntime });

const bundle = new URL(/* @vite-ignore */ "responses.js", import.meta.url).href;
await import(/* @vite-ignore */ bundle);

const { AirflowPlugin } = globalThis as unknown as { AirflowPlugin: React.ComponentType };
const root = document.querySelector("#root");
if (root) {
  createRoot(root).render(React.createElement(AirflowPlugin));
}
