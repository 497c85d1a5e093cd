// A receiver with a week of calls, and the addresses of all its pages.

import { Receiver } from "./receiver.mjs";

export const COUNT = 120;
export const PASSWORD = "correct horse battery staple";

export async function filled(env) {
  const receiver = await Receiver.start(env);
  await receiver.samples(COUNT);
  return receiver;
}

// One address for each kind of page. `call`: one with words, cut-offs and silences.
export async function addresses(receiver) {
  // The words of a recorded call.
  const query = "q=%22wait%20a%20moment%20please%22&interruption_count.ge=1&silence_count.ge=2&limit=1";
  const [call] = (await receiver.get(`/api/calls?${query}`)).calls;
  const [failed] = (await receiver.get("/api/calls?status=failed&limit=1")).calls;
  const number = encodeURIComponent(call.phone_number);
  return {
    calls: "/calls",
    "calls-filtered": "/calls?status=failed,dropped&start_time.ge=2020-01-01&duration_seconds.ge=1",
    "calls-none": "/calls?business_type=bank",
    "calls-wrong": "/calls?status=lost&start_time.ge=soon",
    call: `/calls/${call.call_id}`,
    "call-zoomed": `/calls/${call.call_id}?zoom=15&raw=1`,
    "call-failed": `/calls/${failed.call_id}`,
    "call-missing": "/calls/nothing",
    numbers: "/numbers",
    "numbers-compared": "/numbers?status=completed&versus.status=failed,dropped",
    integration: "/integration",
    zone: "/zone",
    "delete-call": `/delete?call_id=${call.call_id}`,
    "delete-number": `/delete?phone_number=${number}`,
    deleted: "/deleted?calls=3",
    login: "/login",
  };
}
