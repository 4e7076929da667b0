"""talk.py FROM SERVER PORT LINE…: a session of lines, each sent when the answer to the one before is there.

\\xHH, \\n and so on in a line mean what they mean in Python; a line is sent without its line end if it ends in \\c, and
without waiting for an answer if it ends in \\p. `STARTTLS`, `STLS` and `AUTH TLS` start TLS when the server agrees; the
line `TLS` starts it at once. FROM may be - for whatever address the system chooses.
"""
import socket
import ssl
import sys

source, server, port = sys.argv[1:4]
family = socket.AF_INET6 if ":" in server else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM)
s.settimeout(8)
if source != "-":
    s.bind((source, 0))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def answer():
    text = s.recv(65536)
    s.settimeout(0.15)
    try:
        while text:
            more = s.recv(65536)
            if not more:
                break
            text += more
    except TimeoutError:
        pass
    s.settimeout(8)
    return text


greeted = False
try:
    s.connect((server, int(port)))
    for line in sys.argv[4:]:
        if line == "TLS":
            s = context.wrap_socket(s)
            continue
        end, wait = b"\r\n", True
        if line.endswith("\\c"):
            line, end = line[:-2], b""
        elif line.endswith("\\p"):
            line, wait = line[:-2], False
        if not greeted and wait:
            answer()
        greeted = True
        s.sendall(line.encode().decode("unicode_escape").encode("latin-1") + end)
        got = answer() if wait else b""
        if line in ("STARTTLS", "STLS", "a STARTTLS", "AUTH TLS") and not got.startswith((b"5", b"4", b"-", b"a N", b"a B")):
            s = context.wrap_socket(s)
    s.close()
except OSError:
    pass
