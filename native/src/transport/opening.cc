// A connection until it is open.
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

#include "../retry.h"
#include "client_hello.h"
#include "connection.h"

namespace imageio::transport {

namespace {

// As Node: so long for an address while there are others.
constexpr std::chrono::milliseconds kDialPatience{250};

}  // namespace

void Connection::Dial() {
  const auto& [endpoints, peer] = *options_.route;
  for (;;) {
    if (socket_.get() == -1) {
      if (next_endpoint_ == endpoints.size()) {
        Tell(EventKind::kFailed, 0, dial_error_);
        return Close();
      }
      is_peer_in_trouble_ = false;
      socket_ = StartConnecting(endpoints[next_endpoint_++]);
      deadline_ = next_endpoint_ < endpoints.size() ? now_ + kDialPatience : Clock::time_point{};
    }
    const bool has_begun = socket_.get() != -1;
    dial_error_ = has_begun ? ConnectError(socket_.get()) : errno;
    if (dial_error_ == 0) break;
    if (dial_error_ == EINPROGRESS && !IsOver()) {
      wants_peer_write_ = true;
      return;
    }
    if (dial_error_ == EINPROGRESS) dial_error_ = ETIMEDOUT;
    if (has_begun) host_.poller().Remove(socket_.get(), peer_watch_);
    socket_ = FileDescriptor();
  }
  deadline_ = {};
  if (options_.tls == nullptr) {
    channel_ = std::make_unique<PlainChannel>(std::move(socket_));
    return Open();
  }
  channel_ = std::make_unique<TlsChannel>(std::move(socket_), options_.tls, peer);
  state_ = State::kHandshake;
}

void Connection::Begin() {
  if (options_.tls == nullptr) {
    channel_ = std::make_unique<PlainChannel>(std::move(socket_));
    return Open();
  }
  state_ = State::kHello;
  deadline_ = now_ + options_.handshake_timeout;
}

void Connection::LookAtPeer() {
  std::array<uint8_t, kMaxHello> bytes;  // NOLINT: filled by recv
  const ssize_t size =
      RetryInterrupted([&] { return recv(socket_.get(), bytes.data(), bytes.size(), MSG_PEEK); });
  if (size == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    wants_peer_read_ = true;
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
    wants_peer_read_ = true;
    return;
  }
  SetLowMark(socket_.get(), 1);
  if (look.verdict != HelloVerdict::kHttp1) return HandOver();
  channel_ = std::make_unique<TlsChannel>(std::move(socket_), options_.tls);
  state_ = State::kHandshake;
}

void Connection::HandOver() {
  host_.poller().Remove(socket_.get(), peer_watch_);
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
  if (status == IoStatus::kWantRead) wants_peer_read_ = true;
  if (status == IoStatus::kWantWrite) wants_peer_write_ = true;
  if (status != IoStatus::kFailed) return;
  const std::string& reason = channel_->reason();
  Tell(EventKind::kFailed, channel_->is_distrusted() ? 1 : 0, 0,
       reason.empty() ? "ECONNRESET" : reason);
  Close();
}

void Connection::Open() {
  std::array<int, 2> ends{-1, -1};
  const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (socketpair(AF_UNIX, type, 0, ends.data()) == -1) return Close();
  owner_ = FileDescriptor(ends[0]);
  state_ = State::kOpen;
  used_at_ = now_;
  Tell(EventKind::kOpened, ends[1], 0, is_dialed() ? AddressesOf(channel_->fd()) : "");
}

}  // namespace imageio::transport
