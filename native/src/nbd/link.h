#ifndef IMAGEIO_NATIVE_NBD_LINK_H_
#define IMAGEIO_NATIVE_NBD_LINK_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <vector>

#include "../file_descriptor.h"
#include "../transport/poller.h"
#include "event.h"
#include "pending_read.h"
#include "reply_stream.h"

namespace imageio::nbd {

// A link is armed, and gets its turns, for each direction apart.
enum class Side : uint64_t { kReceive = 0, kSend = 1 };

// How a link reaches those who drive it.
class LinkHost {
 public:
  virtual ~LinkHost() = default;
  virtual void Post(Event event) = 0;
  // One more turn, behind others that wait for theirs.
  virtual void Enqueue(uint64_t link, Side side) = 0;
  // A turn when the descriptor can be read, or written.
  virtual void Arm(int fd, transport::Watch& watch, uint64_t link, Side side) = 0;
};

// A request on its way. The payload is the caller's, until kSent.
struct Outgoing {
  static constexpr size_t kMaxHeader = 64;
  std::array<uint8_t, kMaxHeader> header{};
  size_t header_size = 0;
  std::span<const uint8_t> payload;
  uint32_t cookie = 0;
  bool wants_sent = false;
};

// The connection to an export in transmission. One thread at a time receives, one sends; replies
// and requests do not wait for each other.
class Link final : public ReplySink {
 public:
  Link(LinkHost& host, uint64_t id, FileDescriptor socket, FileDescriptor twin, ReplyFormat format);

  // From JavaScript's thread. A read is expected before its request is sent.
  void Expect(uint32_t cookie, PendingRead read);
  void Send(const Outgoing& request);
  // So much of what was told by kBytes has been taken.
  void Took(size_t size);
  // Closes the connection. When it returns nobody's memory is touched any more, and what is told
  // of the link from now on is late.
  void Cut();

  // From threads of the host: a turn; `is_ready` when the descriptor told so.
  void Run(Side side, bool is_ready);

  // As the sink of its own stream.
  void Finished(uint32_t cookie) override;
  void Bytes(std::span<const uint8_t> bytes) override;
  void Broken(const char* violation) override;

 private:
  static constexpr size_t kScratch = 4096;
  static constexpr size_t kBatch = 8;

  void GiveUp();
  void Receive(bool is_ready);
  // What a turn came to: whether there may be more, and whether it is over.
  enum class Got { kMore, kDrained, kEnd };
  Got ReceiveSome(size_t* budget);
  void TellBytes();
  void TellLost(int error);
  void Deliver(bool is_ready);
  size_t Gather(std::array<Outgoing*, kBatch>* batch);
  // False when the kernel takes no more now.
  bool SendSome(std::span<Outgoing* const> batch, size_t* budget);
  void Sent(size_t size);
  void Tell(EventKind kind, uint32_t value);

  LinkHost& host_;
  const uint64_t id_;

  std::mutex receiving_;
  FileDescriptor socket_;
  transport::Watch receive_watch_;
  PendingReads reads_;
  ReplyStream stream_;
  std::array<uint8_t, kScratch> scratch_{};
  std::vector<uint8_t> bytes_;
  bool is_over_ = false;

  std::mutex sending_;
  FileDescriptor
      twin_;  // of socket_: epoll knows a descriptor once, and this one is armed for writing
  transport::Watch send_watch_;
  size_t front_done_ = 0;  // bytes of the first request in the queue

  std::mutex queue_mutex_;
  std::deque<Outgoing> queue_;
  bool is_sending_ = false;  // somebody will look at the queue

  std::atomic<size_t> untaken_{0};
  std::atomic<int> send_error_{0};
};

}  // namespace imageio::nbd

#endif  // IMAGEIO_NATIVE_NBD_LINK_H_
