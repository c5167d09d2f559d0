// The life of a connection: turns, orders, answers and the end. How it begins is in opening.cc,
// what it moves in inbound.cc and outbound.cc.
#include "connection.h"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <string_view>
#include <utility>

namespace imageio::transport {

namespace {

using std::chrono::milliseconds;

constexpr std::string_view kReset = "ECONNRESET";

// Bytes a turn may move; then it is others' turn.
constexpr size_t kBudget = size_t{2} * 1024 * 1024;
// What an owner left behind that has gone may wait so long for a peer that takes nothing.
constexpr milliseconds kRestPatience{30'000};
constexpr milliseconds kIdle{1000};
constexpr size_t kMaxOpenReads = 2;
// Of a large body so much is waited for, but not long: a slow peer's bytes count, too.
constexpr int64_t kBatch = int64_t{192} * 1024;
constexpr int64_t kMaxUnseen = int64_t{64} * 1024;
constexpr milliseconds kBatchPatience{200};

}  // namespace

Connection::Connection(ConnectionHost& host, ConnectionOptions options, FileDescriptor socket)
    : host_(host),
      options_(std::move(options)),
      socket_(std::move(socket)),
      in_(kRelayBuffer),
      out_(kRelayBuffer) {
  if (!is_dialed()) return;
  state_ = State::kDialing;
  inbound_ = Inbound::kPassThrough;
}

Connection::~Connection() = default;

void Connection::Run(uint32_t happened) {
  happened_.fetch_or(happened, std::memory_order_acq_rel);
  if (turns_.fetch_add(1, std::memory_order_acq_rel) != 0) return;
  uint32_t seen = 1;
  for (;;) {
    try {
      Drive(happened_.exchange(0, std::memory_order_acq_rel));
    } catch (const std::exception&) {
      Close();  // no memory, or no room in the kernel: this connection's end and nobody else's
    }
    uint32_t expected = seen;
    if (turns_.compare_exchange_strong(expected, 0, std::memory_order_acq_rel)) return;
    seen = expected;
  }
}

bool Connection::IsDue(Clock::time_point now) const {
  const int64_t due = due_.load(std::memory_order_relaxed);
  return due != 0 && now.time_since_epoch().count() >= due;
}

void Connection::Admit() {
  const std::scoped_lock lock(mail_mutex_);
  mail_.is_admitted = true;
}

void Connection::Cut() {
  const std::scoped_lock lock(mail_mutex_);
  mail_.is_cut = true;
}

bool Connection::Read(ReadOrder order) {
  const std::scoped_lock lock(mail_mutex_);
  if (!takes_mail_ || mail_.open_reads.size() == kMaxOpenReads) return false;
  order.number = ++mail_.reads;
  mail_.open_reads.push_back(order);
  return true;
}

bool Connection::Write(const WriteOrder& order) {
  const std::scoped_lock lock(mail_mutex_);
  if (!takes_mail_ || mail_.write) return false;
  mail_.write = order;
  return true;
}

void Connection::CancelRead() {
  const std::scoped_lock lock(mail_mutex_);
  mail_.canceled_reads = mail_.reads;
}

bool Connection::WithholdNext(uint64_t after) {
  const std::scoped_lock lock(mail_mutex_);
  if (!takes_mail_ || !is_dialed()) return false;
  mail_.withhold_after = after;
  return true;
}

void Connection::TakeMail() {
  const std::scoped_lock lock(mail_mutex_);
  is_admitted_ = is_admitted_ || mail_.is_admitted;
  is_cut_ = is_cut_ || mail_.is_cut;
  if (!read_ && !mail_.open_reads.empty()) {
    read_ = mail_.open_reads.front();
    mail_.open_reads.pop_front();
    read_done_ = 0;
    read_since_ = now_;
  }
  if (!write_ && mail_.write) {
    write_ = std::exchange(mail_.write, std::nullopt);
    write_done_ = 0;
  }
  if (mail_.withhold_after) {
    const uint64_t after = *std::exchange(mail_.withhold_after, std::nullopt);
    // Bytes that the owner has not seen yet are not what it asks for.
    if (inbound_ == Inbound::kPassThrough && in_.empty() && after == given_) {
      inbound_ = Inbound::kHead;
    }
  }
  // They are answered when what is there already was taken, see ServeRead().
  canceled_reads_ = mail_.canceled_reads;
}

// Whether there is a read to serve, be it that the next was ordered meanwhile.
bool Connection::HasRead() {
  if (!read_) TakeMail();
  return read_.has_value();
}

void Connection::Drive(uint32_t happened) {
  if (state_ == State::kClosed) return;
  if ((happened & kPeer) != 0) peer_watch_.Fired();
  if ((happened & kOwner) != 0) owner_watch_.Fired();
  if ((happened & kPeerTrouble) != 0) is_peer_in_trouble_ = true;
  if ((happened & kOwnerTrouble) != 0 && !has_owner_hung_up_) {
    has_owner_hung_up_ = true;
    host_.poller().Remove(owner_.get(), owner_watch_);
  }
  wants_peer_read_ = wants_peer_write_ = wants_owner_read_ = wants_owner_write_ = false;
  budget_ = kBudget;
  now_ = Clock::now();
  TakeMail();
  if (is_cut_ || (state_ != State::kDialing && IsOver())) return Close();
  if (state_ == State::kLost && has_owner_hung_up_) return Close();
  Advance();
  // A client that was reset is read to its end by who wants its bytes; who does not may ask.
  const bool has_left = !is_dialed() && is_peer_in_trouble_;
  if (has_peer_ended_ || has_left) has_ended_.store(true, std::memory_order_relaxed);
  PublishCounts();
  if (state_ == State::kClosed) return;
  Arm();
  SetDue();
  if (state_ == State::kOpen && budget_ == 0) host_.Enqueue(id());
}

bool Connection::IsOver() const { return deadline_ != Clock::time_point{} && now_ >= deadline_; }

void Connection::Advance() {
  if (state_ == State::kDialing) Dial();
  if (state_ == State::kAccepted && is_admitted_) Begin();
  if (state_ == State::kHello) LookAtPeer();
  if (state_ == State::kHandshake) Shake();
  if (state_ == State::kOpen) Move();
}

void Connection::Move() {
  while (state_ == State::kOpen && budget_ > 0) {
    const bool went_out = MoveOut();
    const bool came_in = state_ == State::kOpen && MoveIn();
    if (!went_out && !came_in) break;
  }
  if (state_ == State::kOpen) FinishOut();
}

void Connection::Spend(size_t size) {
  budget_ -= std::min(budget_, size);
  if (size == 0) return;
  used_at_ = now_;
  if (has_owner_hung_up_) deadline_ = now_ + kRestPatience;
}

void Connection::PublishCounts() {
  if (channel_ == nullptr) return;
  received_.store(channel_->received(), std::memory_order_relaxed);
  sent_.store(channel_->sent(), std::memory_order_relaxed);
}

void Connection::Note(IoStatus status) {
  if (status == IoStatus::kWantRead) wants_peer_read_ = true;
  if (status == IoStatus::kWantWrite) wants_peer_write_ = true;
  if (status == IoStatus::kFailed) Lose();
}

void Connection::NoteSent(IoStatus status) {
  if (status == IoStatus::kFailed) return LoseOut();
  Note(status);
}

void Connection::Tell(EventKind kind, int64_t value, int error, std::string text) {
  Event event;
  event.kind = kind;
  event.connection = id();
  event.listener = options_.listener;
  event.value = value;
  event.error = error;
  event.text = std::move(text);
  host_.Post(std::move(event));
}

void Connection::AnswerRead(int error) {
  read_.reset();
  Tell(EventKind::kRead, static_cast<int64_t>(read_done_), error);
}

void Connection::AnswerWrite(int error) {
  write_.reset();
  Tell(EventKind::kWritten, static_cast<int64_t>(write_done_), error);
}

void Connection::Lose() {
  const std::string& reason = channel_->reason();
  const bool is_told = is_dialed() && !reason.empty() && reason != kReset;
  if (is_dialed() && !is_told && state_ == State::kOpen) {
    // As an end. A closed socketpair would fail the owner's next write, and what came be unread.
    has_peer_ended_ = true;
    return LoseOut();
  }
  Tell(EventKind::kReset, 0, 0, is_told ? reason : "");
  if (!is_told) return Close();
  // The end of the socketpair must not overtake the reason.
  state_ = State::kLost;
  deadline_ = now_ + kRestPatience;
  has_ended_.store(true, std::memory_order_relaxed);
  RefuseOrders();
}

void Connection::LoseOut() {
  if (!is_dialed()) return Lose();
  // A server that refuses a body and goes: its answer may be here.
  is_peer_deaf_ = true;
  if (write_) AnswerWrite(EPIPE);
}

void Connection::RefuseOrders() {
  TakeMail();
  {
    const std::scoped_lock lock(mail_mutex_);
    takes_mail_ = false;
  }
  while (HasRead()) AnswerRead(ECONNRESET);
  if (write_) AnswerWrite(ECONNRESET);
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  RefuseOrders();
  PublishCounts();
  due_.store(0, std::memory_order_relaxed);
  // Closing takes them out of epoll.
  channel_.reset();
  socket_ = FileDescriptor();
  owner_ = FileDescriptor();
  in_.Clear();
  in_.Trim();
  out_.Clear();
  out_.Trim();
  Tell(EventKind::kClosed);
  host_.Forget(id());
}

void Connection::WaitForBatch() {
  const bool is_bulk = inbound_ == Inbound::kWithheld && read_ && wants_peer_read_;
  // Never more than what is to come: some of the rest may be with OpenSSL already, in half a
  // record.
  const int64_t left = is_bulk ? body_left_ - kMaxUnseen : 1;
  const auto mark = static_cast<size_t>(std::clamp(left, int64_t{1}, kBatch));
  if (mark == low_mark_) return;
  low_mark_ = mark;
  SetLowMark(channel_->fd(), mark);
}

void Connection::Arm() {
  if (state_ == State::kOpen) WaitForBatch();
  const uint32_t reading = EPOLLIN;
  const uint32_t writing = EPOLLOUT;
  if (state_ != State::kAccepted) {
    const int fd = channel_ == nullptr ? socket_.get() : channel_->fd();
    const uint32_t events = (wants_peer_read_ ? reading : 0U) | (wants_peer_write_ ? writing : 0U);
    // In trouble it would tell so again and again, while nobody can do anything about it.
    if (events == 0 && is_peer_in_trouble_) {
      host_.poller().Remove(fd, peer_watch_);
    } else {
      host_.poller().Arm(fd, peer_watch_, Subject::kClient, id(), events);
    }
  }
  if ((state_ != State::kOpen && state_ != State::kLost) || has_owner_hung_up_) return;
  const uint32_t events = (wants_owner_read_ ? reading : 0U) | (wants_owner_write_ ? writing : 0U);
  host_.poller().Arm(owner_.get(), owner_watch_, Subject::kServer, id(), events);
}

void Connection::SetDue() {
  if (has_owner_hung_up_ && deadline_ == Clock::time_point{}) deadline_ = now_ + kRestPatience;
  const bool has_idle_memory = in_.HasIdleMemory() || out_.HasIdleMemory() ||
                               (channel_ != nullptr && channel_->HasIdleMemory());
  Clock::time_point due = deadline_;
  const auto at = [&due](Clock::time_point time) {
    if (due == Clock::time_point{} || time < due) due = time;
  };
  if (low_mark_ > 1) at(now_ + kBatchPatience);
  if (read_ && read_->lingers && read_done_ > 0) at(read_since_ + kLinger);
  if (head_since_ != Clock::time_point{}) at(head_since_ + kHeadPatience);
  if (has_idle_memory && now_ >= used_at_ + kIdle) {
    in_.Trim();
    out_.Trim();
    if (channel_ != nullptr) channel_->Trim();
  } else if (has_idle_memory) {
    at(used_at_ + kIdle);
  }
  due_.store(due.time_since_epoch().count(), std::memory_order_relaxed);
}

}  // namespace imageio::transport
