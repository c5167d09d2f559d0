#ifndef IMAGEIO_NATIVE_TRANSPORT_ENDPOINT_H_
#define IMAGEIO_NATIVE_TRANSPORT_ENDPOINT_H_

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include "../file_descriptor.h"

namespace imageio::transport {

// Where a socket is bound to, or leads to.
struct Endpoint {
  sockaddr_storage address{};
  socklen_t size = 0;

  int family() const { return address.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

// Nothing when the address is none: names are not looked up.
std::optional<Endpoint> TcpEndpoint(const std::string& address, uint16_t port);
// Nothing when the name is too long. An abstract one begins with NUL.
std::optional<Endpoint> UnixEndpoint(const std::string& path);

// A socket that does not block, or -1 and errno.
FileDescriptor OpenSocket(int family);

// As setsockopt(2); of what is not necessary, a failure does not matter.
void SetOption(int fd, int level, int name, int value);

// The address alone, without the port; empty for a Unix socket.
std::string AddressOf(const Endpoint& endpoint);

// The port a TCP socket is bound to.
uint16_t PortOf(int fd);

// Begins to connect: -1 and errno when that fails at once.
FileDescriptor StartConnecting(const Endpoint& endpoint);
// 0 when it is connected, EINPROGRESS while it is not, or why it will not be.
int ConnectError(int fd);
// Both addresses of a connection with a blank between, empty for a Unix socket.
std::string AddressesOf(int fd);

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_ENDPOINT_H_
