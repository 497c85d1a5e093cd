// The receiver under test as a process, with sample calls.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

const PROGRAM = path.resolve(process.env.E2E_PRODUCT_BIN ?? "../../target/debug/call-history");
const SAMPLES = path.join(path.dirname(PROGRAM), "samples");
// The secret that the samples are signed with.
const SECRET = "lab-secret-lab-secret-lab-secret";

async function run(program, args, options = {}, input = "") {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"], ...options });
  let out = "";
  child.stdout.on("data", (data) => (out += data));
  child.stdin.end(input);
  const [status] = await once(child, "close");
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${status}`);
  return out.trim();
}

export class Receiver {
  // `env`: further settings; undefined takes one away.
  static async start(env = {}) {
    const receiver = new Receiver();
    receiver.folder = await mkdtemp(path.join(tmpdir(), "receiver-"));
    receiver.options = {
      cwd: receiver.folder,
      env: {
        CALL_HISTORY_RECEIVE_ADDR: "127.0.0.1:0",
        CALL_HISTORY_LOG_FORMAT: "json",
        JWT_SECRET: SECRET,
        ...env,
      },
    };
    receiver.child = spawn(PROGRAM, ["receive"], { ...receiver.options, stdio: ["ignore", "pipe", "inherit"] });
    receiver.log = [];
    const started = new Promise((resolve, reject) => {
      receiver.child.once("error", reject);
      receiver.child.once("close", () => reject(new Error("the receiver ended")));
      createInterface(receiver.child.stdout).on("line", (text) => {
        const line = JSON.parse(text);
        receiver.log.push(line);
        if (line.message === "receiver started") resolve(line.addr);
      });
    });
    const port = (await started).split(":").pop();
    receiver.url = `http://127.0.0.1:${port}`;
    return receiver;
  }

  // The line of the log with this message, once it is there.
  async logged(begin) {
    for (;;) {
      const line = this.log.find(({ message }) => message.startsWith(begin));
      if (line) return line;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  // Sample calls of the week before now.
  samples(count) {
    return run(SAMPLES, [`${this.url}/call-history`, String(count)]);
  }

  // Another command of the program, on the same database.
  command(args, input) {
    return run(PROGRAM, ["receive", ...args], this.options, input);
  }

  // Where posts need no signature.
  async post(place, body) {
    const answer = await fetch(this.url + place, { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  }

  async get(place) {
    const answer = await fetch(this.url + place);
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
    return answer.json();
  }

  async stop() {
    const ended = once(this.child, "close");
    this.child.kill("SIGTERM");
    await ended;
    await rm(this.folder, { recursive: true });
  }
}
