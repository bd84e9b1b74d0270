// A guest for benchmarks: ?work=N counts the steps of the Collatz sequences from 1 to N, as in the other languages.
addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

function answer(request) {
  const work = Number(new URL(request.url).searchParams.get("work"));
  return new Response(`${steps(work)}\n`);
}

function steps(most) {
  let steps = 0;
  for (let start = 1; start <= most; start++) {
    for (let value = start; value !== 1; steps++) {
      value = value % 2 === 0 ? value / 2 : 3 * value + 1;
    }
  }
  return steps;
}
