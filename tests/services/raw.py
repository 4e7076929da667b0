"""raw.py FROM SERVER[:PORT] EVIL [udp]: what is no request, each on a connection of its own."""
import socket
import sys

source, server, evil = sys.argv[1:4]
udp = sys.argv[4:5] == ["udp"]
host, port = server, 80
if server.startswith("["):
    host, _, rest = server[1:].partition("]")
    port = int(rest[1:] or 80)
elif server.count(":") == 1 or server.count(":") > 1 and server.rsplit(":", 1)[1] in ("3306", "1194"):
    host, rest = server.rsplit(":", 1)
    port = int(rest)
evil = evil.encode()
for data in [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
    b"GET /x y HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: " + evil + b"\r\n\r\n",
    b"SSH-2.0-x client: " + evil + b", server: x\r\n\r\n",
    b"\\x16 \"" + evil + b"\" - - [x] \"GET /.env HTTP/1.1\" 404 1\r\n\r\n",
    b"CONNECT " + evil + b":25 HTTP/1.1\r\nHost: " + evil + b"\r\n\r\n",
    b"GET /.env HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + evil + b"\r\nUser-Agent: \" " + evil + b" - - [1] \"GET /.env HTTP/1.1\" 404 1\r\nConnection: close\r\n\r\n",
]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    s.settimeout(1)
    s.bind((source, 0))
    try:
        s.connect((host, port))
        s.sendall(data)
        if not udp:
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass
    except OSError:
        pass
    s.close()
