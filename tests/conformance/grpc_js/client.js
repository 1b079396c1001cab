// Calls Kith as a program in JavaScript does, and prints what it gets, as JSON.
//
// client.js TARGET DESCRIPTORS CALLS. DESCRIPTORS is a file that holds a FileDescriptorSet. CALLS is
// JSON: a list of [service, method, request, milliseconds]. Of a stream the first message is taken.
import { readFileSync } from "node:fs";

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [target, descriptors, calls] = process.argv.slice(2);
const definitions = loader.loadFileDescriptorSetFromBuffer(readFileSync(descriptors), {
  longs: String,
  enums: String,
});
const root = grpc.loadPackageDefinition(definitions);

function refusal(error) {
  const details = error.metadata.get("grpc-status-details-bin")[0]?.toString("base64");
  return { code: error.code, message: error.details, details };
}

function unary(client, method, request, options) {
  return new Promise((resolve) => {
    client[method](request, options, (error, answer) => {
      resolve(error ? refusal(error) : { answer });
    });
  });
}

function first(stream) {
  return new Promise((resolve) => {
    stream.once("error", (error) => resolve(refusal(error)));
    stream.once("data", (answer) => {
      stream.on("error", () => {}); // it is cancelled now
      stream.cancel();
      resolve({ answer });
    });
  });
}

async function call([service, method, request, milliseconds]) {
  const Client = service.split(".").reduce((held, name) => held[name], root);
  const client = new Client(target, grpc.credentials.createInsecure());
  const options = { deadline: Date.now() + milliseconds };
  const { requestStream, responseStream } = Client.service[method];
  try {
    if (requestStream) {
      const stream = client[method](options);
      stream.write(request);
      return await first(stream);
    }
    if (responseStream) return await first(client[method](request, options));
    return await unary(client, method, request, options);
  } finally {
    client.close();
  }
}

const told = [];
for (const asked of JSON.parse(calls)) told.push(await call(asked));
console.log(JSON.stringify(told));
