#include "endpoint.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

namespace imageio::transport {

namespace {

constexpr int kKind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
// A host that lost its power closes no connection; the kernel's probes find out.
constexpr int kProbeSeconds = 10;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

}  // namespace

void SetOption(int fd, int level, int name, int value) {
  static_cast<void>(setsockopt(fd, level, name, &value, sizeof(value)));
}

std::optional<Endpoint> TcpEndpoint(const std::string& address, uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return {};
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  Endpoint endpoint;
  endpoint.size = list->ai_addrlen;
  std::memcpy(&endpoint.address, list->ai_addr, list->ai_addrlen);
  return endpoint;
}

std::optional<Endpoint> UnixEndpoint(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return {};
  std::memcpy(address.sun_path, path.data(), path.size());
  // An abstract name begins with NUL and has no NUL at its end.
  const size_t size = path.size() + (path.starts_with('\0') ? 0 : 1);
  Endpoint endpoint;
  endpoint.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  std::memcpy(&endpoint.address, &address, endpoint.size);
  return endpoint;
}

FileDescriptor OpenSocket(int family) { return FileDescriptor(socket(family, kKind, 0)); }

std::string AddressOf(const Endpoint& endpoint) {
  std::array<char, NI_MAXHOST> text{};
  if (endpoint.family() == AF_UNIX || getnameinfo(endpoint.get(), endpoint.size, text.data(),
                                                  text.size(), nullptr, 0, NI_NUMERICHOST) != 0) {
    return {};
  }
  return text.data();
}

uint16_t PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == -1) return 0;
  // Both families have it in the same place.
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

FileDescriptor StartConnecting(const Endpoint& endpoint) {
  FileDescriptor socket = OpenSocket(endpoint.family());
  if (socket.get() == -1) return {};
  if (endpoint.family() != AF_UNIX) {
    SetOption(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    SetOption(socket.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
    SetOption(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, kProbeSeconds);
  }
  // Interrupted by a signal it goes on all the same.
  const int result = connect(socket.get(), endpoint.get(), endpoint.size);
  if (result == 0 || errno == EINPROGRESS || errno == EINTR) return socket;
  const int error = errno;
  socket = FileDescriptor();
  errno = error;
  return {};
}

int ConnectError(int fd) {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1) return errno;
  if (error != 0) return error;
  Endpoint peer;
  peer.size = sizeof(peer.address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer.address), &peer.size) == 0) return 0;
  return errno == ENOTCONN ? EINPROGRESS : errno;
}

std::string AddressesOf(int fd) {
  Endpoint local;
  Endpoint peer;
  local.size = peer.size = sizeof(local.address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&local.address), &local.size) == -1 ||
      getpeername(fd, reinterpret_cast<sockaddr*>(&peer.address), &peer.size) == -1 ||
      peer.family() == AF_UNIX) {
    return {};
  }
  return AddressOf(local) + " " + AddressOf(peer);
}

}  // namespace imageio::transport
