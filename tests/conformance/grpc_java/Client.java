// Calls Kith as a program in Java does, and prints what it gets, as JSON.
//
// Client TARGET DESCRIPTORS CALLS. DESCRIPTORS is a file that holds a FileDescriptorSet. CALLS is
// JSON: a list of [service, method, request, milliseconds]. Of a stream the first message is taken.

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.DescriptorProtos.FileDescriptorSet;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.Descriptors.MethodDescriptor;
import com.google.protobuf.Descriptors.ServiceDescriptor;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.util.JsonFormat;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.io.FileInputStream;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;

public class Client {
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  public static void main(String[] arguments) throws Exception {
    Map<String, ServiceDescriptor> contracts = contracts(arguments[1]);
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    JsonArray told = new JsonArray();
    for (JsonElement each : JsonParser.parseString(arguments[2]).getAsJsonArray()) {
      JsonArray asked = each.getAsJsonArray();
      MethodDescriptor method =
          contracts.get(asked.get(0).getAsString()).findMethodByName(asked.get(1).getAsString());
      told.add(call(channel, method, asked.get(2).toString(), asked.get(3).getAsLong()));
    }
    System.out.println(told);
    channel.shutdownNow();
  }

  private static Map<String, ServiceDescriptor> contracts(String file) throws Exception {
    Map<String, FileDescriptor> files = new HashMap<>();
    Map<String, ServiceDescriptor> services = new HashMap<>();
    for (FileDescriptorProto proto :
        FileDescriptorSet.parseFrom(new FileInputStream(file)).getFileList()) {
      List<FileDescriptor> imported = new ArrayList<>();
      for (String name : proto.getDependencyList()) imported.add(files.get(name));
      FileDescriptor built = FileDescriptor.buildFrom(proto, imported.toArray(new FileDescriptor[0]));
      files.put(proto.getName(), built);
      for (ServiceDescriptor service : built.getServices())
        services.put(service.getFullName(), service);
    }
    return services;
  }

  private static JsonObject call(
      ManagedChannel channel, MethodDescriptor method, String content, long milliseconds)
      throws Exception {
    DynamicMessage.Builder request = DynamicMessage.newBuilder(method.getInputType());
    JsonFormat.parser().merge(content, request);
    JsonObject told = new JsonObject();
    try {
      DynamicMessage answer = answer(channel, method, request.build(), milliseconds);
      String printed =
          JsonFormat.printer()
              .preservingProtoFieldNames()
              .includingDefaultValueFields()
              .print(answer);
      told.add("answer", JsonParser.parseString(printed));
    } catch (StatusRuntimeException error) {
      byte[] details = error.getTrailers() == null ? null : error.getTrailers().get(DETAILS);
      told.addProperty("code", error.getStatus().getCode().value());
      told.addProperty("message", error.getStatus().getDescription());
      told.addProperty(
          "details", details == null ? null : Base64.getEncoder().encodeToString(details));
    }
    return told;
  }

  private static DynamicMessage answer(
      ManagedChannel channel, MethodDescriptor method, DynamicMessage request, long milliseconds)
      throws Exception {
    CallOptions options =
        CallOptions.DEFAULT.withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS);
    ClientCall<DynamicMessage, DynamicMessage> call = channel.newCall(described(method), options);
    if (method.isClientStreaming()) return firstOfMany(call, request);
    if (method.isServerStreaming())
      return ClientCalls.blockingServerStreamingCall(call, request).next();
    return ClientCalls.blockingUnaryCall(call, request);
  }

  private static DynamicMessage firstOfMany(
      ClientCall<DynamicMessage, DynamicMessage> call, DynamicMessage request) throws Exception {
    BlockingQueue<Object> received = new ArrayBlockingQueue<>(8);
    StreamObserver<DynamicMessage> sent =
        ClientCalls.asyncBidiStreamingCall(
            call,
            new StreamObserver<DynamicMessage>() {
              public void onNext(DynamicMessage message) {
                received.add(message);
              }

              public void onError(Throwable error) {
                received.add(error);
              }

              public void onCompleted() {}
            });
    sent.onNext(request);
    sent.onCompleted();
    Object first = received.take();
    if (first instanceof StatusRuntimeException) throw (StatusRuntimeException) first;
    return (DynamicMessage) first;
  }

  private static io.grpc.MethodDescriptor<DynamicMessage, DynamicMessage> described(
      MethodDescriptor method) {
    String service = method.getService().getFullName();
    return io.grpc.MethodDescriptor.<DynamicMessage, DynamicMessage>newBuilder()
        .setType(type(method))
        .setFullMethodName(
            io.grpc.MethodDescriptor.generateFullMethodName(service, method.getName()))
        .setRequestMarshaller(
            ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(method.getInputType())))
        .setResponseMarshaller(
            ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(method.getOutputType())))
        .build();
  }

  private static io.grpc.MethodDescriptor.MethodType type(MethodDescriptor method) {
    if (method.isClientStreaming()) return io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING;
    if (method.isServerStreaming()) return io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING;
    return io.grpc.MethodDescriptor.MethodType.UNARY;
  }
}
