// Calls Kith as a program in Go does, and prints what it gets, as JSON.
//
// client TARGET DESCRIPTORS CALLS. DESCRIPTORS is a file that holds a FileDescriptorSet. CALLS is
// JSON: a list of [service, method, request, milliseconds]. Of a stream the first message is taken.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"time"

	statuspb "github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// codec passes messages on as they are on the wire: this gRPC is older than dynamic messages.
type codec struct{}

func (codec) Marshal(message interface{}) ([]byte, error) { return *message.(*[]byte), nil }
func (codec) Unmarshal(data []byte, message interface{}) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (codec) Name() string { return "proto" }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func contracts(file string) *protoregistry.Files {
	data, err := os.ReadFile(file)
	must(err)
	set := &descriptorpb.FileDescriptorSet{}
	must(proto.Unmarshal(data, set))
	files, err := protodesc.NewFiles(set)
	must(err)
	return files
}

func refusal(err error) map[string]interface{} {
	told, _ := status.FromError(err)
	details, err := statuspb.Marshal(told.Proto())
	must(err)
	return map[string]interface{}{
		"code":    int(told.Code()),
		"message": told.Message(),
		"details": base64.StdEncoding.EncodeToString(details),
	}
}

func call(connection *grpc.ClientConn, files *protoregistry.Files, asked []json.RawMessage) map[string]interface{} {
	var service, method string
	var milliseconds int64
	must(json.Unmarshal(asked[0], &service))
	must(json.Unmarshal(asked[1], &method))
	must(json.Unmarshal(asked[3], &milliseconds))
	found, err := files.FindDescriptorByName(protoreflect.FullName(service))
	must(err)
	contract := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
	request, answer := dynamicpb.NewMessage(contract.Input()), dynamicpb.NewMessage(contract.Output())
	must(protojson.Unmarshal(asked[2], request))
	sent, err := proto.Marshal(request)
	must(err)

	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(milliseconds)*time.Millisecond)
	defer cancel()
	kind := &grpc.StreamDesc{ClientStreams: contract.IsStreamingClient(), ServerStreams: true}
	stream, err := connection.NewStream(ctx, kind, "/"+service+"/"+method)
	if err != nil {
		return refusal(err)
	}
	must(stream.SendMsg(&sent))
	must(stream.CloseSend())
	var received []byte
	if err := stream.RecvMsg(&received); err != nil {
		return refusal(err)
	}
	must(proto.Unmarshal(received, answer))
	told, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(answer)
	must(err)
	return map[string]interface{}{"answer": json.RawMessage(told)}
}

func main() {
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure(), grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	must(err)
	var calls [][]json.RawMessage
	must(json.Unmarshal([]byte(os.Args[3]), &calls))
	files := contracts(os.Args[2])
	told := []map[string]interface{}{}
	for _, asked := range calls {
		told = append(told, call(connection, files, asked))
	}
	must(json.NewEncoder(os.Stdout).Encode(told))
}
