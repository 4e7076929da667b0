"""Whom fail2ban would ban, by the jails that it ships with their own numbers, and at which line.

`python3 fail2ban.py < LIST`: each line of LIST is "JAIL[,JAIL] FILE", a log. Prints "FILE JAIL ADDR N" for
the first ban of each address: N is the number of that address's lines (those that hold it) up to then. The
clock is what the log says. It is fail2ban's own reader, filter and count of failures; only its threads and
its actions are left out.
"""
import logging
import re
import shutil
import sys
import tempfile

sys.path.insert(0, "/usr/lib/python3/dist-packages")
try:
    from fail2ban.client.jailreader import JailReader
    from fail2ban.server.mytime import MyTime
    from fail2ban.server.server import Server
    from fail2ban.version import version
except ImportError as error:
    sys.exit(f"no fail2ban here: {error}")

logging.disable(logging.CRITICAL)
WANTED = {
    "addfailregex", "addignoreregex", "prefregex", "datepattern", "maxlines",
    "maxretry", "findtime", "bantime",
}


def jail(server, name, shipped):
    """The filter of a shipped jail, as its configuration has it."""
    reader = JailReader(name, force_enable=True, basedir=shipped)
    reader.read()
    reader.getOptions()
    server.addJail(name, "polling")
    send = server._Server__transm.proceed
    send(["set", name, "usedns", "no"])
    for command in reader.convert(allow_no_files=True):
        if command[0] in ("set", "multi-set") and command[2] in WANTED:
            status, answer = send(command)
            if status:
                sys.exit(f"{name}: {command[2]}: {answer}")
    return server._Server__jails[name].filter


def read(filtering, path):
    """The first ban of each address: a list of (address, number of its line)."""
    own, bans = {}, {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            for word in set(WORDS.split(line)):
                if word.count(".") == 3:
                    own[word] = own.get(word, 0) + 1
            when = filtering.dateDetector.getTime(line)
            if when is not None:
                MyTime.setTime(when[0])
            filtering.processLineAndAdd(line)
            ticket = filtering.jail.getFailTicket()
            while ticket:
                addr = str(ticket.getID())
                bans.setdefault(addr, own.get(addr, 0))
                ticket = filtering.jail.getFailTicket()
    return bans


def main():
    print("version", version)
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="mef-fail2ban-") as dir:
        # Without what this host's administrator has changed.
        shipped = dir + "/fail2ban"
        shutil.copytree("/etc/fail2ban", shipped, ignore=shutil.ignore_patterns("*.local", "jail.d"))
        judge(shipped)


def judge(shipped):
    """Reads the list, prints the bans."""
    for line in sys.stdin:
        names, path = line.split(maxsplit=1)
        path = path.strip()
        for name in names.split(","):
            MyTime.setTime(NEW_YEAR)
            bans = read(jail(Server(daemon=False), name, shipped), path)
            for addr, at in bans.items():
                print(path, name, addr, at)


WORDS = re.compile(r"[^0-9.]+")
NEW_YEAR = 1798675200  # the end of 2026: syslog's stamps have no year
main()
