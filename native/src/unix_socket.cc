#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "arguments.h"
#include "file_descriptor.h"
#include "functions.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

std::vector<gid_t> PeerGroups(Napi::Env env, int fd) {
  std::vector<gid_t> groups(32);
  for (;;) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    const int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
    if (result == -1 && errno != ERANGE) ThrowFailure(env, {errno, "getsockopt(SO_PEERGROUPS)"});
    // After ERANGE too the kernel tells the size it needs.
    groups.resize(size / sizeof(gid_t));
    if (result == 0) return groups;
  }
}

struct Address {
  sockaddr_un name{};
  socklen_t size = 0;
};

// An abstract name is as long as the address says, NULs and all; a path ends at a NUL.
Address AddressOf(const Napi::CallbackInfo& info, std::string path) {
  const bool is_abstract = !path.empty() && (path[0] == '@' || path[0] == '\0');
  if (is_abstract) {
    path[0] = '\0';
  } else {
    path = PathArgument(info, 0, "path") + '\0';
  }
  Address address;
  if (path.size() > sizeof(address.name.sun_path)) {
    ThrowFailure(info.Env(), {ENAMETOOLONG, "sendto"});
  }
  address.name.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.name.sun_path);
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  return address;
}

}  // namespace

Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = DescriptorArgument(info, 0);
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == -1) {
    ThrowFailure(env, {errno, "getsockopt(SO_PEERCRED)"});
  }
  // Fails with ENODATA where there is no peer, which SO_PEERCRED alone does not tell.
  const std::vector<gid_t> groups = PeerGroups(env, fd);
  Napi::Array numbers = Napi::Array::New(env, groups.size());
  for (uint32_t i = 0; i < groups.size(); ++i) numbers[i] = groups[i];
  Napi::Object result = Napi::Object::New(env);
  result["pid"] = credentials.pid;
  result["uid"] = credentials.uid;
  result["gid"] = credentials.gid;
  result["groups"] = numbers;
  return result;
}

void SendDatagram(const Napi::CallbackInfo& info) {
  const Address address = AddressOf(info, StringArgument(info, 0, "path"));
  const std::string message = StringArgument(info, 1, "message");
  const FileDescriptor socket_fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (socket_fd.get() == -1) ThrowFailure(info.Env(), {errno, "socket"});
  const ssize_t sent = RetryInterrupted([&] {
    return sendto(socket_fd.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                  reinterpret_cast<const sockaddr*>(&address.name), address.size);
  });
  if (sent == -1) ThrowFailure(info.Env(), {errno, "sendto"});
}

}  // namespace imageio
