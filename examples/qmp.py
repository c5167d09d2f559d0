#!/usr/bin/env python3
"""Sends commands to a running qemu: qmp.py [--all] SOCKET < COMMANDS

COMMANDS are JSON objects, one after the other. A member "wait" names an event without which a command
is not done. Prints what each returns, one a line. Ends with 1 at the first that fails, and sends no
further one; what is no JSON is told before any is sent. Ends with 2 without SOCKET.

With --all it sends the others as well, says of each how it went, and ends with 1 if any failed. One
whose refusal has the text of its member "unless" has not failed: there was nothing to do.
"""

import json
import socket
import sys


class Failure(Exception):
    """Its text is one line for the user."""


class Refused(Failure):
    """By qemu, which goes on."""


def objects(text):
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except ValueError as error:
            raise Failure(f"standard input holds no JSON: {error}") from error
        if not isinstance(value, dict) or not isinstance(value.get("execute"), str):
            raise Failure(f'a command must be an object with "execute", not {json.dumps(value)}')
        yield value
        text = text[end:].lstrip()


def receive(lines):
    try:
        line = lines.readline()
    except socket.timeout as error:
        raise Failure("qemu does not answer") from error
    except OSError as error:
        raise Failure(f"qemu has hung up: {error.strerror}") from error
    if not line:
        raise Failure("qemu has hung up")
    try:
        return json.loads(line)
    except ValueError as error:
        raise Failure("what listens there is no monitor that speaks QMP") from error


def run(command, monitor, lines):
    awaited = {command.pop("wait", None), "return"} - {None}
    try:
        monitor.sendall(json.dumps(command).encode())
    except OSError as error:
        raise Failure(f"qemu has hung up: {error.strerror}") from error
    value = None
    # Events come in between, also before the answer.
    while awaited:
        message = receive(lines)
        if "error" in message:
            raise Refused(f"{command['execute']}: {message['error']['desc']}")
        if "return" in message:
            value = message["return"]
        awaited.discard(message.get("event", "return"))
    return value


def run_all(commands, monitor, lines):
    failed = 0
    for command in commands:
        name, unless = command["execute"], command.pop("unless", None)
        try:
            run(command, monitor, lines)
            print(f"{name}: done")
        except Refused as refused:
            if unless is not None and unless in str(refused):
                print(f"{name}: nothing to do")
            else:
                print(f"qmp: {refused}", file=sys.stderr)
                failed += 1
    if failed:
        raise Failure(f"{failed} of {len(commands)} commands failed")


def main(path, wants_all):
    try:
        commands = list(objects(sys.stdin.read()))
    except UnicodeDecodeError as error:
        raise Failure("standard input holds no JSON: it is not UTF-8") from error
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(60)
        try:
            monitor.connect(path)
        except OSError as error:
            raise Failure(f"{path}: {error.strerror or error}") from error
        lines = monitor.makefile("r", encoding="utf-8")
        receive(lines)
        run({"execute": "qmp_capabilities"}, monitor, lines)
        if wants_all:
            run_all(commands, monitor, lines)
            return
        for command in commands:
            print(json.dumps(run(command, monitor, lines)))


if sys.argv[1:] in (["-h"], ["--help"]):
    print(__doc__.strip())
    sys.exit()
wants_all = sys.argv[1:2] == ["--all"]
if len(sys.argv) != 2 + wants_all:
    print(__doc__.strip(), file=sys.stderr)
    sys.exit(2)
try:
    main(sys.argv[-1], wants_all)
except Failure as failure:
    sys.exit(f"qmp: {failure}")
