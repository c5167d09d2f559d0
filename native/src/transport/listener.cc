#include "listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "../retry.h"
#include "endpoint.h"

namespace imageio::transport {

namespace {

// That of TCP grows by itself. The kernel grants what it may, usually 416 KiB.
constexpr int kUnixSendBuffer = 1024 * 1024;

// As core/http/server.ts: connections that may wait for accept(2).
constexpr int kBacklog = 511;

FileDescriptor Listen(const Endpoint& endpoint, const char** failed_call) {
  *failed_call = "socket";
  FileDescriptor socket = OpenSocket(endpoint.family());
  if (socket.get() == -1) return {};
  if (endpoint.family() != AF_UNIX) SetOption(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  // '::' is for IPv4, too, whatever the host's default is.
  if (endpoint.family() == AF_INET6) SetOption(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  *failed_call = "bind";
  if (bind(socket.get(), endpoint.get(), endpoint.size) == -1) return {};
  *failed_call = "listen";
  if (listen(socket.get(), kBacklog) == -1) return {};
  return socket;
}

}  // namespace

FileDescriptor ListenTcp(const std::string& address, uint16_t port, const char** failed_call) {
  const auto endpoint = TcpEndpoint(address, port);
  if (endpoint) return Listen(*endpoint, failed_call);
  *failed_call = "getaddrinfo";
  errno = EINVAL;
  return {};
}

FileDescriptor ListenUnix(const std::string& path, const char** failed_call) {
  const auto endpoint = UnixEndpoint(path);
  if (endpoint) return Listen(*endpoint, failed_call);
  *failed_call = "bind";
  errno = ENAMETOOLONG;
  return {};
}

FileDescriptor Listener::Accept(std::string* address) const {
  Endpoint peer;
  peer.size = sizeof(peer.address);
  FileDescriptor socket(RetryInterrupted([&] {
    return accept4(fd(), reinterpret_cast<sockaddr*>(&peer.address), &peer.size,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);
  }));
  address->clear();
  if (socket.get() == -1) return socket;
  if (peer.family() == AF_UNIX) {
    SetOption(socket.get(), SOL_SOCKET, SO_SNDBUF, kUnixSendBuffer);
    return socket;
  }
  SetOption(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  *address = AddressOf(peer);
  return socket;
}

}  // namespace imageio::transport
