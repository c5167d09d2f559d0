#ifndef IMAGEIO_NATIVE_TRANSPORT_CHANNEL_H_
#define IMAGEIO_NATIVE_TRANSPORT_CHANNEL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "../file_descriptor.h"

namespace imageio::transport {

enum class IoStatus {
  kDone,
  kWantRead,   // nothing more until the socket can be read
  kWantWrite,  // nothing more until the socket can be written
  kEnd,        // the other end has ended its side
  kFailed,     // and error() tells why
};

// So many bytes have to be there before the socket counts as readable.
void SetLowMark(int fd, size_t size);

// A socket on the network, plain or with TLS. Never blocks. Used by one thread at a time; only
// the counts are for all.
class Channel {
 public:
  explicit Channel(FileDescriptor socket) : socket_(std::move(socket)) {}
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // kDone when both sides may be used.
  virtual IoStatus Handshake() { return IoStatus::kDone; }

  // Reads until `size` bytes are there; any other status but kDone may come with fewer in `done`.
  virtual IoStatus Read(uint8_t* data, size_t size, size_t* done) = 0;

  // Takes bytes over until all are taken. What was taken may still wait for Flush().
  virtual IoStatus Write(const uint8_t* data, size_t size, size_t* done) = 0;

  // kDone when everything that was taken over is with the kernel.
  virtual IoStatus Flush() { return IoStatus::kDone; }

  // Ends our side, after Flush().
  virtual void EndWriting() = 0;

  // Whether there are bytes to read that epoll does not know of.
  virtual bool HasUnread() const { return false; }

  virtual bool HasIdleMemory() const { return false; }
  virtual void Trim() {}

  int fd() const { return socket_.get(); }
  FileDescriptor Release() { return std::move(socket_); }

  // Why something failed: an errno, and for TLS what OpenSSL says.
  int error() const { return error_; }
  const std::string& reason() const { return reason_; }

  // The handshake failed since the peer's certificate is not to be trusted, for that reason.
  bool is_distrusted() const { return is_distrusted_; }

  // Bytes that were read, of TLS without what it needs for itself: that says nothing of a peer that
  // has something to send.
  uint64_t received() const { return received_.load(std::memory_order_relaxed); }
  // Bytes that the kernel took.
  uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }

 protected:
  IoStatus Receive(uint8_t* data, size_t size, size_t* done);
  IoStatus Send(const uint8_t* data, size_t size, size_t* done);
  void ShutDownWriting();
  void CountReceived(size_t size) { received_.fetch_add(size, std::memory_order_relaxed); }

  int error_ = 0;
  std::string reason_;
  bool is_distrusted_ = false;

 private:
  FileDescriptor socket_;
  std::atomic<uint64_t> received_{0};
  std::atomic<uint64_t> sent_{0};
};

class PlainChannel final : public Channel {
 public:
  using Channel::Channel;
  IoStatus Read(uint8_t* data, size_t size, size_t* done) override;
  IoStatus Write(const uint8_t* data, size_t size, size_t* done) override;
  void EndWriting() override { ShutDownWriting(); }
};

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_CHANNEL_H_
