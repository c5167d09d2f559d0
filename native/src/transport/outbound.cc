// What goes from the owner, and by orders to write, to the peer.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "../retry.h"
#include "connection.h"

namespace imageio::transport {

bool Connection::MoveOut() {
  bool has_moved = TakeFromOwner();
  has_moved = GiveToPeer() || has_moved;
  return (state_ == State::kOpen && ServeWrite()) || has_moved;
}

bool Connection::TakeFromOwner() {
  if (has_owner_ended_) return false;
  size_t limit = kRelayBuffer;
  if (write_) {
    const uint64_t taken = forwarded_ + out_.size();
    if (taken > write_->after) {
      AnswerWrite(EINVAL);
    } else {
      limit = static_cast<size_t>(std::min<uint64_t>(limit, write_->after - taken));
    }
  }
  const auto room = out_.room() == 0 ? std::span<uint8_t>() : out_.Room();
  limit = std::min(limit, room.size());
  if (limit == 0) return false;
  const ssize_t got = RetryInterrupted([&] { return recv(owner_.get(), room.data(), limit, 0); });
  if (got == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    wants_owner_read_ = true;
    return false;
  }
  if (got > 0) out_.Added(static_cast<size_t>(got));
  if (got > 0) heads_ahead_ = 0;
  // It asks to have a body withheld before it writes the request.
  if (got > 0 && is_dialed()) TakeMail();
  if (got > 0) return true;
  // ECONNRESET: it has gone, and left something unread.
  has_owner_ended_ = true;
  if (write_) AnswerWrite(ECONNRESET);
  return true;
}

bool Connection::GiveToPeer() {
  if (out_.empty()) return false;
  size_t done = out_.size();
  IoStatus status = IoStatus::kDone;
  if (!is_peer_deaf_) status = channel_->Write(out_.data().data(), out_.size(), &done);
  out_.Taken(done);
  forwarded_ += done;
  Spend(done);
  NoteSent(status);
  return done > 0 || status == IoStatus::kFailed;
}

bool Connection::ServeWrite() {
  if (!write_ || !out_.empty() || forwarded_ != write_->after) return false;
  if (is_peer_deaf_) return AnswerWrite(EPIPE), true;
  size_t done = 0;
  const IoStatus status =
      channel_->Write(write_->data + write_done_, write_->size - write_done_, &done);
  write_done_ += done;
  Spend(done);
  NoteSent(status);
  if (write_ && write_done_ == write_->size) AnswerWrite(0);
  return done > 0;
}

void Connection::FinishOut() {
  const IoStatus status = is_peer_deaf_ ? IoStatus::kDone : channel_->Flush();
  NoteSent(status);
  if (state_ != State::kOpen) return;
  if (has_owner_ended_ && !has_ended_peer_ && out_.empty() && status == IoStatus::kDone) {
    channel_->EndWriting();
    has_ended_peer_ = true;
    is_discarding_ = true;
    while (Discard()) {
    }
    if (state_ != State::kOpen) return;
  }
  if (has_ended_peer_ && (has_owner_hung_up_ || has_peer_ended_)) Close();
}

}  // namespace imageio::transport
