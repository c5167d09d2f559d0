#include "listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

#include "../retry.h"

namespace imageio::transport {

namespace {

// As core/http/server.ts: connections that may wait for accept(2).
constexpr int kBacklog = 511;
constexpr int kKind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

void SetOption(int fd, int level, int name, int value) {
  static_cast<void>(setsockopt(fd, level, name, &value, sizeof(value)));
}

FileDescriptor Listen(FileDescriptor socket, const sockaddr* address, socklen_t size,
                      const char** failed_call) {
  *failed_call = "bind";
  if (bind(socket.get(), address, size) == -1) return {};
  *failed_call = "listen";
  if (listen(socket.get(), kBacklog) == -1) return {};
  return socket;
}

}  // namespace

FileDescriptor ListenTcp(const std::string& address, uint16_t port, const char** failed_call) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  *failed_call = "getaddrinfo";
  if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    errno = EINVAL;
    return {};
  }
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  *failed_call = "socket";
  FileDescriptor socket(::socket(list->ai_family, kKind, 0));
  if (socket.get() == -1) return {};
  SetOption(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  // '::' is for IPv4, too, whatever the host's default is.
  if (list->ai_family == AF_INET6) SetOption(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  return Listen(std::move(socket), list->ai_addr, list->ai_addrlen, failed_call);
}

FileDescriptor ListenUnix(const std::string& path, const char** failed_call) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  *failed_call = "bind";
  if (path.size() >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return {};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  // An abstract name begins with NUL and has no NUL at its end.
  const size_t size = path.size() + (path.starts_with('\0') ? 0 : 1);
  *failed_call = "socket";
  FileDescriptor socket(::socket(AF_UNIX, kKind, 0));
  if (socket.get() == -1) return {};
  return Listen(std::move(socket), reinterpret_cast<const sockaddr*>(&address),
                static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size), failed_call);
}

uint16_t PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == -1) return 0;
  // Both families have it in the same place.
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

FileDescriptor Listener::Accept(std::string* address) const {
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  FileDescriptor socket(RetryInterrupted([&] {
    return accept4(fd(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  }));
  address->clear();
  if (socket.get() == -1 || peer.ss_family == AF_UNIX) return socket;
  SetOption(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  std::array<char, NI_MAXHOST> text{};
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&peer), size, text.data(), text.size(), nullptr,
                  0, NI_NUMERICHOST) == 0) {
    *address = text.data();
  }
  return socket;
}

}  // namespace imageio::transport
