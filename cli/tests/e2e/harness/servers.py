"""Servers that tests set up around the platform: an upstream, a name server that lies, an identity provider, a cable to pull."""

import base64
import contextlib
import datetime
import hashlib
import html
import json
import secrets
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# What keys of these certificates are not for.
UNUSED = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
CENTURY = datetime.timedelta(days=36_500)


class Server:
    """An HTTP server in a thread, over TLS where it has a context for it; counts what reaches it."""

    def __init__(self, handler, host="127.0.0.1", tls=None):
        self.requests = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append((self.path, dict(self.headers)))
                handler(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer((host, 0), Handler)
        self._http.daemon_threads = True
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.host, self.port = host, self._http.server_port
        self.url = f"http://{host}:{self.port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()


def reply(request, body, content_type="text/plain", status=200, headers=()):
    request.send_response(status)
    for name, value in [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers]:
        request.send_header(name, value)
    request.end_headers()
    with contextlib.suppress(OSError):
        request.wfile.write(body)


class Authority:
    """Signs certificates of servers; whoever trusts `file` trusts them. One of another authority signs as an intermediate of it."""

    def __init__(self, folder, above=None):
        self._folder, self._key, self._above = folder, ec.generate_private_key(ec.SECP256R1()), above
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests" if above is None else "intermediate of the tests")])
        usage = x509.KeyUsage(**dict.fromkeys(UNUSED, False), key_cert_sign=True, crl_sign=True, digital_signature=False)
        extensions = [(x509.BasicConstraints(ca=True, path_length=None if above is None else 0), True), (usage, True)]
        self._certificate = (above or self)._sign(self._name, self._key, extensions, CENTURY)
        self.file = folder / ("authority.pem" if above is None else "intermediate.pem")
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def _sign(self, subject, key, extensions, valid):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(hours=1), now + valid)
        extensions = [*extensions, (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False), (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    def pair(self, *hosts, valid=datetime.timedelta(hours=1)):
        """A certificate for these names, with what is between it and the uppermost authority, and its key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(**dict.fromkeys(UNUSED, False), key_cert_sign=False, crl_sign=False, digital_signature=True)
        # Without a subject, the names are all that there is (RFC 5280 4.2.1.6).
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        certificate = self._sign(x509.Name([]), key, [(names, True), (usage, True), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)], valid)
        chain = [certificate] if self._above is None else [certificate, self._certificate]
        return b"".join(one.public_bytes(Encoding.PEM) for one in chain), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def context(self, host):
        """What a server of this name needs to speak TLS."""
        both = self._folder / f"{host}.pem"
        both.write_bytes(b"".join(self.pair(host)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context


class NameServer:
    """Answers A and TXT queries over UDP. A name's addresses are a list of lists: the first answer, the second, and then the last for ever.
    A name's texts are a list of texts, or a name that it is an alias of, or a number, which is an error."""

    def __init__(self):
        self.addresses, self.texts, self.asked = {}, {}, []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:{}".format(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                query, sender = self._socket.recvfrom(4096)
            except OSError:
                return
            with contextlib.suppress(Exception):
                self._socket.sendto(self._answer(query), sender)

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, kind = ".".join(labels).lower(), struct.unpack(">H", query[at + 1:at + 3])[0]
        question = query[12:at + 5]
        if kind == 16 and name in self.texts:
            return self._texts(query[:2], question, self.texts[name])
        found = []
        if kind == 1 and name in self.addresses:
            answers = self.addresses[name]
            found = answers.pop(0) if len(answers) > 1 else answers[0]
            self.asked.append(name)
        flags = 0x8180 if name in self.addresses else 0x8183
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(address) for address in found)
        return query[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0) + question + records

    def _texts(self, ident, question, texts):
        flags, name, records = 0x8180, b"\xc0\x0c", []
        if isinstance(texts, int):
            flags, texts = flags | texts, []
        if isinstance(texts, str):
            alias = b"".join(bytes([len(label)]) + label.encode() for label in texts.split(".")) + b"\0"
            records.append(name + struct.pack(">HHIH", 5, 1, 0, len(alias)) + alias)
            name, texts = alias, self.texts[texts]
        for text in texts:
            pieces = [text[at:at + 255].encode() for at in range(0, len(text), 255)]
            data = b"".join(bytes([len(piece)]) + piece for piece in pieces)
            records.append(name + struct.pack(">HHIH", 16, 1, 0, len(data)) + data)
        return ident + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records)

    def close(self):
        self._socket.close()


class Issuer:
    """An OpenID Connect provider: a discovery document, its keys, tokens of any kind, and people who sign in.

    Codes are good once, for the redirect URI, the client and the PKCE challenge (RFC 7636) of their request; `refusals` says why others were not."""

    AUDIENCE = "dunlin-tests"
    CLIENT, SECRET = "dunlin-dashboard", "the-dashboards-secret-%3A:of-the-tests"

    def __init__(self):
        self.keys = {"first": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.redirects, self.codes, self.refusals, self.grants = set(), {}, [], ["operator"]
        self.server = Server(self._serve)
        self.url = self.server.url

    def _serve(self, request):
        path, _, query = request.path.partition("?")
        if path == "/authorize":
            return self._authorize(request, dict(urllib.parse.parse_qsl(query, strict_parsing=True)))
        if path == "/token":
            status, body = self._token(request)
            return reply(request, json.dumps(body).encode(), "application/json", status, [("Cache-Control", "no-store")])
        if path == "/.well-known/openid-configuration":
            body = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", "id_token_signing_alg_values_supported": ["RS256"], "authorization_endpoint": f"{self.url}/authorize",
                    "token_endpoint": f"{self.url}/token", "code_challenge_methods_supported": ["S256"], "authorization_response_iss_parameter_supported": True,
                    "response_types_supported": ["code"], "subject_types_supported": ["public"], "token_endpoint_auth_methods_supported": ["client_secret_basic"]}
        elif path == "/keys":
            body = {"keys": [self._public(kid, key) for kid, key in self.keys.items()]}
        else:
            return reply(request, b"", status=404)
        reply(request, json.dumps(body).encode(), "application/json")

    def _authorize(self, request, asked):
        """A page with a button for yes and one for no; a redirect URI that is not known is told to the person alone (RFC 6749 4.1.2.1)."""
        wrong = [name for name, value in {"response_type": "code", "client_id": self.CLIENT, "code_challenge_method": "S256"}.items() if asked.get(name) != value]
        wrong += [name for name in ("state", "nonce", "code_challenge") if len(asked.get(name, "")) < 43]
        if wrong or asked.get("redirect_uri") not in self.redirects or "openid" not in asked.get("scope", "").split():
            self.refusals.append(f"asked with {asked}, of which wrong: {wrong}")
            return reply(request, b"not known", status=400)
        code = secrets.token_urlsafe(32)
        self.codes[code] = asked

        def back(**answer):
            query = urllib.parse.urlencode({"state": asked["state"], "iss": self.url, **answer})
            return html.escape(f"{asked['redirect_uri']}?{query}")

        page = f'<!doctype html><html lang="en"><title>Issuer</title><link rel="icon" href="data:,"><h1>Issuer</h1><a href="{back(code=code)}">Yes</a> <a href="{back(error="access_denied")}">No</a>'
        reply(request, page.encode(), "text/html")

    def _token(self, request):
        form = dict(urllib.parse.parse_qsl(request.rfile.read(int(request.headers["Content-Length"])).decode(), strict_parsing=True))
        scheme, _, pair = request.headers.get("Authorization", "").partition(" ")
        client = [urllib.parse.unquote_plus(part) for part in base64.b64decode(pair).decode().split(":")]
        if scheme != "Basic" or client != [self.CLIENT, self.SECRET] or "client_secret" in form:
            self.refusals.append(f"the client is {client}")
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code"), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if not asked or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri") or form.get("grant_type") != "authorization_code":
            self.refusals.append("the code is not good for this")
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.url, "sub": "person", "aud": self.CLIENT, "azp": self.CLIENT, "iat": now, "exp": now + 600, "nonce": asked["nonce"], "dunlin_grants": self.grants}
        kid, key = next(iter(self.keys.items()))
        return 200, {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "expires_in": 600, "id_token": jwt.encode(claims, key, "RS256", {"kid": kid})}

    @staticmethod
    def _public(kid, key):
        return jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "alg": "RS256", "use": "sig"}

    def rotate(self, kid):
        self.keys = {kid: rsa.generate_private_key(public_exponent=65537, key_size=2048)}

    def key_fetches(self):
        return sum(path == "/keys" for path, _ in self.server.requests)

    def close(self):
        self.server.close()


class Cable:
    """A TCP connection between a process and a server, which can be pulled and put back."""

    def __init__(self, host, port):
        self._target, self.plugged, self._open = (host, port), True, set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self.plugged:
                    raise OSError("unplugged")
                far = socket.create_connection(self._target) if isinstance(self._target[1], int) else self._unix()
            except OSError:
                near.close()
                continue
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _unix(self):
        far = socket.socket(socket.AF_UNIX)
        far.connect(f"{self._target[0]}/.s.PGSQL.{self._target[1]}")
        return far

    def _copy(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)

    def pull(self):
        self.plugged = False
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def put_back(self):
        self.plugged = True

    def close(self):
        self.pull()
        self._listener.close()
