# sslyze, which audits TLS, in a Python environment of its own: it holds back versions that the clients of .ci/tools/parts/grpc.sh need.

part_version() { digest_of "$PINS/sslyze.txt"; }
part_works() { "$TOOLS/sslyze/bin/python" -c 'import sslyze' 2>/dev/null; }
part_install() { python_env sslyze "$PINS/sslyze.txt"; }
