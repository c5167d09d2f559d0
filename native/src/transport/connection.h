#ifndef IMAGEIO_NATIVE_TRANSPORT_CONNECTION_H_
#define IMAGEIO_NATIVE_TRANSPORT_CONNECTION_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../file_descriptor.h"
#include "byte_queue.h"
#include "channel.h"
#include "endpoint.h"
#include "event.h"
#include "head_parser.h"
#include "poller.h"
#include "tls_channel.h"

namespace imageio::transport {

// How a connection reaches those who drive it.
class ConnectionHost {
 public:
  virtual ~ConnectionHost() = default;
  virtual Poller& poller() = 0;
  virtual void Post(Event event) = 0;
  // One more turn, behind others that wait for theirs.
  virtual void Enqueue(uint64_t connection) = 0;
  // It is closed and must not be found any more.
  virtual void Forget(uint64_t connection) = 0;
  // Proves that a withheld body was announced by this front.
  virtual const std::string& token() const = 0;
};

// Where a connection leads that is dialed.
struct Route {
  std::vector<Endpoint> endpoints;  // tried one after the other
  TlsPeer peer;
};

struct ConnectionOptions {
  uint64_t id = 0;
  uint64_t listener = 0;
  std::shared_ptr<TlsContext> tls;  // none for plain HTTP
  std::chrono::milliseconds handshake_timeout{0};
  std::optional<Route> route;  // none when it was accepted
};

// Memory of the caller's, until the order is answered.
struct ReadOrder {
  uint64_t number = 0;  // given by the connection
  uint64_t request = 0;
  uint8_t* data = nullptr;
  size_t size = 0;
  bool lingers = false;  // what has come is not held back for long, however little
};

struct WriteOrder {
  uint64_t after = 0;  // bytes of the owner that come before
  const uint8_t* data = nullptr;
  size_t size = 0;
};

// A socket on the network, whose other end is the peer, and, once open, a socketpair whose other
// end belongs to JavaScript, the owner. Of a connection that was accepted the peer is a client and
// the owner a server of HTTP, of one that was dialed it is the other way round. One thread at a
// time drives it, see Run(); what has no lock and is not atomic belongs to that thread.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): by meaning, there are few of them
class Connection {
 public:
  using Clock = std::chrono::steady_clock;

  // Bits for Run().
  static constexpr uint32_t kTurn = 0;
  static constexpr uint32_t kPeer = 1;  // the descriptor's event was taken
  static constexpr uint32_t kOwner = 2;
  static constexpr uint32_t kPeerTrouble = 4;  // EPOLLERR, EPOLLHUP
  static constexpr uint32_t kOwnerTrouble = 8;

  Connection(ConnectionHost& host, ConnectionOptions options, FileDescriptor socket);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  uint64_t id() const { return options_.id; }
  // Nothing more comes from the peer; of a client there may be bytes that nobody has read.
  bool has_ended() const { return has_ended_.load(std::memory_order_relaxed); }
  // As those of the channel.
  uint64_t received() const { return received_.load(std::memory_order_relaxed); }
  uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }

  // From the front's threads: something happened. Whoever comes while another drives leaves it to
  // that one.
  void Run(uint32_t happened);

  // Whether its time has come.
  bool IsDue(Clock::time_point now) const;

  // Orders, from JavaScript's thread; each wants a turn afterwards. False when one of the kind is
  // still open, or nothing can be ordered any more.
  void Admit();
  void Cut();
  // A second read may be ordered while the first is open, and is answered after it.
  bool Read(ReadOrder order);
  bool Write(const WriteOrder& order);
  // Answers open reads with what has come.
  void CancelRead();
  // Of a connection that was dialed: the body of the next response is withheld, if it is plain. It
  // begins behind the first `after` bytes that the owner gets; when something else does nothing is
  // withheld. To be ordered before the request is written.
  bool WithholdNext(uint64_t after);

 private:
  // Relayed at a time. Of a body that is withheld no more than this can have come ahead.
  static constexpr size_t kRelayBuffer = size_t{64} * 1024;
  // A head that takes longer is left to the owner and its clocks.
  static constexpr std::chrono::milliseconds kHeadPatience{1000};
  // What has come of a read that lingers is answered then.
  static constexpr std::chrono::milliseconds kLinger{200};

  // kLost: there is no peer any more, but the owner has not heard of it.
  enum class State { kDialing, kAccepted, kHello, kHandshake, kOpen, kLost, kClosed };
  enum class Inbound { kHead, kBody, kWithheld, kPassThrough };

  struct Mail {
    bool is_admitted = false;
    bool is_cut = false;
    uint64_t reads = 0;           // orders so far
    uint64_t canceled_reads = 0;  // up to this one
    std::deque<ReadOrder> open_reads;
    std::optional<WriteOrder> write;
    std::optional<uint64_t> withhold_after;
  };

  void Drive(uint32_t happened);
  void Advance();
  void Move();
  void TakeMail();
  bool HasRead();
  bool IsOver() const;

  bool is_dialed() const { return options_.route.has_value(); }

  void Dial();
  void Begin();
  void LookAtPeer();
  void HandOver();
  void Shake();
  void Open();

  // Each moves what can be moved and says whether that was anything.
  bool MoveOut();
  bool MoveIn();
  bool TakeFromOwner();
  bool GiveToPeer();
  bool ServeWrite();
  void FinishOut();
  bool Approve();
  bool ApproveHead(std::string_view bytes);
  bool ApproveRequest(std::string_view bytes);
  bool ApproveResponse(std::string_view bytes);
  bool IsAwaited(HeadVerdict verdict);
  std::string NextToken();
  void Withhold(std::string head, size_t size, int64_t length);
  bool GiveToOwner();
  bool TakeFromPeer();
  bool ServeRead();
  bool Discard();
  void PassEnd();

  void Tell(EventKind kind, int64_t value = 0, int error = 0, std::string text = {});
  void AnswerRead(int error);
  void AnswerWrite(int error);
  // The peer's side failed.
  void Lose();
  // It can be written no more.
  void LoseOut();
  void Close();
  // No more orders; those that are open fail.
  void RefuseOrders();
  void Arm();
  // How much a peer has to send before it is worth a turn.
  void WaitForBatch();
  void SetDue();
  // What the peer's side waits for; loses it when it failed.
  void Note(IoStatus status);
  void NoteSent(IoStatus status);
  void Spend(size_t size);
  void PublishCounts();

  ConnectionHost& host_;
  const ConnectionOptions options_;

  std::atomic<uint32_t> turns_{0};
  std::atomic<uint32_t> happened_{0};
  std::atomic<uint64_t> received_{0};
  std::atomic<uint64_t> sent_{0};
  std::atomic<bool> has_ended_{false};
  std::atomic<int64_t> due_{0};  // 0 is never

  std::mutex mail_mutex_;
  Mail mail_;
  bool takes_mail_ = true;

  State state_ = State::kAccepted;
  Clock::time_point deadline_{};  // of the handshake, of the head, of the rest; none is the epoch
  Clock::time_point now_{};
  bool is_admitted_ = false;
  bool is_cut_ = false;

  size_t next_endpoint_ = 0;
  int dial_error_ = 0;
  FileDescriptor socket_;  // until there is a channel
  std::unique_ptr<Channel> channel_;
  FileDescriptor owner_;
  Watch peer_watch_;
  Watch owner_watch_;
  bool is_peer_in_trouble_ = false;
  size_t peeked_ = 0;
  size_t low_mark_ = 1;
  bool has_owner_hung_up_ = false;
  bool wants_peer_read_ = false;
  bool wants_peer_write_ = false;
  bool wants_owner_read_ = false;
  bool wants_owner_write_ = false;

  // From the peer.
  Inbound inbound_ = Inbound::kHead;
  ByteQueue in_;
  size_t approved_ = 0;       // bytes of in_ that the owner gets
  std::string head_;          // a head that was rewritten, before them
  int64_t body_left_ = 0;     // of the body that is approved or withheld
  uint64_t request_ = 0;      // the last one whose body was withheld
  uint64_t given_ = 0;        // bytes that the owner has got
  unsigned heads_ahead_ = 0;  // requests since the owner has said anything
  Clock::time_point head_since_{};
  bool has_peer_ended_ = false;
  bool has_passed_end_ = false;
  bool is_discarding_ = false;
  size_t discarded_ = 0;

  // From the owner.
  ByteQueue out_;
  uint64_t forwarded_ = 0;
  bool has_owner_ended_ = false;
  bool is_owner_deaf_ = false;  // takes nothing any more
  bool is_peer_deaf_ = false;   // the same, though it may have said why
  bool has_ended_peer_ = false;

  std::optional<ReadOrder> read_;
  Clock::time_point read_since_{};
  size_t read_done_ = 0;
  uint64_t canceled_reads_ = 0;
  std::optional<WriteOrder> write_;
  size_t write_done_ = 0;

  size_t budget_ = 0;
  Clock::time_point used_at_{};
};

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_CONNECTION_H_
