#ifndef IMAGEIO_NATIVE_TRANSPORT_LISTENER_H_
#define IMAGEIO_NATIVE_TRANSPORT_LISTENER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "../file_descriptor.h"
#include "poller.h"
#include "tls_channel.h"

namespace imageio::transport {

// A listening socket, or -1 and errno with the call that failed.
FileDescriptor ListenTcp(const std::string& address, uint16_t port, const char** failed_call);
FileDescriptor ListenUnix(const std::string& path, const char** failed_call);

// Where connections come from. Its watch belongs to the thread that has its event.
class Listener {
 public:
  Listener(uint64_t id, FileDescriptor socket, std::chrono::milliseconds handshake_timeout)
      : id_(id), socket_(std::move(socket)), handshake_timeout_(handshake_timeout) {}

  uint64_t id() const { return id_; }
  int fd() const { return socket_.get(); }
  std::chrono::milliseconds handshake_timeout() const { return handshake_timeout_; }
  Watch& watch() { return watch_; }

  // For connections from now on.
  void SetTls(std::shared_ptr<TlsContext> tls) {
    const std::scoped_lock lock(mutex_);
    tls_ = std::move(tls);
  }
  std::shared_ptr<TlsContext> tls() {
    const std::scoped_lock lock(mutex_);
    return tls_;
  }

  // The next connection and its address, empty for a Unix socket. -1 and errno when there is none.
  FileDescriptor Accept(std::string* address) const;

 private:
  const uint64_t id_;
  const FileDescriptor socket_;
  const std::chrono::milliseconds handshake_timeout_;
  Watch watch_;
  std::mutex mutex_;
  std::shared_ptr<TlsContext> tls_;
};

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_LISTENER_H_
