"""A stand-in for oVirt's Python SDK, which is not to be had from Debian: as much of it as the scripts of
virt-v2v call. It sends the requests that were recorded from the SDK 4.6.4, header by header, and fails on
the answers on which that one was seen to fail. What it proves is how the scripts and the service get on
with each other, not that the SDK works."""

import base64
import json
import ssl
from http.client import HTTPSConnection
from urllib.parse import unquote, urlencode, urlparse
from xml.etree import ElementTree

from . import types

AGENT = "PythonSDK/4.6.4"


class Error(Exception):
    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


class AuthError(Error):
    pass


class NotFoundError(Error):
    pass


class Connection:
    """One HTTP connection, and a token that is fetched before the first request."""

    def __init__(self, url, username, password, ca_file, log=None, insecure=False):
        parsed = urlparse(url)
        context = ssl.create_default_context(cafile=ca_file)
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._http = HTTPSConnection(parsed.hostname, parsed.port, context=context)
        self._host = "%s:%d" % (parsed.hostname, parsed.port)
        self._base = parsed.path
        # What libcurl makes of a user in the URL.
        self._url_user = None if parsed.username is None else unquote(parsed.username)
        self._user, self._password = unquote(username), password
        self._token = None

    def system_service(self):
        return SystemService(self)

    def follow_link(self, link):
        if not link.href.startswith(self._base + "/"):
            raise Error("The URL '%s' isn't compatible with the base URL" % link.href)
        return self.ask("GET", link.href[len(self._base):])

    def close(self):
        if self._token is not None:
            self._sso("/ovirt-engine/services/sso-logout",
                      {"scope": "ovirt-app-api", "token": self._token})
        self._http.close()

    def ask(self, method, path, body=None):
        """The object or list of the answer."""
        if self._token is None:
            self._login()
        status, reason, kind, text = self._send(method, path, body)
        if status == 401:
            self._login()
            status, reason, kind, text = self._send(method, path, body)
        if status == 404 and text == b"":
            raise NotFoundError("404 %s" % reason, 404)
        if text != b"" and kind.split(";")[0].strip() not in ("application/xml", "text/xml"):
            raise Error("The response content type '%s' isn't XML" % kind, status)
        if status not in (200, 201, 202):
            raise self._fault(status, text)
        if method == "DELETE":
            if status != 200:
                raise Error("%d" % status, status)
            return None
        return types.read(ElementTree.fromstring(text))

    @staticmethod
    def _fault(status, text):
        root = ElementTree.fromstring(text)
        fault = root if root.tag == "fault" else root.find("fault")
        message = "%s %s [%d]" % (fault.findtext("reason"), fault.findtext("detail"), status)
        kind = {401: AuthError, 403: AuthError, 404: NotFoundError}.get(status, Error)
        return kind(message, status)

    def _login(self):
        answer = self._sso("/ovirt-engine/sso/oauth/token", {
            "grant_type": "password", "scope": "ovirt-app-api",
            "username": self._user, "password": self._password,
        })
        self._token = answer["access_token"]

    def _sso(self, path, form):
        headers = [("Host", self._host), ("User-Agent", AGENT), ("Accept", "application/json")]
        if self._url_user is not None:
            user = base64.b64encode(("%s:" % self._url_user).encode()).decode()
            headers.append(("Authorization", "Basic " + user))
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        status, _, kind, text = self._exchange("POST", path, headers, urlencode(form).encode())
        if kind.split(";")[0].strip() not in ("application/json", "text/json"):
            raise Error("The response content type '%s' isn't JSON: %d %s" % (kind, status, text))
        answer = json.loads(text)
        if "error" in answer:
            raise AuthError("Error during SSO authentication %s : %s"
                            % (answer.get("error_code"), answer["error"]))
        return answer

    def _send(self, method, path, body):
        return self._exchange(method, self._base + path, [
            ("Host", self._host),
            ("Accept-Encoding", "deflate, gzip, br, zstd"),
            ("User-Agent", AGENT),
            ("Version", "4"),
            ("Content-Type", "application/xml"),
            ("Accept", "application/xml"),
            ("Authorization", "Bearer " + self._token),
        ], body)

    def _exchange(self, method, target, headers, body):
        self._http.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            self._http.putheader(name, value)
        if body is not None:
            self._http.putheader("Content-Length", str(len(body)))
        self._http.endheaders(body)
        answer = self._http.getresponse()
        if answer.getheader("Content-Encoding") is not None:
            raise Error("an encoding that the stand-in does not know")
        return answer.status, answer.reason, answer.getheader("Content-Type"), answer.read()


class Item:
    def __init__(self, connection, path):
        self._connection, self._path = connection, path

    def get(self):
        return self._connection.ask("GET", self._path)

    def remove(self):
        self._connection.ask("DELETE", self._path)

    def cancel(self):
        self._act("cancel")

    def finalize(self):
        self._act("finalize")

    def _act(self, name):
        answer = self._connection.ask("POST", "%s/%s" % (self._path, name), b"<action/>\n")
        if answer is None or answer.tag != "action":
            raise Error("Expected '<fault>' or '<action>'")


class Collection:
    def __init__(self, connection, path):
        self._connection, self._path = connection, path

    def list(self, **parameters):
        words = {"case_sensitive": "true" if parameters.pop("case_sensitive", False) else None,
                 **parameters}
        query = urlencode(sorted((k, v) for k, v in words.items() if v is not None))
        return self._connection.ask("GET", self._path + ("?" + query if query else ""))

    def add(self, *given, query=None, **named):
        entity = (*given, *named.values())[0]
        path = self._path + ("?" + urlencode(query) if query else "")
        return self._connection.ask("POST", path, types.write(entity).encode())

    def item(self, id):
        return Item(self._connection, "%s/%s" % (self._path, id))

    disk_service = image_transfer_service = cluster_service = item


class SystemService:
    def __init__(self, connection):
        for name, path in {
            "data_centers": "datacenters", "storage_domains": "storagedomains", "hosts": "hosts",
            "disks": "disks", "image_transfers": "imagetransfers", "vms": "vms",
            "clusters": "clusters", "jobs": "jobs",
        }.items():
            collection = Collection(connection, "/" + path)
            setattr(self, name + "_service", lambda collection=collection: collection)
