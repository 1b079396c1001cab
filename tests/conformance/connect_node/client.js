// Calls Kith by connect-node, and prints what it gets, as JSON.
//
// client.js TARGET DESCRIPTORS CALLS. DESCRIPTORS is a file that holds a FileDescriptorSet. CALLS is
// JSON: a list of [service, method, request, milliseconds]. Of a stream the first message is taken.
import { readFileSync } from "node:fs";

import { createFileRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

const [target, descriptors, calls] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const transport = createGrpcTransport({ baseUrl: `http://${target}` });

async function* once(message) {
  yield message;
}

async function first(messages) {
  for await (const message of messages) return message;
}

async function call([service, method, request, timeoutMs]) {
  const contract = registry.getService(service);
  const { input, output, localName, methodKind } = contract.methods.find((each) => each.name === method);
  const client = createClient(contract, transport);
  const message = fromJson(input, request);
  const options = { timeoutMs };
  try {
    const told =
      methodKind === "unary"
        ? await client[localName](message, options)
        : await first(client[localName](methodKind === "server_streaming" ? message : once(message), options));
    return { answer: toJson(output, told, { useProtoFieldName: true, alwaysEmitImplicit: true }) };
  } catch (error) {
    const details = error.metadata?.get("grpc-status-details-bin");
    return { code: error.code, message: error.rawMessage, details };
  }
}

const told = [];
for (const asked of JSON.parse(calls)) told.push(await call(asked));
process.stdout.write(JSON.stringify(told), () => process.exit(0)); // its connection stays open
