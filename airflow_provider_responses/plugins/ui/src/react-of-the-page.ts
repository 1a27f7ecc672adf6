// The React that runs the page. Airflow sets it as a global before it loads a plugin, and so does standalone.ts.
import type * as ReactTypes from "react";

const page = globalThis as unknown as { React: typeof ReactTypes };

export const { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } = page.React;
