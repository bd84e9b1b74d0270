// An HTTP function in JavaScript: the same Request, Response and fetch event as in a browser's service worker.
import { getEnvironment } from "wasi:cli/environment@0.2.10";

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname } = new URL(request.url);
  // What a function prints becomes its log: `dunlin logs hello-javascript`.
  console.log(`${request.method} ${pathname}`);

  switch (request.method) {
    case "GET":
      return hello(request.method, pathname);
    case "POST":
      return echo(request);
    default:
      return new Response("this function answers GET and POST\n", {
        status: 405,
        headers: { allow: "GET, POST" },
      });
  }
}

// Greets, and shows where it was called.
function hello(method, path) {
  // The only environment variables that a function sees are the ones that its dunlin.toml declares.
  const { GREETING = "Hello" } = Object.fromEntries(getEnvironment());
  const body = JSON.stringify({ message: `${GREETING} from JavaScript`, method, path });
  return new Response(`${body}\n`, { headers: { "content-type": "application/json" } });
}

// Sends the body back as it arrives: it is streamed, never held whole in memory.
function echo(request) {
  const type = request.headers.get("content-type");
  return new Response(request.body, { headers: type ? { "content-type": type } : {} });
}
