// Makes dist/function.wasm: a JavaScript engine with function.js already loaded into it, as one WebAssembly component.
import { mkdir, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "src/function.js",
  witPath: "wit/world.wit",
  worldName: "http",
});

await mkdir("dist", { recursive: true });
await writeFile("dist/function.wasm", component);
