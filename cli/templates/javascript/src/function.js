// The function {{name}}: the same Request, Response and fetch event as in a browser's service worker.
import { getEnvironment } from "wasi:cli/environment@0.2.10";

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname } = new URL(request.url);
  // What a function prints becomes its log: `dunlin logs {{name}}`.
  console.log(`${request.method} ${pathname}`);

  // The variables that dunlin.toml declares.
  const { GREETING = "Hello" } = Object.fromEntries(getEnvironment());
  return new Response(`${GREETING} from {{name}}, at ${pathname}\n`, {
    headers: { "content-type": "text/plain; charset=utf-8" },
  });
}
