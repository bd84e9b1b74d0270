// Makes dist/hello.wasm: a JavaScript engine with hello.js already loaded into it, as one WebAssembly component.
import { mkdir, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "src/hello.js",
  witPath: "wit/world.wit",
  worldName: "http",
});

await mkdir("dist", { recursive: true });
await writeFile("dist/hello.wasm", component);
