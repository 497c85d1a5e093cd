// A caller in a browser: plain livekit-client, controlled by the harness (see ../harness/browser.py).
//
// One WebSocket carries both directions. Orders come in as `{id, do, …}`; each is answered by
// `{what: "done", id}`, with `error` if it failed. Facts go out as `{what, t}`, where `t` is the wall
// clock in seconds.

import { Room, RoomEvent, createLocalAudioTrack } from "/livekit-client.mjs";

// The microphone plays tones from a file: a filter for voices would remove them as noise.
const CAPTURE = { autoGainControl: false, echoCancellation: false, noiseSuppression: false };

const line = new WebSocket(`ws://${location.host}/line`);
const report = (what, facts = {}) =>
  line.send(JSON.stringify({ what, t: Date.now() / 1000, ...facts }));
const sound = new AudioContext();
const meterReady = sound.audioWorklet.addModule("meter.mjs");
let room;

let connections = 0;
globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...settings) {
    super(...settings);
    connections += 1;
  }
};

async function measure(track, begins, ends) {
  await meterReady;
  await sound.resume();
  const meter = new AudioWorkletNode(sound, "meter");
  meter.port.onmessage = ({ data }) => {
    const ago = sound.currentTime - data.at;
    report(data.sounding ? begins : ends, { t: Date.now() / 1000 - ago });
  };
  sound.createMediaStreamSource(new MediaStream([track])).connect(meter);
}

function agentState(attributes) {
  const state = attributes["lk.agent.state"];
  if (state) report("agent_state", { state });
}

const orders = {
  async join({ url, token, options }) {
    room = new Room(options);
    room
      .on(RoomEvent.ParticipantAttributesChanged, agentState)
      .on(RoomEvent.ParticipantConnected, (other) => agentState(other.attributes))
      .on(RoomEvent.ParticipantDisconnected, (other) => report("lost", { whom: other.identity }))
      .on(RoomEvent.Reconnecting, () => report("reconnecting"))
      .on(RoomEvent.Reconnected, () => report("reconnected"))
      .on(RoomEvent.Disconnected, (reason) => report("disconnected", { reason }))
      .on(RoomEvent.TrackSubscribed, (track) => {
        document.body.append(track.attach());
        measure(track.mediaStreamTrack, "hears_sound", "heard_sound");
      });
    report("joins");
    await room.connect(url, token);
    report("joined", { sid: room.localParticipant.sid, connections });
    for (const other of room.remoteParticipants.values()) agentState(other.attributes);

    const microphone = await createLocalAudioTrack(CAPTURE);
    await microphone.mute();
    // Muting closes the microphone; unmuting opens it again, and its file plays from the start.
    await room.localParticipant.publishTrack(microphone, { stopMicTrackOnMute: true });
    report("microphone");
  },

  async unmute() {
    const { track } = await room.localParticipant.setMicrophoneEnabled(true);
    await measure(track.mediaStreamTrack, "makes_sound", "made_sound");
  },

  async leave() {
    await room.disconnect();
  },

  async reload() {
    setTimeout(() => location.reload());
  },
};

line.onmessage = async ({ data }) => {
  const { id, do: name, ...how } = JSON.parse(data);
  try {
    await orders[name](how);
    report("done", { id });
  } catch (error) {
    report("done", { id, error: String(error?.stack ?? error) });
  }
};
addEventListener("error", ({ message }) => report("page_error", { message }));
addEventListener("unhandledrejection", ({ reason }) => report("page_error", { message: `${reason}` }));
