// What pages gain from a script: copying, sliders, a live overview and live log lines, times that go on. Everything else works without it.
"use strict";

(() => {
  const MOST_LINES = 2000;

  // To look at where things are before the first frame would have the page laid out twice.
  const inFrame = (then) => requestAnimationFrame(then);

  // What is asked for once the page is in sight does not hold it up.
  const oncePainted = (then) => inFrame(() => setTimeout(then));

  // What is further down is laid out once the first sight is on the screen, which a frame's end is not yet.
  const seen = new PerformanceObserver(() => {
    seen.disconnect();
    document.documentElement.classList.add("painted");
  });
  seen.observe({ type: "paint", buffered: true });

  // Copying.
  for (const button of document.querySelectorAll("[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    if (!source || !navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select and copy";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  // Where there is no room for all tabs, that of this page is in sight.
  const tab = document.querySelector(".bar nav [aria-current]");
  if (tab) {
    inFrame(() => {
      const tabs = tab.closest("nav");
      tabs.scrollLeft = tab.offsetLeft - (tabs.clientWidth - tab.offsetWidth) / 2;
    });
  }

  // The menu of namespaces closes as menus do.
  const menu = document.querySelector(".switcher");
  if (menu) {
    document.addEventListener("click", (event) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  }

  // Relative times go on while the page is open.
  const ago = (seconds) => {
    if (seconds < 2) return "just now";
    if (seconds < 60) return `${Math.floor(seconds)} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    return null;
  };
  const tick = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      if (time.closest(".log") || !/ago$|just now/.test(time.textContent)) continue;
      const text = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
      if (text && text !== time.textContent) time.textContent = text;
    }
  };
  setInterval(tick, 5000);

  // A word of a shell, and the line for curl that has another body from now on: ASCII, as on the server.
  const quoted = (text) => (/^[\w/.@:+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const rebody = (line, body) => {
    if (!line) return;
    const text = JSON.stringify(body).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
    line.textContent = line.textContent.slice(0, line.textContent.indexOf(" --data ")) + ` --data ${quoted(text)}`;
  };

  // The slider of traffic moves with its number, and the command says the same.
  const divide = document.querySelector("form[data-divide]");
  if (divide) {
    const { from, to, percent } = divide.elements;
    const range = divide.querySelector("input[type=range]");
    const command = document.getElementById("divide-cli");
    const show = () => {
      const share = Math.min(100, Math.max(0, Math.trunc(Number(percent.value)) || 0));
      range.value = String(share);
      const shares = [[from.value, 100 - share], [to.value, share]].filter((pair) => pair[1] > 0);
      command.textContent = divide.dataset.divide.replace("SHARES", shares.map(([version, part]) => `v${version}=${part}`).join(","));
      rebody(document.getElementById("divide-cli-curl"), { traffic: shares.map(([version, part]) => ({ version: Number(version), percent: part })) });
    };
    range.hidden = false;
    range.addEventListener("input", () => { percent.value = range.value; show(); });
    for (const field of [from, to, percent]) field.addEventListener("input", show);
  }

  // The command beside the form that forgets stored answers.
  const purge = document.querySelector("form[data-purge]");
  if (purge) {
    const { what, value } = purge.elements;
    const command = document.getElementById("purge-cli");
    const show = () => {
      const which = what.value === "all" ? "--all" : `--${what.value} ${quoted(value.value || value.placeholder)}`;
      command.textContent = `dunlin cache purge ${which} --namespace ${purge.dataset.purge}`;
      rebody(document.getElementById("purge-cli-curl"), { [what.value]: what.value === "all" || value.value || value.placeholder });
      value.disabled = what.value === "all";
    };
    for (const field of [what, value]) field.addEventListener("input", show);
  }

  // The overview, which the gateway makes anew. It stays as it is while somebody is in it with the keyboard, or looks elsewhere.
  const live = document.getElementById("live");
  const liveState = document.getElementById("live-state");
  if (live && liveState && window.EventSource) {
    const tell = (name, text) => {
      liveState.dataset.state = name;
      liveState.textContent = text;
    };
    let stream = null;
    const close = () => {
      if (stream) stream.close();
      stream = null;
    };
    const open = () => {
      if (stream) return;
      stream = new EventSource(live.dataset.stream);
      stream.addEventListener("open", () => tell("live", "Live"));
      stream.addEventListener("part", (event) => {
        if (live.contains(document.activeElement)) return;
        live.innerHTML = event.data;
      });
      stream.addEventListener("failed", (event) => {
        close();
        tell("lost", `Stopped: ${event.data}`);
      });
      stream.addEventListener("error", () => {
        if (stream && stream.readyState === EventSource.CLOSED) tell("lost", "Stopped; load the page again");
        else tell("lost", "Connecting again");
      });
    };
    oncePainted(open);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) close();
      else if (liveState.dataset.state !== "lost") open();
    });
  }

  // The live log. Lines are made of text only, never of markup.
  const log = document.getElementById("log");
  const state = document.getElementById("log-state");
  const pause = document.getElementById("log-pause");
  if (!log || !log.dataset.stream || !state || !pause || !window.EventSource) return;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  // What would not be seen, or would turn what follows around, is made visible, as on the server.
  const visible = (text) => text
    .replace(/[\u0000-\u0008\u000a-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

  const row = (line) => {
    const item = element("li");
    if (line.dropped_bytes > 0) {
      item.append(element("span", "dropped", `${line.dropped_bytes} bytes over the limit were dropped here`));
    }
    const time = element("time", "", line.time ? line.time.slice(11, 23) : "");
    if (line.time) {
      time.dateTime = line.time;
      time.title = line.time;
    }
    const link = element("a", "", `${line.function} v${line.version}`);
    link.href = `/namespaces/${log.dataset.namespace}/functions/${encodeURIComponent(line.function)}/invocations/${encodeURIComponent(line.invocation)}`;
    link.title = `Invocation ${line.invocation}`;
    link.append(element("span", "visually-hidden", `, invocation ${line.invocation}`));
    item.append(time, element("span", line.stream === "stderr" ? "err" : "from", line.stream), element("span", "text", visible(line.text)), link);
    return item;
  };

  let waiting = [];
  let paused = false;
  let drawing = false;
  const say = (name, text) => {
    state.dataset.state = name;
    if (state.textContent !== text) state.textContent = text;
  };
  const count = (number) => `${number} line${number === 1 ? "" : "s"}`;

  const draw = () => {
    drawing = false;
    if (paused) {
      say("paused", `Paused, ${count(waiting.length)} waiting`);
      return;
    }
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(...waiting);
    waiting = [];
    while (log.children.length > MOST_LINES) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
    if (log.children.length > 0) document.getElementById("log-empty")?.remove();
    say("live", `Live, ${count(log.children.length)}`);
  };
  const add = (item) => {
    waiting.push(item);
    if (waiting.length > MOST_LINES) waiting.shift();
    if (!drawing) {
      drawing = true;
      requestAnimationFrame(draw);
    }
  };

  const follow = () => {
    const source = new EventSource(log.dataset.stream);
    source.addEventListener("open", draw);
    source.addEventListener("line", (event) => add(row(JSON.parse(event.data))));
    source.addEventListener("gap", (event) => add(element("li", "news", visible(JSON.parse(event.data).text))));
    source.addEventListener("unreachable", (event) => {
      add(element("li", "news", `Worker ${JSON.parse(event.data)} does not answer; its lines are missing here.`));
    });
    source.addEventListener("failed", (event) => {
      source.close();
      say("lost", `Stopped: ${JSON.parse(event.data)}`);
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) say("lost", "Stopped; load the page again");
      else say("lost", "Connecting again");
    });
  };
  oncePainted(follow);

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    draw();
  });
  inFrame(() => { log.scrollTop = log.scrollHeight; });
})();
