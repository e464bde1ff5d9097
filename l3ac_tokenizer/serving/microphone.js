// Microphone of the page: 16-bit samples of one channel to the server, in order and none left out.
// One request runs at a time and takes all samples that have come in since the last one.
"use strict";

window.microphone = (() => {
  const RECORDER = `registerProcessor("recorder", class extends AudioWorkletProcessor {
    process([[channel]]) {
      if (channel) this.port.postMessage(channel.slice());
      return true;
    }
  });`;
  const LEAST_SECONDS = 0.25;
  let run = null;

  const show = (html) => { document.querySelector("#running").innerHTML = html; };
  const tell = (text) => {
    show("<p class='refusal' role='alert'></p>");
    document.querySelector("#running p").textContent = text;
  };

  function joined(blocks) {
    const samples = new Int16Array(blocks.reduce((sum, block) => sum + block.length, 0));
    let place = 0;
    for (const block of blocks)
      for (const sample of block) samples[place++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
    return samples;
  }

  async function send(mine) {
    const rate = mine.context.sampleRate;
    const address = `recording/${mine.key}?${new URLSearchParams({ model: mine.model, rate })}`;
    while (mine.running || mine.blocks.length) {
      const waiting = mine.blocks.reduce((sum, block) => sum + block.length, 0);
      if (mine.running && waiting < LEAST_SECONDS * rate) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        continue;
      }
      const reply = await fetch(address, { method: "POST", body: joined(mine.blocks.splice(0)) });
      const { html, error, full } = await reply.json();
      if (error) throw new Error(error);
      show(html);
      if (full) { halt(mine); mine.blocks = []; }
    }
  }

  function halt(mine) {
    mine.running = false;
    mine.stream.getTracks().forEach((track) => track.stop());
    mine.context.close().catch(() => {});
  }

  async function start(model) {
    run = null;
    try {
      if (!navigator.mediaDevices) throw new Error("browsers give the microphone to https pages and localhost only.");
      const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      const context = new AudioContext();
      await context.resume();
      await context.audioWorklet.addModule(URL.createObjectURL(new Blob([RECORDER], { type: "text/javascript" })));
      const recorder = new AudioWorkletNode(context, "recorder", { channelCount: 1, channelCountMode: "explicit" });
      const mine = { key: crypto.randomUUID(), model, stream, context, blocks: [], running: true };
      recorder.port.onmessage = ({ data }) => { if (mine.running) mine.blocks.push(data); };
      context.createMediaStreamSource(stream).connect(recorder);
      run = mine;
      mine.sent = send(mine).then(() => show(""), (error) => { halt(mine); tell(error.message); });
    } catch (error) {
      tell(`The microphone cannot be used: ${error.message}`);
    }
  }

  /** End the recording, wait until all of it has arrived, and give its key. */
  async function stop() {
    if (!run) return "";
    halt(run);
    await run.sent;
    return run.key;
  }

  return { start, stop };
})();
