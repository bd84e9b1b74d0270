# A Python environment with a gRPC client in another language than ours (grpcio), schemathesis for the OpenAPI document, and
# what makes good and bad tokens. Tests run its interpreter: .tools/grpc/bin/python.

part_version() { digest_of "$PINS/grpc.txt"; }
part_works() { "$TOOLS/grpc/bin/python" -c 'import grpc, grpc_reflection, grpc_health, schemathesis, jwt, jwcrypto' 2>/dev/null; }
part_install() { python_env grpc "$PINS/grpc.txt"; }
