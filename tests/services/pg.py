"""pg.py FROM SERVER USER DATABASE: tries to log in to PostgreSQL with a wrong password, through SCRAM's first steps."""
import base64
import socket
import struct
import sys

source, server, user, database = sys.argv[1:5]
s = socket.create_connection((server, 5432), 3, (source, 0))


def message(kind, body):
    s.sendall(kind + struct.pack("!i", len(body) + 4) + body)


def answer():
    head = s.recv(5)
    if len(head) < 5:
        sys.exit()
    body = s.recv(struct.unpack("!i", head[1:])[0] - 4)
    if head[:1] != b"R":
        sys.exit()
    return body


text = b"user\0" + user.encode() + b"\0database\0" + database.encode() + b"\0\0"
message(b"", struct.pack("!i", 196608) + text)
answer()
first = b"n,,n=,r=abcdef"
message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
nonce = answer()[4:].split(b",")[0][2:]
message(b"p", b"c=biws,r=" + nonce + b",p=" + base64.b64encode(bytes(32)))
answer()
