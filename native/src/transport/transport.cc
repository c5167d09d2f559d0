#include "transport.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <optional>
#include <system_error>
#include <utility>

namespace imageio::transport {

namespace {

// How often connections are looked at whose time may have come.
constexpr long kTickNanoseconds = 250'000'000;
// Connections a listener accepts in a turn.
constexpr int kAcceptsPerTurn = 16;

FileDescriptor Owned(int fd, const char* call) {
  if (fd == -1) throw std::system_error(errno, std::generic_category(), call);
  return FileDescriptor(fd);
}

FileDescriptor MakeClock() {
  FileDescriptor clock =
      Owned(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create");
  itimerspec time{};
  time.it_interval.tv_nsec = time.it_value.tv_nsec = kTickNanoseconds;
  if (timerfd_settime(clock.get(), 0, &time, nullptr) == -1) {
    throw std::system_error(errno, std::generic_category(), "timerfd_settime");
  }
  return clock;
}

void Drain(int fd) {
  uint64_t count = 0;
  static_cast<void>(read(fd, &count, sizeof(count)));
}

void Raise(int fd) {
  const uint64_t one = 1;
  static_cast<void>(write(fd, &one, sizeof(one)));
}

// Signals are for Node's main thread.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

Transport::Transport(EventSink& sink, unsigned threads, std::string token)
    : sink_(sink),
      token_(std::move(token)),
      wake_(Owned(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")),
      clock_(MakeClock()),
      stop_(Owned(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")) {
  poller_.AddEdge(wake_.get(), Subject::kTransport, kQueue);
  poller_.AddEdge(clock_.get(), Subject::kTransport, kClock);
  poller_.Arm(stop_.get(), stop_watch_, Subject::kTransport, kStop, EPOLLIN);
  const BlockedSignals blocked;
  for (unsigned count = 0; count < threads; count++) {
    threads_.emplace_back([this] { Work(); });
  }
}

Transport::~Transport() {
  is_stopping_.store(true);
  Raise(stop_.get());
  threads_.clear();
}

uint64_t Transport::Listen(FileDescriptor socket, std::shared_ptr<TlsContext> tls,
                           std::chrono::milliseconds handshake_timeout) {
  const std::scoped_lock lock(listeners_mutex_);
  const uint64_t id = ++last_listener_;
  auto listener = std::make_shared<Listener>(id, std::move(socket), handshake_timeout);
  listener->SetTls(std::move(tls));
  listeners_.emplace(id, listener);
  poller_.Arm(listener->fd(), listener->watch(), Subject::kListener, id, EPOLLIN);
  return id;
}

uint64_t Transport::Dial(Route route, std::shared_ptr<TlsContext> tls) {
  const uint64_t id = ++last_connection_;
  ConnectionOptions options;
  options.id = id;
  options.tls = std::move(tls);
  options.route = std::move(route);
  Add(std::move(options), FileDescriptor());
  Enqueue(id);
  return id;
}

void Transport::Add(ConnectionOptions options, FileDescriptor socket) {
  const uint64_t id = options.id;
  auto connection = std::make_shared<Connection>(*this, std::move(options), std::move(socket));
  const std::scoped_lock lock(connections_mutex_);
  connections_.emplace(id, std::move(connection));
}

void Transport::SetTls(uint64_t listener, std::shared_ptr<TlsContext> tls) {
  if (const auto found = FindListener(listener)) found->SetTls(std::move(tls));
}

void Transport::StopListening(uint64_t listener) {
  const std::scoped_lock lock(listeners_mutex_);
  listeners_.erase(listener);
}

std::shared_ptr<Listener> Transport::FindListener(uint64_t listener) {
  const std::scoped_lock lock(listeners_mutex_);
  const auto found = listeners_.find(listener);
  return found == listeners_.end() ? nullptr : found->second;
}

std::shared_ptr<Connection> Transport::Find(uint64_t connection) {
  const std::shared_lock lock(connections_mutex_);
  const auto found = connections_.find(connection);
  return found == connections_.end() ? nullptr : found->second;
}

void Transport::Forget(uint64_t connection) {
  const std::scoped_lock lock(connections_mutex_);
  connections_.erase(connection);
}

void Transport::Enqueue(uint64_t connection) {
  {
    const std::scoped_lock lock(queue_mutex_);
    queue_.push_back(connection);
  }
  Wake();
}

void Transport::Wake() { Raise(wake_.get()); }

void Transport::Work() {
  pthread_setname_np(pthread_self(), "imageio-front");
  while (!is_stopping_.load()) {
    Subject subject{};
    uint64_t id = 0;
    uint32_t events = 0;
    if (!poller_.Wait(&subject, &id, &events)) continue;
    try {
      Handle(subject, id, events);
    } catch (const std::exception&) {
      // No memory: what this event was about has to wait, others need not end for it.
      if (subject == Subject::kListener) Rest(id);
    }
  }
  // The next thread is to see it, too.
  Raise(wake_.get());
}

void Transport::Handle(Subject subject, uint64_t id, uint32_t events) {
  if (subject == Subject::kListener) return AcceptFrom(id);
  if (subject == Subject::kTransport) {
    if (id == kQueue) RunQueue();
    if (id == kClock) Tick();
    return;
  }
  const auto connection = Find(id);
  if (connection == nullptr) return;
  const bool is_peer = subject == Subject::kClient;
  const bool is_trouble = (events & (EPOLLERR | EPOLLHUP)) != 0;
  uint32_t happened = is_peer ? Connection::kPeer : Connection::kOwner;
  if (is_trouble) happened |= is_peer ? Connection::kPeerTrouble : Connection::kOwnerTrouble;
  connection->Run(happened);
}

void Transport::RunQueue() {
  Drain(wake_.get());
  for (;;) {
    uint64_t id = 0;
    bool is_last = false;
    {
      const std::scoped_lock lock(queue_mutex_);
      if (queue_.empty()) return;
      id = queue_.front();
      queue_.pop_front();
      is_last = queue_.empty();
    }
    // Several calls may have become one event, and this thread is busy now.
    if (!is_last) Wake();
    if (const auto connection = Find(id)) connection->Run(Connection::kTurn);
  }
}

void Transport::Tick() {
  Drain(clock_.get());
  const auto now = Connection::Clock::now();
  std::vector<std::shared_ptr<Connection>> due;
  {
    const std::shared_lock lock(connections_mutex_);
    for (const auto& [id, connection] : connections_) {
      if (connection->IsDue(now)) due.push_back(connection);
    }
  }
  for (const auto& connection : due) Enqueue(connection->id());
  std::vector<uint64_t> rested;
  {
    const std::scoped_lock lock(listeners_mutex_);
    rested.swap(resting_listeners_);
  }
  for (const uint64_t listener : rested) AcceptFrom(listener);
}

void Transport::Rest(uint64_t listener) {
  const std::scoped_lock lock(listeners_mutex_);
  resting_listeners_.push_back(listener);
}

void Transport::AcceptFrom(uint64_t id) {
  const auto listener = FindListener(id);
  if (listener == nullptr) return;
  listener->watch().Fired();
  for (int count = 0; count < kAcceptsPerTurn; count++) {
    std::string address;
    FileDescriptor socket = listener->Accept(&address);
    if (socket.get() == -1) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) break;
      // Who waits can still be accepted later; asking at once again would take a whole core.
      return Rest(id);
    }
    const uint64_t connection_id = ++last_connection_;
    Add({.id = connection_id,
         .listener = id,
         .tls = listener->tls(),
         .handshake_timeout = listener->handshake_timeout(),
         .route = {}},
        std::move(socket));
    Event event;
    event.kind = EventKind::kAccepted;
    event.connection = connection_id;
    event.listener = id;
    event.text = std::move(address);
    Post(std::move(event));
  }
  // Not one that was closed meanwhile: its number may be another descriptor's.
  const std::scoped_lock lock(listeners_mutex_);
  if (listeners_.contains(id)) {
    poller_.Arm(listener->fd(), listener->watch(), Subject::kListener, id, EPOLLIN);
  }
}

}  // namespace imageio::transport
