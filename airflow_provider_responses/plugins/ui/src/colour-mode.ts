// Light or dark: what Airflow's page shows, and on a page of its own what Airflow was set to, or the system is.
import { useEffect, useState } from "react";

export type Mode = "light" | "dark";

export const modeOf = (page: { classes: string[]; stored: string | null; systemIsDark: boolean }): Mode => {
  if (page.classes.includes("dark")) return "dark";
  if (page.classes.includes("light")) return "light";
  if (page.stored === "dark" || page.stored === "light") return page.stored;
  return page.systemIsDark ? "dark" : "light";
};

const system = () => matchMedia("(prefers-color-scheme: dark)");

const stored = (): string | null => {
  try {
    return localStorage.getItem("theme"); // where Airflow keeps it
  } catch {
    return null; // storage is switched off
  }
};

const current = (): Mode =>
  modeOf({ classes: [...document.documentElement.classList], stored: stored(), systemIsDark: system().matches });

export const useColourMode = (): Mode => {
  const [mode, setMode] = useState(current);
  useEffect(() => {
    const update = () => setMode(current());
    const observer = new MutationObserver(update);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
    const media = system();
    media.addEventListener("change", update);
    window.addEventListener("storage", update);
    return () => {
      observer.disconnect();
      media.removeEventListener("change", update);
      window.removeEventListener("storage", update);
    };
  }, []);
  return mode;
};
