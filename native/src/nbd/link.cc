#include "link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <utility>

#include "../retry.h"

namespace imageio::nbd {

namespace {

// Bytes a turn may move: others wait for theirs, and Cut() for the end of this one.
constexpr size_t kBudget = size_t{1024} * 1024;
// Of replies for JavaScript that it has not looked at yet: a server must not fill the memory.
constexpr size_t kMaxUntaken = size_t{256} * 1024;
// The kernel's for what is sent, as far as it allows: each time it is full costs two threads a
// switch. For what is received it is the server's to choose.
constexpr int kSendBuffer = 1024 * 1024;

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK; }

// That of TCP grows by itself, and further, unless somebody sets it.
void EnlargeSendBuffer(int fd) {
  int domain = 0;
  socklen_t size = sizeof(domain);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == -1 || domain != AF_UNIX) return;
  static_cast<void>(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof(kSendBuffer)));
}

}  // namespace

Link::Link(LinkHost& host, uint64_t id, FileDescriptor socket, FileDescriptor twin,
           ReplyFormat format)
    : host_(host),
      id_(id),
      socket_(std::move(socket)),
      stream_(format, reads_, *this),
      twin_(std::move(twin)) {
  EnlargeSendBuffer(socket_.get());
}

void Link::Expect(uint32_t cookie, PendingRead read) { reads_.Add(cookie, std::move(read)); }

void Link::Send(const Outgoing& request) {
  {
    const std::scoped_lock lock(queue_mutex_);
    queue_.push_back(request);
    if (std::exchange(is_sending_, true)) return;
  }
  // A header alone is sent sooner than another thread wakes.
  if (request.payload.empty()) {
    Run(Side::kSend, false);
  } else {
    host_.Enqueue(id_, Side::kSend);
  }
}

void Link::Took(size_t size) {
  const size_t before = untaken_.fetch_sub(size);
  if (before >= kMaxUntaken && before - size < kMaxUntaken) host_.Enqueue(id_, Side::kReceive);
}

void Link::Cut() {
  // Who sends or receives ends its turn first.
  const std::scoped_lock lock(receiving_, sending_);
  is_over_ = true;
  reads_.Clear();
  {
    const std::scoped_lock queue_lock(queue_mutex_);
    queue_.clear();
    is_sending_ = true;
  }
  socket_ = FileDescriptor();
  twin_ = FileDescriptor();
}

void Link::Run(Side side, bool is_ready) {
  try {
    if (side == Side::kReceive) {
      Receive(is_ready);
    } else {
      Deliver(is_ready);
    }
  } catch (const std::exception&) {
    GiveUp();
  }
}

// No memory, or no room in the kernel: the end of this connection and of nothing else.
void Link::GiveUp() {
  const std::scoped_lock lock(receiving_);
  if (!is_over_) TellLost(ENOMEM);
}

// --- what comes ---

void Link::Receive(bool is_ready) {
  const std::scoped_lock lock(receiving_);
  if (is_ready) receive_watch_.Fired();
  size_t budget = kBudget;
  Got got = Got::kMore;
  while (!is_over_ && got == Got::kMore && budget > 0) got = ReceiveSome(&budget);
  TellBytes();
  if (got == Got::kEnd || is_over_) return;
  if (untaken_.load() >= kMaxUntaken) return;  // Took() goes on
  host_.Arm(socket_.get(), receive_watch_, id_, Side::kReceive);
}

Link::Got Link::ReceiveSome(size_t* budget) {
  const auto target = stream_.direct().first(std::min(stream_.direct().size(), *budget));
  // The head behind the data comes in the same call.
  const bool is_whole = target.size() == stream_.direct().size();
  std::array<iovec, 2> parts{iovec{.iov_base = target.data(), .iov_len = target.size()},
                             iovec{.iov_base = scratch_.data(), .iov_len = kScratch}};
  msghdr message{};
  message.msg_iov = target.empty() ? parts.data() + 1 : parts.data();
  message.msg_iovlen = target.empty() || !is_whole ? 1 : 2;
  const ssize_t result =
      RetryInterrupted([&] { return recvmsg(socket_.get(), &message, MSG_DONTWAIT); });
  if (result == -1 && WouldBlock()) {
    if (send_error_.load() != 0) return TellLost(send_error_.load()), Got::kEnd;
    return Got::kDrained;
  }
  if (result <= 0) return TellLost(result == 0 ? 0 : errno), Got::kEnd;
  const auto size = static_cast<size_t>(result);
  const size_t placed = std::min(size, target.size());
  if (placed > 0) stream_.Filled(placed);
  if (!is_over_) stream_.Feed(std::span(scratch_).first(size - placed));
  *budget -= std::min(*budget, size);
  if (is_over_) return Got::kEnd;
  // Less than there was room for: the rest has not come yet.
  const size_t room = target.size() + (message.msg_iovlen == 2 || target.empty() ? kScratch : 0);
  return size < room && send_error_.load() == 0 ? Got::kDrained : Got::kMore;
}

void Link::Finished(uint32_t cookie) {
  TellBytes();
  Tell(EventKind::kFinished, cookie);
}

void Link::Bytes(std::span<const uint8_t> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void Link::Broken(const char* violation) {
  TellBytes();
  is_over_ = true;
  Event event;
  event.kind = EventKind::kBroken;
  event.link = id_;
  event.text = violation;
  host_.Post(std::move(event));
}

void Link::TellBytes() {
  if (bytes_.empty()) return;
  untaken_.fetch_add(bytes_.size());
  Event event;
  event.kind = EventKind::kBytes;
  event.link = id_;
  event.bytes = std::exchange(bytes_, {});
  host_.Post(std::move(event));
}

void Link::TellLost(int error) {
  TellBytes();
  is_over_ = true;
  Tell(EventKind::kLost, static_cast<uint32_t>(error));
}

// --- what goes ---

void Link::Deliver(bool is_ready) {
  const std::scoped_lock lock(sending_);
  if (is_ready) send_watch_.Fired();
  size_t budget = kBudget;
  while (twin_.get() != -1) {
    std::array<Outgoing*, kBatch> batch{};
    const size_t count = Gather(&batch);
    if (count == 0) return;
    if (budget == 0) return host_.Enqueue(id_, Side::kSend);
    if (!SendSome(std::span(batch).first(count), &budget)) return;
  }
}

size_t Link::Gather(std::array<Outgoing*, kBatch>* batch) {
  const std::scoped_lock lock(queue_mutex_);
  const size_t count = std::min(queue_.size(), batch->size());
  for (size_t index = 0; index < count; index++) (*batch)[index] = &queue_[index];
  if (count == 0) is_sending_ = false;
  return count;
}

bool Link::SendSome(std::span<Outgoing* const> batch, size_t* budget) {
  std::array<iovec, 2 * kBatch> parts{};
  size_t used = 0;
  size_t skip = front_done_;
  const auto add = [&parts, &used, &skip](std::span<const uint8_t> bytes) {
    const auto rest = bytes.subspan(std::min(skip, bytes.size()));
    skip -= bytes.size() - rest.size();
    if (rest.empty()) return;
    parts[used++] = {.iov_base = const_cast<uint8_t*>(rest.data()), .iov_len = rest.size()};
  };
  for (const Outgoing* request : batch) {
    add(std::span(request->header).first(request->header_size));
    add(request->payload);
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = used;
  const ssize_t put =
      RetryInterrupted([&] { return sendmsg(twin_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
  if (put == -1 && WouldBlock()) {
    host_.Arm(twin_.get(), send_watch_, id_, Side::kSend);
    return false;
  }
  if (put == -1) {
    // Acknowledgements that have come are told before the loss is.
    send_error_.store(errno);
    host_.Enqueue(id_, Side::kReceive);
    return false;
  }
  Sent(static_cast<size_t>(put));
  *budget -= std::min(*budget, static_cast<size_t>(put));
  return true;
}

void Link::Sent(size_t size) {
  front_done_ += size;
  for (;;) {
    uint32_t cookie = 0;
    bool wants_sent = false;
    {
      const std::scoped_lock lock(queue_mutex_);
      if (queue_.empty()) return;
      const Outgoing& front = queue_.front();
      const size_t whole = front.header_size + front.payload.size();
      if (front_done_ < whole) return;
      front_done_ -= whole;
      cookie = front.cookie;
      wants_sent = front.wants_sent;
      queue_.pop_front();
    }
    if (wants_sent) Tell(EventKind::kSent, cookie);
  }
}

void Link::Tell(EventKind kind, uint32_t value) {
  Event event;
  event.kind = kind;
  event.link = id_;
  event.value = value;
  host_.Post(std::move(event));
}

}  // namespace imageio::nbd
