"""my.py FROM SERVER USER: tries to log in to MySQL or MariaDB with a wrong password; \\n in USER is a new line."""
import socket
import struct
import sys

source, server, user = sys.argv[1:4]
s = socket.create_connection((server, 3306), 3, (source, 0))
s.recv(4096)
flags = 0x00000200 | 0x00008000 | 0x00080000
body = struct.pack("<IIB23x", flags, 1 << 24, 33) + user.replace("\\n", "\n").encode() + b"\0"
body += b"\x14" + b"x" * 20 + b"mysql_native_password\0"
s.sendall(struct.pack("<I", len(body) | 1 << 24)[:4] + body)
s.recv(4096)
