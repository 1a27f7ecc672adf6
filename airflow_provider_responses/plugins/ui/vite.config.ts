import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// The licence of what `standalone.js` contains, as its own text asks for.
const licence = () => `/*! React and React DOM\n${readFileSync(here("node_modules/react/LICENSE"), "utf8").trim()}\n*/`;

// Two files. `responses.js` takes React from the page: from Airflow, or from `standalone.js`, which brings its own.
export default defineConfig(({ mode }) => {
  const standalone = mode === "standalone";
  return {
    base: "./",
    publicDir: standalone ? here("public") : false,
    define: { "process.env.NODE_ENV": JSON.stringify("production") },
    resolve: {
      alias: mode !== "production"
        ? []
        : [
            { find: /^react$/, replacement: here("src/react-of-the-page.ts") },
            { find: /^react\/jsx-runtime$/, replacement: here("src/jsx-runtime-of-the-page.ts") },
          ],
    },
    build: {
      outDir: here(process.env["UI_OUT"] ?? "../static"),
      emptyOutDir: !standalone,
      target: "es2022",
      sourcemap: false,
      modulePreload: false,
      reportCompressedSize: false,
      rolldownOptions: {
        input: here(standalone ? "src/standalone.ts" : "src/main.tsx"),
        output: {
          entryFileNames: standalone ? "standalone.js" : "responses.js",
          ...(standalone ? { postBanner: licence() } : {}),
        },
      },
    },
    test: { include: ["test/**/*.test.ts"], environment: "node" },
  };
});
