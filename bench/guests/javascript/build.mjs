// Makes dist/work.wasm, as examples/javascript/build.mjs makes its own.
import { mkdir, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "work.js",
  witPath: "../../../examples/javascript/wit/world.wit",
  worldName: "http",
});

await mkdir("dist", { recursive: true });
await writeFile("dist/work.wasm", component);
