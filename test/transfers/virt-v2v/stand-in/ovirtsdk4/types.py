"""Entities by which bodies are written and answers read: what the scripts of virt-v2v name."""

import dataclasses
import enum
from typing import List, get_args, get_origin
from xml.sax.saxutils import escape, quoteattr


def _enumeration(name, *values):
    return enum.Enum(name, [(value.upper(), value) for value in values])


Architecture = _enumeration("Architecture", "undefined", "x86_64", "ppc64", "s390x", "aarch64")
ConfigurationType = _enumeration("ConfigurationType", "ova", "ovf")
DiskFormat = _enumeration("DiskFormat", "cow", "raw")
DiskStatus = _enumeration("DiskStatus", "illegal", "locked", "ok")
JobStatus = _enumeration("JobStatus", "aborted", "failed", "finished", "started", "unknown")
ImageTransferPhase = _enumeration(
    "ImageTransferPhase", "cancelled", "cancelled_system", "cancelled_user", "finalizing_cleanup",
    "finalizing_failure", "finalizing_success", "finished_cleanup", "finished_failure",
    "finished_success", "initializing", "paused_system", "paused_user", "resuming",
    "transferring", "unknown")


@dataclasses.dataclass
class Entity:
    href: str = None
    id: str = None


@dataclasses.dataclass
class StorageDomain(Entity):
    name: str = None


@dataclasses.dataclass
class Cpu(Entity):
    architecture: Architecture = None
    type: str = None


@dataclasses.dataclass
class Cluster(Entity):
    name: str = None
    cpu: Cpu = None


@dataclasses.dataclass
class DataCenter(Entity):
    name: str = None
    clusters: List[Cluster] = None
    storage_domains: List[StorageDomain] = None


@dataclasses.dataclass
class Host(Entity):
    name: str = None


@dataclasses.dataclass
class Disk(Entity):
    description: str = None
    format: DiskFormat = None
    initial_size: int = None
    name: str = None
    provisioned_size: int = None
    sparse: bool = None
    status: DiskStatus = None
    storage_domains: List[StorageDomain] = None


@dataclasses.dataclass
class ImageTransfer(Entity):
    format: DiskFormat = None
    inactivity_timeout: int = None
    phase: ImageTransferPhase = None
    proxy_url: str = None
    transfer_url: str = None
    transferred: int = None
    disk: Disk = None
    host: Host = None


@dataclasses.dataclass
class Job(Entity):
    description: str = None
    status: JobStatus = None


@dataclasses.dataclass
class Configuration(Entity):
    data: str = None
    type: ConfigurationType = None


@dataclasses.dataclass
class Initialization(Entity):
    configuration: Configuration = None


@dataclasses.dataclass
class Vm(Entity):
    name: str = None
    cluster: Cluster = None
    initialization: Initialization = None


@dataclasses.dataclass
class Action(Entity):
    tag = "action"
    status: str = None


@dataclasses.dataclass
class Link(Entity):
    """A collection that was not sent, but told where it is."""


TAGS = {
    "action": Action, "cluster": Cluster, "configuration": Configuration, "cpu": Cpu,
    "data_center": DataCenter, "disk": Disk, "host": Host, "image_transfer": ImageTransfer,
    "initialization": Initialization, "job": Job, "storage_domain": StorageDomain, "vm": Vm,
}
NAMES = {kind: tag for tag, kind in TAGS.items()}
LISTS = {tag + "s": kind for tag, kind in TAGS.items()}


def read(element):
    """An entity, or a list of them."""
    if element.tag in LISTS:
        return [_entity(child, LISTS[element.tag]) for child in element]
    return _entity(element, TAGS[element.tag])


def _entity(element, kind):
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    values = {name: element.get(name) for name in ("href", "id")}
    for child in element:
        if child.tag == "link":
            rel = {"storagedomains": "storage_domains"}.get(child.get("rel"), child.get("rel"))
            if get_origin(fields.get(rel)) is list:
                values[rel] = Link(href=child.get("href"))
        elif child.tag in fields:
            values[child.tag] = _value(child, fields[child.tag])
    return kind(**values)


def _value(element, kind):
    if get_origin(kind) is list:
        return [_entity(child, get_args(kind)[0]) for child in element]
    if dataclasses.is_dataclass(kind):
        return _entity(element, kind)
    if element.text is None:
        return None
    if issubclass(kind, enum.Enum):
        # Other values, blanks around them, capitals: no value.
        return next((member for member in kind if member.value == element.text), None)
    return element.text.lower() in ("true", "1") if kind is bool else kind(element.text)


def write(entity):
    return _write(entity, "")


def _write(entity, indent):
    """Plain values first, then what is nested, both by name."""
    tag = NAMES[type(entity)]
    attributes = "".join(" %s=%s" % (name, quoteattr(value))
                         for name in ("href", "id")
                         if (value := getattr(entity, name)) is not None)
    plain, nested = [], []
    for name in sorted(field.name for field in dataclasses.fields(entity)):
        value = getattr(entity, name)
        if value is None or name in ("href", "id") or isinstance(value, Link):
            continue
        inner = indent + "  "
        if isinstance(value, list):
            items = "".join(_write(item, inner + "  ") for item in value)
            nested.append("%s<%s>\n%s%s</%s>\n" % (inner, name, items, inner, name))
        elif dataclasses.is_dataclass(value):
            nested.append(_write(value, inner))
        else:
            plain.append("%s<%s>%s</%s>\n" % (inner, name, escape(_text(value)), name))
    if not plain and not nested:
        return "%s<%s%s/>\n" % (indent, tag, attributes)
    return "%s<%s%s>\n%s%s</%s>\n" % (indent, tag, attributes, "".join(plain + nested), indent, tag)


def _text(value):
    if isinstance(value, enum.Enum):
        return value.value
    return str(value).lower() if isinstance(value, bool) else str(value)
