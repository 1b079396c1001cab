# Calls Kith as a program in Ruby does, and prints what it gets, as JSON.
#
# client.rb TARGET DESCRIPTORS CALLS. DESCRIPTORS is a file that holds a FileDescriptorSet. CALLS is
# JSON: a list of [service, method, request, milliseconds]. Of a stream the first message is taken.
require "base64"
require "json"

require "google/protobuf"
require "google/protobuf/descriptor_pb"
require "grpc"

target, descriptors, calls = ARGV

# The types that come with the library are in its own pool already.
POOL = Google::Protobuf::DescriptorPool.new
METHODS = {}
Google::Protobuf::FileDescriptorSet.decode(File.binread(descriptors)).file.each do |file|
  POOL.add_serialized_file(Google::Protobuf::FileDescriptorProto.encode(file))
  file.service.each do |service|
    service["method"].each do |method|
      METHODS[["#{file.package}.#{service.name}", method.name]] = method
    end
  end
end

def type(name)
  POOL.lookup(name.delete_prefix(".")).msgclass
end

def refusal(error)
  details = error.metadata["grpc-status-details-bin"]
  { code: error.code, message: error.details, details: details && Base64.strict_encode64(details) }
end

def call(stub, service, name, request, milliseconds)
  method = METHODS.fetch([service, name])
  asked, told = type(method.input_type), type(method.output_type)
  message = asked.decode_json(JSON.generate(request))
  way = [
    "/#{service}/#{name}",
    method.client_streaming ? [message] : message,
    ->(sent) { asked.encode(sent) },
    ->(received) { told.decode(received) },
  ]
  options = { deadline: Time.now + milliseconds / 1000.0 }
  answer =
    if method.client_streaming
      stub.bidi_streamer(*way, **options).first
    elsif method.server_streaming
      stub.server_streamer(*way, **options).first
    else
      stub.request_response(*way, **options)
    end
  { answer: JSON.parse(told.encode_json(answer, preserve_proto_fieldnames: true)) }
rescue GRPC::BadStatus => error
  refusal(error)
end

stub = GRPC::ClientStub.new(target, :this_channel_is_insecure)
puts JSON.generate(JSON.parse(calls).map { |asked| call(stub, *asked) })
