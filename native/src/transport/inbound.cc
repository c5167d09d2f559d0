// What comes from the peer, for the owner and for orders to read.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "../retry.h"
#include "connection.h"
#include "head_parser.h"

namespace imageio::transport {

namespace {

// Less is not worth its orders.
constexpr int64_t kMinWithheld = int64_t{64} * 1024;
// Far from the limit, so that the exchanged field does not carry a head over it.
constexpr size_t kMaxWithheldHead = size_t{8} * 1024;
// As core/http/linger.ts.
constexpr size_t kMaxDiscarded = size_t{1024} * 1024;
// Requests that the server gets before it has answered any. It parses all that it gets at once, and
// ends a connection with fewer (core/http/connection.ts); 64 KiB may be thousands.
constexpr unsigned kMaxHeadsAhead = 256;

std::string_view TextOf(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

bool Connection::MoveIn() {
  if (is_discarding_) return Discard();
  bool has_moved = ServeRead();
  if (state_ != State::kOpen) return true;
  has_moved = Approve() || has_moved;
  has_moved = GiveToOwner() || has_moved;
  has_moved = TakeFromPeer() || has_moved;
  if (state_ == State::kOpen) PassEnd();
  return has_moved;
}

bool Connection::Approve() {
  bool has_approved = false;
  while (inbound_ != Inbound::kWithheld && head_.empty() && approved_ < in_.size()) {
    const std::string_view bytes = TextOf(in_.data().subspan(approved_));
    if (inbound_ == Inbound::kPassThrough) {
      approved_ = in_.size();
      return true;
    }
    if (inbound_ == Inbound::kHead) {
      if (!ApproveHead(bytes)) break;
    } else {
      const int64_t size = std::min(static_cast<int64_t>(bytes.size()), body_left_);
      approved_ += static_cast<size_t>(size);
      body_left_ -= size;
      if (body_left_ == 0) inbound_ = Inbound::kHead;
    }
    has_approved = true;
  }
  return has_approved;
}

bool Connection::ApproveHead(std::string_view bytes) {
  if (heads_ahead_ >= kMaxHeadsAhead) return false;  // until there is an answer
  return is_dialed() ? ApproveResponse(bytes) : ApproveRequest(bytes);
}

// Whether more of the head is to come.
bool Connection::IsAwaited(HeadVerdict verdict) {
  if (verdict == HeadVerdict::kIncomplete) {
    if (head_since_ == Clock::time_point{}) head_since_ = now_;
    if (!has_peer_ended_ && now_ < head_since_ + kHeadPatience) return true;
  }
  head_since_ = {};
  return false;
}

bool Connection::ApproveRequest(std::string_view bytes) {
  Head head;
  const HeadVerdict verdict = ParseHead(bytes, &head);
  if (IsAwaited(verdict)) return false;
  if (verdict != HeadVerdict::kPlain) {
    inbound_ = Inbound::kPassThrough;
    return true;
  }
  const bool withholds =
      head.is_upload && head.length.value >= kMinWithheld && head.size <= kMaxWithheldHead;
  if (withholds && approved_ > 0) return false;  // when what is before it has gone
  heads_ahead_++;
  if (withholds) {
    Withhold(WithholdBody(bytes, head, NextToken()), head.size, head.length.value);
    return true;
  }
  approved_ += head.size;
  body_left_ = head.length.value;
  if (body_left_ > 0) inbound_ = Inbound::kBody;
  return true;
}

// What is not withheld is the owner's until it asks for the next one.
bool Connection::ApproveResponse(std::string_view bytes) {
  ResponseHead head;
  const HeadVerdict verdict = ParseResponseHead(bytes, &head);
  if (IsAwaited(verdict)) return false;
  const bool withholds = verdict == HeadVerdict::kPlain && head.length.value >= kMinWithheld &&
                         head.size <= kMaxWithheldHead;
  if (withholds && approved_ > 0) return false;  // when what is before it has gone
  if (withholds) {
    Withhold(WithholdBody(bytes, head, NextToken()), head.size, head.length.value);
  } else if (verdict == HeadVerdict::kPlain && head.is_interim) {
    approved_ += head.size;
  } else {
    inbound_ = Inbound::kPassThrough;
  }
  return true;
}

std::string Connection::NextToken() { return host_.token() + "." + std::to_string(++request_); }

void Connection::Withhold(std::string head, size_t size, int64_t length) {
  head_ = std::move(head);
  in_.Taken(size);
  body_left_ = length;
  inbound_ = Inbound::kWithheld;
}

bool Connection::GiveToOwner() {
  bool has_given = false;
  while (!head_.empty() || approved_ > 0) {
    const auto bytes = in_.data().first(approved_);
    const void* data = head_.empty() ? static_cast<const void*>(bytes.data()) : head_.data();
    const size_t size = head_.empty() ? bytes.size() : head_.size();
    const ssize_t put = is_owner_deaf_ ? static_cast<ssize_t>(size) : RetryInterrupted([&] {
      return send(owner_.get(), data, size, MSG_NOSIGNAL);
    });
    if (put == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      wants_owner_write_ = true;
      break;
    }
    if (put == -1) {
      is_owner_deaf_ = true;
      continue;
    }
    const auto given = static_cast<size_t>(put);
    given_ += given;
    if (head_.empty()) {
      in_.Taken(given);
      approved_ -= given;
    } else {
      head_.erase(0, given);
    }
    Spend(given);
    has_given = true;
  }
  return has_given;
}

bool Connection::TakeFromPeer() {
  if (inbound_ == Inbound::kWithheld || has_peer_ended_ || in_.room() == 0) return false;
  const auto room = in_.Room();
  if (room.empty()) return false;
  size_t done = 0;
  const IoStatus status = channel_->Read(room.data(), room.size(), &done);
  in_.Added(done);
  if (status == IoStatus::kEnd) has_peer_ended_ = true;
  if (status == IoStatus::kFailed && done > 0) {
    // The owner gets what came before; the failure comes again.
    return true;
  }
  Note(status);
  return done > 0 || status == IoStatus::kEnd;
}

bool Connection::ServeRead() {
  if (!HasRead()) return false;
  if (inbound_ != Inbound::kWithheld || read_->request != request_) {
    AnswerRead(ECANCELED);
    return true;
  }
  const auto wanted = [this] {
    return std::min(read_->size - read_done_, static_cast<size_t>(body_left_));
  };
  const auto take = [this](size_t size) {
    read_done_ += size;
    body_left_ -= static_cast<int64_t>(size);
    Spend(size);
  };
  const size_t ahead = std::min(wanted(), in_.size());
  std::copy_n(in_.data().data(), ahead, read_->data + read_done_);
  in_.Taken(ahead);
  take(ahead);
  size_t done = 0;
  IoStatus status = IoStatus::kDone;
  if (wanted() > 0 && !has_peer_ended_) {
    status = channel_->Read(read_->data + read_done_, wanted(), &done);
    take(done);
  }
  if (status == IoStatus::kEnd) has_peer_ended_ = true;
  const bool is_over = wanted() == 0 || has_peer_ended_ || status == IoStatus::kFailed;
  if (is_over) AnswerRead(status == IoStatus::kFailed ? ECONNRESET : 0);
  if (read_ && read_->number <= canceled_reads_) AnswerRead(ECANCELED);
  if (read_ && read_->lingers && read_done_ > 0 && now_ >= read_since_ + kLinger) AnswerRead(0);
  if (body_left_ == 0) inbound_ = is_dialed() ? Inbound::kPassThrough : Inbound::kHead;
  if (status == IoStatus::kFailed && body_left_ == 0) return true;  // it comes again
  Note(status);
  return !read_ || ahead + done > 0;
}

bool Connection::Discard() {
  while (HasRead()) AnswerRead(ECANCELED);
  head_.clear();
  approved_ = 0;
  in_.Clear();
  if (has_peer_ended_) {
    PassEnd();
    return false;
  }
  // Who sends more has to wait, and can read the answer meanwhile; the owner ends it in two
  // seconds.
  if (discarded_ > kMaxDiscarded) return false;
  const auto room = in_.Room();
  size_t done = 0;
  const IoStatus status = channel_->Read(room.data(), room.size(), &done);
  discarded_ += done;
  Spend(done);
  if (status == IoStatus::kEnd) has_peer_ended_ = true;
  Note(status);
  if (state_ == State::kOpen) PassEnd();
  return status == IoStatus::kDone && state_ == State::kOpen;
}

void Connection::PassEnd() {
  if (!has_peer_ended_ || has_passed_end_ || !head_.empty() || !in_.empty()) return;
  has_passed_end_ = true;
  static_cast<void>(shutdown(owner_.get(), SHUT_WR));
}

}  // namespace imageio::transport
