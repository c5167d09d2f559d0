#include "connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <string_view>
#include <utility>

#include "../retry.h"
#include "client_hello.h"
#include "head_parser.h"

namespace imageio::transport {

namespace {

using std::chrono::milliseconds;

// Bytes a turn may move; then it is others' turn.
constexpr size_t kBudget = size_t{2} * 1024 * 1024;
// Relayed at a time. Of a body that is withheld no more than this can have come ahead.
constexpr size_t kRelayBuffer = size_t{64} * 1024;
// Less is not worth its orders.
constexpr int64_t kMinWithheld = int64_t{64} * 1024;
// Far from the limit, so that the exchanged field does not carry a head over it.
constexpr size_t kMaxWithheldHead = size_t{8} * 1024;
// A head that takes longer is left to the server and its clocks.
constexpr milliseconds kHeadPatience{1000};
// What a server left behind that has gone may wait so long for a client that takes nothing.
constexpr milliseconds kRestPatience{30'000};
constexpr milliseconds kIdle{1000};
constexpr size_t kMaxOpenReads = 2;
// Of a large body so much is waited for, but not long: a slow client's bytes count, too.
constexpr int64_t kBatch = int64_t{192} * 1024;
constexpr int64_t kMaxUnseen = int64_t{64} * 1024;
constexpr milliseconds kBatchPatience{200};
// As core/http/linger.ts.
constexpr size_t kMaxDiscarded = size_t{1024} * 1024;

std::string_view TextOf(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void SetLowMark(int fd, size_t size) {
  const int mark = static_cast<int>(size);
  static_cast<void>(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark)));
}

}  // namespace

Connection::Connection(ConnectionHost& host, ConnectionOptions options, FileDescriptor socket)
    : host_(host),
      options_(std::move(options)),
      socket_(std::move(socket)),
      in_(kRelayBuffer),
      out_(kRelayBuffer) {}

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

void Connection::TakeMail() {
  const std::scoped_lock lock(mail_mutex_);
  is_admitted_ = is_admitted_ || mail_.is_admitted;
  is_cut_ = is_cut_ || mail_.is_cut;
  if (!read_ && !mail_.open_reads.empty()) {
    read_ = mail_.open_reads.front();
    mail_.open_reads.pop_front();
    read_done_ = 0;
  }
  if (!write_ && mail_.write) {
    write_ = std::exchange(mail_.write, std::nullopt);
    write_done_ = 0;
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
  if ((happened & kClient) != 0) client_watch_.Fired();
  if ((happened & kServer) != 0) server_watch_.Fired();
  if ((happened & kClientTrouble) != 0) is_client_in_trouble_ = true;
  if ((happened & kServerTrouble) != 0 && !has_server_hung_up_) {
    has_server_hung_up_ = true;
    host_.poller().Remove(server_.get(), server_watch_);
  }
  wants_client_read_ = wants_client_write_ = wants_server_read_ = wants_server_write_ = false;
  budget_ = kBudget;
  now_ = Clock::now();
  TakeMail();
  if (is_cut_ || IsOver()) return Close();
  Advance();
  if (channel_ != nullptr) moved_.store(channel_->moved(), std::memory_order_relaxed);
  if (state_ == State::kClosed) return;
  Arm();
  SetDue();
  if (state_ == State::kOpen && budget_ == 0) host_.Enqueue(id());
}

bool Connection::IsOver() const { return deadline_ != Clock::time_point{} && now_ >= deadline_; }

void Connection::Advance() {
  if (state_ == State::kAccepted && is_admitted_) Begin();
  if (state_ == State::kHello) LookAtClient();
  if (state_ == State::kHandshake) Shake();
  if (state_ == State::kOpen) Move();
}

// --- until it is open ---

void Connection::Begin() {
  if (options_.tls == nullptr) {
    channel_ = std::make_unique<PlainChannel>(std::move(socket_));
    return Open();
  }
  state_ = State::kHello;
  deadline_ = now_ + options_.handshake_timeout;
}

void Connection::LookAtClient() {
  std::array<uint8_t, kMaxHello> bytes;  // NOLINT: filled by recv
  const ssize_t size =
      RetryInterrupted([&] { return recv(socket_.get(), bytes.data(), bytes.size(), MSG_PEEK); });
  if (size == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    wants_client_read_ = true;
    return;
  }
  if (size <= 0) return Close();
  const auto peeked = static_cast<size_t>(size);
  const HelloLook look = LookAtHello(std::span(bytes).first(peeked));
  // Nothing came although it was waited for: the client has ended.
  const bool is_stuck = look.verdict == HelloVerdict::kIncomplete && peeked == peeked_;
  if (look.verdict == HelloVerdict::kIncomplete && !is_stuck) {
    peeked_ = peeked;
    // What is there already would be told again at once.
    SetLowMark(socket_.get(), look.needed);
    wants_client_read_ = true;
    return;
  }
  SetLowMark(socket_.get(), 1);
  if (look.verdict != HelloVerdict::kHttp1) return HandOver();
  channel_ = std::make_unique<TlsChannel>(std::move(socket_), options_.tls);
  state_ = State::kHandshake;
}

void Connection::HandOver() {
  host_.poller().Remove(socket_.get(), client_watch_);
  state_ = State::kClosed;
  {
    const std::scoped_lock lock(mail_mutex_);
    takes_mail_ = false;
  }
  Tell(EventKind::kForeign, socket_.Release());
  host_.Forget(id());
}

void Connection::Shake() {
  const IoStatus status = channel_->Handshake();
  if (status == IoStatus::kDone) {
    deadline_ = {};
    return Open();
  }
  if (status == IoStatus::kWantRead) wants_client_read_ = true;
  if (status == IoStatus::kWantWrite) wants_client_write_ = true;
  if (status != IoStatus::kFailed) return;
  const std::string& reason = channel_->reason();
  Tell(EventKind::kHandshake, 0, 0, reason.empty() ? "ECONNRESET" : reason);
  Close();
}

void Connection::Open() {
  std::array<int, 2> ends{-1, -1};
  const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (socketpair(AF_UNIX, type, 0, ends.data()) == -1) return Close();
  server_ = FileDescriptor(ends[0]);
  state_ = State::kOpen;
  used_at_ = now_;
  Tell(EventKind::kOpened, ends[1]);
}

// --- open ---

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
  if (has_server_hung_up_) deadline_ = now_ + kRestPatience;
}

void Connection::Note(IoStatus status) {
  if (status == IoStatus::kWantRead) wants_client_read_ = true;
  if (status == IoStatus::kWantWrite) wants_client_write_ = true;
  if (status == IoStatus::kFailed) Lose();
}

bool Connection::MoveOut() {
  bool has_moved = TakeFromServer();
  has_moved = GiveToClient() || has_moved;
  return (state_ == State::kOpen && ServeWrite()) || has_moved;
}

bool Connection::TakeFromServer() {
  if (has_server_ended_) return false;
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
  const ssize_t got = RetryInterrupted([&] { return recv(server_.get(), room.data(), limit, 0); });
  if (got == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    wants_server_read_ = true;
    return false;
  }
  if (got > 0) out_.Added(static_cast<size_t>(got));
  if (got > 0) return true;
  // ECONNRESET: it has gone, and left something unread.
  has_server_ended_ = true;
  if (write_) AnswerWrite(ECONNRESET);
  return true;
}

bool Connection::GiveToClient() {
  if (out_.empty()) return false;
  size_t done = 0;
  const IoStatus status = channel_->Write(out_.data().data(), out_.size(), &done);
  out_.Taken(done);
  forwarded_ += done;
  Spend(done);
  Note(status);
  return done > 0;
}

bool Connection::ServeWrite() {
  if (!write_ || !out_.empty() || forwarded_ != write_->after) return false;
  size_t done = 0;
  const IoStatus status =
      channel_->Write(write_->data + write_done_, write_->size - write_done_, &done);
  write_done_ += done;
  Spend(done);
  Note(status);
  if (write_ && write_done_ == write_->size) AnswerWrite(0);
  return done > 0;
}

void Connection::FinishOut() {
  const IoStatus status = channel_->Flush();
  Note(status);
  if (state_ != State::kOpen) return;
  if (has_server_ended_ && !has_ended_client_ && out_.empty() && status == IoStatus::kDone) {
    channel_->EndWriting();
    has_ended_client_ = true;
    is_discarding_ = true;
    while (Discard()) {
    }
    if (state_ != State::kOpen) return;
  }
  if (has_ended_client_ && (has_server_hung_up_ || has_client_ended_)) Close();
}

bool Connection::MoveIn() {
  if (is_discarding_) return Discard();
  bool has_moved = ServeRead();
  if (state_ != State::kOpen) return true;
  has_moved = Approve() || has_moved;
  has_moved = GiveToServer() || has_moved;
  has_moved = TakeFromClient() || has_moved;
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
  Head head;
  const HeadVerdict verdict = ParseHead(bytes, &head);
  if (verdict == HeadVerdict::kIncomplete) {
    if (head_since_ == Clock::time_point{}) head_since_ = now_;
    if (!has_client_ended_ && now_ < head_since_ + kHeadPatience) return false;
  }
  head_since_ = {};
  if (verdict != HeadVerdict::kPlain) {
    inbound_ = Inbound::kPassThrough;
    return true;
  }
  const bool withholds =
      head.is_upload && head.content_length >= kMinWithheld && head.size <= kMaxWithheldHead;
  if (withholds && approved_ > 0) return false;  // when what is before it has gone
  body_left_ = head.content_length;
  if (withholds) {
    request_++;
    head_ = WithholdBody(bytes, head, host_.token() + "." + std::to_string(request_));
    in_.Taken(head.size);
    inbound_ = Inbound::kWithheld;
    return true;
  }
  approved_ += head.size;
  if (body_left_ > 0) inbound_ = Inbound::kBody;
  return true;
}

bool Connection::GiveToServer() {
  bool has_given = false;
  while (!head_.empty() || approved_ > 0) {
    const auto bytes = in_.data().first(approved_);
    const void* data = head_.empty() ? static_cast<const void*>(bytes.data()) : head_.data();
    const size_t size = head_.empty() ? bytes.size() : head_.size();
    const ssize_t put = is_server_deaf_ ? static_cast<ssize_t>(size) : RetryInterrupted([&] {
      return send(server_.get(), data, size, MSG_NOSIGNAL);
    });
    if (put == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      wants_server_write_ = true;
      break;
    }
    if (put == -1) {
      is_server_deaf_ = true;
      continue;
    }
    const auto given = static_cast<size_t>(put);
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

bool Connection::TakeFromClient() {
  if (inbound_ == Inbound::kWithheld || has_client_ended_ || in_.room() == 0) return false;
  const auto room = in_.Room();
  if (room.empty()) return false;
  size_t done = 0;
  const IoStatus status = channel_->Read(room.data(), room.size(), &done);
  in_.Added(done);
  if (status == IoStatus::kEnd) has_client_ended_ = true;
  if (status == IoStatus::kFailed && done > 0) {
    // The server gets what came before; the failure comes again.
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
  if (wanted() > 0 && !has_client_ended_) {
    status = channel_->Read(read_->data + read_done_, wanted(), &done);
    take(done);
  }
  if (status == IoStatus::kEnd) has_client_ended_ = true;
  const bool is_over = wanted() == 0 || has_client_ended_ || status == IoStatus::kFailed;
  if (is_over) AnswerRead(status == IoStatus::kFailed ? ECONNRESET : 0);
  if (read_ && read_->number <= canceled_reads_) AnswerRead(ECANCELED);
  if (body_left_ == 0) inbound_ = Inbound::kHead;
  if (status == IoStatus::kFailed && body_left_ == 0) return true;  // it comes again
  Note(status);
  return !read_ || ahead + done > 0;
}

bool Connection::Discard() {
  while (HasRead()) AnswerRead(ECANCELED);
  head_.clear();
  approved_ = 0;
  in_.Clear();
  if (has_client_ended_) {
    PassEnd();
    return false;
  }
  // Who sends more has to wait, and can read the answer meanwhile; the server ends it in two
  // seconds.
  if (discarded_ > kMaxDiscarded) return false;
  const auto room = in_.Room();
  size_t done = 0;
  const IoStatus status = channel_->Read(room.data(), room.size(), &done);
  discarded_ += done;
  Spend(done);
  if (status == IoStatus::kEnd) has_client_ended_ = true;
  Note(status);
  if (state_ == State::kOpen) PassEnd();
  return status == IoStatus::kDone && state_ == State::kOpen;
}

void Connection::PassEnd() {
  if (!has_client_ended_ || has_passed_end_ || !head_.empty() || !in_.empty()) return;
  has_passed_end_ = true;
  static_cast<void>(shutdown(server_.get(), SHUT_WR));
}

// --- answers and the end ---

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
  Tell(EventKind::kReset);
  Close();
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  TakeMail();
  state_ = State::kClosed;
  {
    const std::scoped_lock lock(mail_mutex_);
    takes_mail_ = false;
  }
  while (HasRead()) AnswerRead(ECONNRESET);
  if (write_) AnswerWrite(ECONNRESET);
  if (channel_ != nullptr) moved_.store(channel_->moved(), std::memory_order_relaxed);
  due_.store(0, std::memory_order_relaxed);
  // Closing takes them out of epoll.
  channel_.reset();
  socket_ = FileDescriptor();
  server_ = FileDescriptor();
  in_.Clear();
  in_.Trim();
  out_.Clear();
  out_.Trim();
  Tell(EventKind::kClosed);
  host_.Forget(id());
}

void Connection::WaitForBatch() {
  const bool is_bulk = inbound_ == Inbound::kWithheld && read_ && wants_client_read_;
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
    const uint32_t events =
        (wants_client_read_ ? reading : 0U) | (wants_client_write_ ? writing : 0U);
    // In trouble it would tell so again and again, while nobody can do anything about it.
    if (events == 0 && is_client_in_trouble_) {
      host_.poller().Remove(fd, client_watch_);
    } else {
      host_.poller().Arm(fd, client_watch_, Subject::kClient, id(), events);
    }
  }
  if (state_ != State::kOpen || has_server_hung_up_) return;
  const uint32_t events =
      (wants_server_read_ ? reading : 0U) | (wants_server_write_ ? writing : 0U);
  host_.poller().Arm(server_.get(), server_watch_, Subject::kServer, id(), events);
}

void Connection::SetDue() {
  if (has_server_hung_up_ && deadline_ == Clock::time_point{}) deadline_ = now_ + kRestPatience;
  const bool has_idle_memory = in_.HasIdleMemory() || out_.HasIdleMemory() ||
                               (channel_ != nullptr && channel_->HasIdleMemory());
  Clock::time_point due = deadline_;
  const auto at = [&due](Clock::time_point time) {
    if (due == Clock::time_point{} || time < due) due = time;
  };
  if (low_mark_ > 1) at(now_ + kBatchPatience);
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
