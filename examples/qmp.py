#!/usr/bin/env python3
"""Sends commands to a running qemu: qmp.py SOCKET < COMMANDS

COMMANDS are JSON objects, one after the other. A member "wait" names an event without which a command
is not done. Prints what each returns, one a line. Ends with 1 at the first that fails, and sends no
further one.
"""

import json
import socket
import sys


def objects(text):
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip()


def receive(lines):
    line = lines.readline()
    if not line:
        sys.exit("qmp: qemu has hung up")
    return json.loads(line)


def run(command, monitor, lines):
    awaited = {command.pop("wait", None), "return"} - {None}
    monitor.sendall(json.dumps(command).encode())
    value = None
    # Events come in between, also before the answer.
    while awaited:
        message = receive(lines)
        if "error" in message:
            sys.exit(f"qmp: {command['execute']}: {message['error']['desc']}")
        if "return" in message:
            value = message["return"]
        awaited.discard(message.get("event", "return"))
    return value


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(60)
        monitor.connect(sys.argv[1])
        lines = monitor.makefile("r", encoding="utf-8")
        receive(lines)
        run({"execute": "qmp_capabilities"}, monitor, lines)
        for command in objects(sys.stdin.read()):
            print(json.dumps(run(command, monitor, lines)))


main()
