import type * as Runtime from "react/jsx-runtime";

const page = globalThis as unknown as { ReactJSXRuntime: typeof Runtime };

export const { Fragment, jsx, jsxs } = page.ReactJSXRuntime;
