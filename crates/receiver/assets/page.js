// Makes the page live. Nothing here is needed to read it.
"use strict";

// Calls that are on: whenever something arrives, the server is asked for the list as this reader may see it.
const now = document.getElementById("now");
if (now) {
  let waiting = false;
  const refresh = async () => {
    waiting = false;
    try {
      const answer = await fetch(now.dataset.live, { headers: { accept: "text/html" } });
      if (answer.ok && !answer.redirected) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        now.replaceChildren(...page.body.childNodes);
      }
    } catch {
      // The next event asks again.
    }
  };
  const soon = () => {
    if (!waiting) setTimeout(refresh, 400);
    waiting = true;
  };
  const arrivals = new EventSource("/now/stream");
  // What came between the page and its stream, or while the stream was cut off, is seen only so.
  arrivals.addEventListener("open", soon);
  arrivals.addEventListener("event", soon);
  arrivals.addEventListener("call", () => {
    soon();
    const note = document.getElementById("new");
    if (note) {
      note.hidden = false;
      note.querySelector("a").href = location.href;
    }
  });
  arrivals.addEventListener("missed", soon);
  setInterval(() => {
    for (const time of now.querySelectorAll("[data-since]")) {
      const all = Math.max(0, Math.round((Date.now() - Date.parse(time.dataset.since)) / 1000));
      time.textContent = `${Math.floor(all / 60)}:${String(all % 60).padStart(2, "0")}`;
    }
  }, 1000);
}

// The zone of this browser, with one click.
const ofBrowser = document.getElementById("zone-of-browser");
if (ofBrowser) {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const option = [...document.getElementById("tz").options].find((one) => one.value === name);
  if (option && !option.selected) {
    ofBrowser.hidden = false;
    ofBrowser.textContent = `This browser's: ${name}`;
    ofBrowser.addEventListener("click", () => {
      option.selected = true;
      ofBrowser.form.submit();
    });
  }
}

// A chart over time that does not fit shows its end first.
for (const chart of document.querySelectorAll(".chart")) {
  chart.parentElement.scrollLeft = chart.parentElement.scrollWidth;
}

// The timeline and the words follow each other.
const picture = document.getElementById("picture");
const story = document.getElementById("story");
if (picture && story) {
  const [margin, scale] = picture.dataset.scale.split(" ").map(Number);
  const box = picture.parentElement;
  const cursor = document.getElementById("cursor");
  const items = [...story.querySelectorAll(".line")];
  let lit;
  const show = (item) => {
    lit?.classList.remove("now");
    lit = item;
    item?.classList.add("now");
  };
  picture.addEventListener("pointermove", (event) => {
    const x = event.clientX - picture.getBoundingClientRect().left;
    cursor.setAttribute("transform", `translate(${x} 0)`);
    cursor.setAttribute("visibility", "visible");
    const at = (x - margin) / scale;
    show(items.findLast((item) => Number(item.dataset.at) <= at));
  });
  picture.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    show();
  });
  let bar;
  story.addEventListener("pointerover", (event) => {
    const item = event.target.closest("li");
    const link = item?.querySelector("a[href^='#']");
    bar?.classList.remove("lit");
    bar = link && document.getElementById(link.hash.slice(1));
    if (!bar) return;
    bar.classList.add("lit");
    const x = margin + Number(item.dataset.at) * scale;
    if (x < box.scrollLeft || x > box.scrollLeft + box.clientWidth) {
      box.scrollTo({ left: x - box.clientWidth / 3, behavior: "smooth" });
    }
  });
  story.addEventListener("pointerleave", () => bar?.classList.remove("lit"));
}
