"""The public gRPC API through grpcio, by server reflection alone: no file of ours is read and no code is generated."""

import hashlib
import uuid

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

CHUNK = 256 << 10
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 128 << 20)]


class ApiError(Exception):
    """A refused call: `code` is gRPC's, `reason`, `hint` and `field` come from the google.rpc details."""

    def __init__(self, error):
        self.code = error.code()
        self.message = error.details() or ""
        self.reason = self.hint = self.field = self.domain = None
        self.details = []
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            self._read(detail)
        super().__init__(f"{self.code.name} {self.reason}: {self.message} (hint: {self.hint})")

    def _read(self, detail):
        self.details.append(detail.type_url)
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            self.reason, self.domain, self.hint = info.reason.lower(), info.domain, info.metadata.get("hint")
        elif detail.Unpack(bad):
            self.field = bad.field_violations[0].field


class WithToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends the token with every call, reflection's too."""

    def __init__(self, token):
        self.token = token

    def _call(self, continuation, details, request):
        metadata = [*(details.metadata or []), ("authorization", f"Bearer {self.token}")]
        return continuation(details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _call


class Api:
    """One client of one gateway. Messages are dictionaries with the field names of the schema."""

    def __init__(self, address, token=None):
        channel = grpc.insecure_channel(address.removeprefix("http://"), OPTIONS)
        self.channel = grpc.intercept_channel(channel, WithToken(token)) if token else channel
        self.reflection = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.reflection)

    def services(self):
        return sorted(self.reflection.get_services())

    def _message(self, descriptor, value):
        return json_format.ParseDict(value, message_factory.GetMessageClass(descriptor)(), descriptor_pool=self.pool)

    def _method(self, name):
        service, _, method = name.partition(".")
        full = service if "/" in service else f"dunlin.v1.{service}"
        descriptor = self.pool.FindServiceByName(full).methods_by_name[method]
        answer = message_factory.GetMessageClass(descriptor.output_type)
        return descriptor, f"/{full}/{method}", answer.FromString

    def _run(self, call):
        try:
            return call()
        except grpc.RpcError as error:
            raise ApiError(error) from None

    def call(self, procedure, /, timeout=60, metadata=None, **request):
        """Calls a unary method: api.call("FunctionService.GetFunction", name="...")."""
        method, path, reads = self._method(procedure)
        stub = self.channel.unary_unary(path, lambda m: m.SerializeToString(), reads)
        message = self._message(method.input_type, request)
        return as_dict(self._run(lambda: stub(message, timeout=timeout, metadata=metadata)))

    def stream(self, procedure, /, timeout=180, **request):
        """Calls a method that answers with a stream, lazily."""
        method, path, reads = self._method(procedure)
        stub = self.channel.unary_stream(path, lambda m: m.SerializeToString(), reads)
        stream = stub(self._message(method.input_type, request), timeout=timeout)
        try:
            for message in stream:
                yield as_dict(message)
        except grpc.RpcError as error:
            raise ApiError(error) from None
        finally:
            stream.cancel()

    def upload_parts(self, parts, timeout=120):
        """Calls UploadArtifact with these messages, whatever they are."""
        method, path, reads = self._method("FunctionService.UploadArtifact")
        stub = self.channel.stream_unary(path, lambda m: m.SerializeToString(), reads)
        cls = message_factory.GetMessageClass(method.input_type)

        def message(part):
            return cls(chunk=part) if isinstance(part, bytes) else self._message(method.input_type, part)

        return as_dict(self._run(lambda: stub(map(message, parts), timeout=timeout)))

    def upload(self, namespace, wasm):
        digest = "sha256:" + hashlib.sha256(wasm).hexdigest()
        start = {"start": {"parent": f"namespaces/{namespace}", "digest": digest, "size_bytes": len(wasm)}}
        chunks = (wasm[at:at + CHUNK] for at in range(0, len(wasm), CHUNK))
        answer = self.upload_parts([start, *chunks])
        assert answer["digest"] == digest
        return answer

    def deploy(self, namespace, function, wasm, public=True, timeout=180, **version):
        """Uploads and makes a version; returns it. Its progress is in the key `progress`."""
        digest = self.upload(namespace, wasm)["digest"]
        request = {"parent": f"namespaces/{namespace}/functions/{function}", "artifact_digest": digest, "request_id": str(uuid.uuid4()), "public": public}
        events = list(self.stream("FunctionService.CreateVersion", timeout=timeout, **(request | version)))
        assert events and "version" in events[-1], f"the stream ended without a version: {events}"
        return events[-1]["version"] | {"progress": [event["progress"] for event in events[:-1]]}


def as_dict(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
