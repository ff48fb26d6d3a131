// What crates/policy/examples/act.rs does, by the WebAssembly build of crates/policy-c:
// node scripts/act_wasm.mjs smfp_policy.wasm policy.smfp inputs actions
import { readFileSync, writeFileSync } from "node:fs";

const [wasm, file, inputs, out] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(wasm), {});
const runtime = instance.exports;
// Views are made anew after each allocation, which may move the memory.
const put = (address, bytes) => new Uint8Array(runtime.memory.buffer, address, bytes.length).set(bytes);

const bytes = readFileSync(file);
const address = runtime.smfp_allocate(bytes.length);
put(address, bytes);
const pointer = runtime.smfp_allocate(4);
const code = runtime.smfp_load(address, bytes.length, pointer);
runtime.smfp_deallocate(address, bytes.length);
if (code !== 0) throw new Error(`smfp_load returned ${code}`);
const policy = new Uint32Array(runtime.memory.buffer, pointer, 1)[0];

const lengths = runtime.smfp_allocate(16);
runtime.smfp_sizes(policy, lengths);
const [obs, z, xi, act] = new Uint32Array(runtime.memory.buffer, lengths, 4);
const row = 4 * (obs + z + xi);
const input = runtime.smfp_allocate(row);
const actions = runtime.smfp_allocate(4 * act);
const all = readFileSync(inputs);
const found = [];
for (let start = 0; start < all.length; start += row) {
  put(input, all.subarray(start, start + row));
  runtime.smfp_act(policy, input, input + 4 * obs, input + 4 * (obs + z), actions);
  found.push(Buffer.from(new Uint8Array(runtime.memory.buffer, actions, 4 * act)));
}
runtime.smfp_free(policy);
writeFileSync(out, Buffer.concat(found));
