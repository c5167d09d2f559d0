#include "channel.h"

#include <sys/socket.h>

#include <cerrno>

#include "../retry.h"

namespace imageio::transport {

void SetLowMark(int fd, size_t size) {
  const int mark = static_cast<int>(size);
  static_cast<void>(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark)));
}

IoStatus Channel::Receive(uint8_t* data, size_t size, size_t* done) {
  *done = 0;
  const ssize_t got = RetryInterrupted([&] { return recv(fd(), data, size, 0); });
  // What came before a failure can still be read. The kernel tells of that once, and then pretends
  // that the other end has ended in order.
  if (got <= 0 && error_ != 0) return IoStatus::kFailed;
  if (got == 0) return IoStatus::kEnd;
  if (got == -1) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return IoStatus::kWantRead;
    error_ = errno;
    return IoStatus::kFailed;
  }
  *done = static_cast<size_t>(got);
  return IoStatus::kDone;
}

IoStatus Channel::Send(const uint8_t* data, size_t size, size_t* done) {
  *done = 0;
  if (error_ != 0) return IoStatus::kFailed;
  const ssize_t put = RetryInterrupted([&] { return send(fd(), data, size, MSG_NOSIGNAL); });
  if (put == -1) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return IoStatus::kWantWrite;
    error_ = errno;
    return IoStatus::kFailed;
  }
  *done = static_cast<size_t>(put);
  sent_.fetch_add(*done, std::memory_order_relaxed);
  return IoStatus::kDone;
}

// Fails when the connection is gone, which the next read tells.
void Channel::ShutDownWriting() { static_cast<void>(shutdown(fd(), SHUT_WR)); }

IoStatus PlainChannel::Read(uint8_t* data, size_t size, size_t* done) {
  *done = 0;
  while (*done < size) {
    size_t got = 0;
    const IoStatus status = Receive(data + *done, size - *done, &got);
    if (status != IoStatus::kDone) return status;
    *done += got;
    CountReceived(got);
  }
  return IoStatus::kDone;
}

IoStatus PlainChannel::Write(const uint8_t* data, size_t size, size_t* done) {
  *done = 0;
  while (*done < size) {
    size_t put = 0;
    const IoStatus status = Send(data + *done, size - *done, &put);
    if (status != IoStatus::kDone) return status;
    *done += put;
  }
  return IoStatus::kDone;
}

}  // namespace imageio::transport
