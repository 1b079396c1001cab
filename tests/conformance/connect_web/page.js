// Calls Kith by gRPC-web, as a page with connect-web does, with the contracts as data.
import { createFileRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const contracts = new Uint8Array(await (await fetch("/contracts/contracts")).arrayBuffer());
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, contracts));

/** Makes a call; returns what has come, as JSON. */
window.call = async ({ baseUrl, service, method, request, headers, timeoutMs }) => {
  const description = registry.getService(service);
  const { localName, input, output, methodKind } = description.methods.find(({ name }) => name === method);
  const client = createClient(description, createGrpcWebTransport({ baseUrl }));
  const received = {};
  const options = {
    headers,
    timeoutMs,
    onHeader: (values) => Object.assign(received, Object.fromEntries(values)),
  };
  const message = fromJson(input, request, { registry });
  try {
    const answers = [];
    if (methodKind === "unary") answers.push(await client[localName](message, options));
    else for await (const answer of client[localName](message, options)) answers.push(answer);
    return { answers: answers.map((answer) => toJson(output, answer, { registry })), headers: received };
  } catch (failure) {
    const error = ConnectError.from(failure);
    const details = error.findDetails(registry.getMessage("google.rpc.ErrorInfo"));
    return { code: Code[error.code], message: error.rawMessage, reasons: details.map(({ reason }) => reason) };
  }
};
window.isReady = true;
