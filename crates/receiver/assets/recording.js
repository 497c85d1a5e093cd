
// The position of a recording is the cursor of the timeline, and whatever has a time leads to its sound.
const sound = document.querySelector("audio[data-starts]");
if (sound) {
  const starts = Number(sound.dataset.starts);
  const picture = document.getElementById("picture");
  const story = document.getElementById("story");
  const [margin, scale] = picture ? picture.dataset.scale.split(" ").map(Number) : [0, 1];
  const cursor = document.getElementById("cursor");
  const box = picture?.parentElement;
  const lines = story ? [...story.querySelectorAll(".line")] : [];
  let lit;
  const follow = () => {
    const at = sound.currentTime - starts;
    const x = margin + Math.max(0, at) * scale;
    cursor?.setAttribute("transform", `translate(${x} 0)`);
    cursor?.setAttribute("visibility", "visible");
    const line = lines.findLast((line) => Number(line.dataset.at) <= at);
    if (line !== lit) {
      lit?.classList.remove("now");
      line?.classList.add("now");
      lit = line;
    }
    if (box && !sound.paused && (x < box.scrollLeft || x > box.scrollLeft + box.clientWidth - 40)) {
      box.scrollTo({ left: x - box.clientWidth / 3 });
    }
  };
  const seek = (at) => {
    sound.currentTime = Math.max(0, at + starts);
    if (sound.paused) follow();
  };
  let frame;
  const run = () => {
    follow();
    frame = requestAnimationFrame(run);
  };
  sound.addEventListener("play", () => {
    cancelAnimationFrame(frame);
    run();
  });
  sound.addEventListener("pause", () => cancelAnimationFrame(frame));
  for (const event of ["seeked", "timeupdate"]) sound.addEventListener(event, follow);
  // Where the pointer leaves, the cursor goes back to the sound.
  picture?.addEventListener("pointerleave", () => {
    if (sound.currentTime > 0) follow();
  });
  // A link of the timeline leads to its words all the same.
  picture?.addEventListener("click", (event) => {
    seek((event.clientX - picture.getBoundingClientRect().left - margin) / scale);
  });
  story?.addEventListener("click", (event) => {
    const line = event.target.closest("li[data-at]");
    if (line && !getSelection()?.toString()) seek(Number(line.dataset.at));
  });
  for (const time of document.querySelectorAll("[data-seek]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain num";
    button.title = "Hear it";
    button.textContent = time.textContent;
    button.addEventListener("click", () => {
      seek(Number(time.dataset.seek));
      sound.play();
    });
    time.replaceChildren(button);
  }
}
