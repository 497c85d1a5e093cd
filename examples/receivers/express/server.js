// An endpoint for call-history in one file: it checks the signature, keeps each record once, and answers when the record
// is on disk. JWT_SECRET=… node server.js
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { link, open, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import express from "express";
import jwt from "jsonwebtoken";

const { JWT_SECRET, DATA_DIR = "data", PORT = "3000", HOST = "127.0.0.1" } = process.env;
if (!JWT_SECRET) throw new Error("JWT_SECRET must be set, to the same value as at the worker");
mkdirSync(DATA_DIR, { recursive: true });

const app = express();
// The signature is over the bytes as they were sent, so they are read as they are. 16 MB is more than a record needs.
app.use(express.raw({ type: () => true, limit: "16mb", inflate: false }));

app.post("/call-history", async (request, response) => {
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  let record;
  try {
    record = JSON.parse(body);
  } catch {
    return response.status(400).json({ error: "the body is not JSON" });
  }
  if (typeof record?.call_id !== "string" || typeof record.phone_number !== "string") {
    return response.status(422).json({ error: "call_id and phone_number must be texts" });
  }
  if (!isSigned(request.get("authorization"), body, record)) {
    return response.status(401).json({ error: "the token is missing, wrong, expired, or for another record" });
  }
  // The worker sends a record until it is accepted, so it may come more than once. What is kept first stays.
  const kept = await keep(record.call_id, body);
  return response.status(kept ? 200 : 409).json({ call_id: record.call_id });
});

// The disk is full, or anything else went wrong: the worker tries again.
app.use((error, _request, response, _next) => {
  response.status(error.status ?? 503).json({ error: error.status ? error.message : "not stored" });
});

function isSigned(header, body, record) {
  const token = /^Bearer (.+)$/i.exec(header ?? "")?.[1];
  try {
    // Checks the signature, and that the token is not expired. Only this algorithm: a token must not choose its own.
    const claims = jwt.verify(token, JWT_SECRET, { algorithms: ["HS256"] });
    return (
      claims.sha256 === createHash("sha256").update(body).digest("base64") &&
      claims.jti === record.call_id &&
      claims.phone_number === record.phone_number &&
      claims.timestamp === record.end_time
    );
  } catch {
    return false;
  }
}

// One file a record. Resolves when it is on disk; false if other bytes are kept under this id.
async function keep(callId, body) {
  // An id comes from outside, and is never a path.
  const file = join(DATA_DIR, `${createHash("sha256").update(callId).digest("hex")}.json`);
  const temporary = `${file}.${randomUUID()}`;
  try {
    const written = await open(temporary, "wx", 0o600);
    try {
      await written.writeFile(body);
      await written.sync();
    } finally {
      await written.close();
    }
    // Gives the file its name only if no other has it.
    await link(temporary, file);
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    if (!body.equals(await readFile(file))) return false;
  } finally {
    await unlink(temporary).catch(() => {});
  }
  // The name is on disk too.
  const folder = await open(DATA_DIR);
  await folder.sync().finally(() => folder.close());
  return true;
}

const server = app.listen(Number(PORT), HOST, () => {
  console.log(`listening on http://${HOST}:${server.address().port}/call-history`);
});
