#include "engine.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <optional>
#include <system_error>

namespace imageio::nbd {

namespace {

using transport::Subject;

// The poller tells apart what a descriptor is to the native front; here it is the side of a link.
constexpr Subject kReceiving = Subject::kClient;
constexpr Subject kSending = Subject::kServer;

enum Signal : uint64_t { kQueue = 0, kStop = 1 };

FileDescriptor Owned(int fd, const char* call) {
  if (fd == -1) throw std::system_error(errno, std::generic_category(), call);
  return FileDescriptor(fd);
}

FileDescriptor Twin(int fd) {
  return Owned(fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)");
}

void Raise(int fd) {
  const uint64_t one = 1;
  static_cast<void>(write(fd, &one, sizeof(one)));
}

}  // namespace

Engine::Engine(EventSink& sink, unsigned threads)
    : sink_(sink),
      wake_(Owned(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")),
      stop_(Owned(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")) {
  poller_.AddEdge(wake_.get(), Subject::kTransport, kQueue);
  poller_.Arm(stop_.get(), stop_watch_, Subject::kTransport, kStop, EPOLLIN);
  // Signals are for Node's main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (unsigned count = 0; count < threads; count++) threads_.emplace_back([this] { Work(); });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    is_stopping_.store(true);
    Raise(stop_.get());
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Engine::~Engine() {
  is_stopping_.store(true);
  Raise(stop_.get());
  threads_.clear();
}

uint64_t Engine::Add(int socket, ReplyFormat format) {
  FileDescriptor receiving = Twin(socket);
  FileDescriptor sending = Twin(socket);
  const uint64_t id = ++last_link_;
  const auto link =
      std::make_shared<Link>(*this, id, std::move(receiving), std::move(sending), format);
  {
    const std::scoped_lock lock(links_mutex_);
    links_.emplace(id, link);
  }
  Enqueue(id, Side::kReceive);
  return id;
}

std::shared_ptr<Link> Engine::Find(uint64_t link) {
  const std::shared_lock lock(links_mutex_);
  const auto found = links_.find(link);
  return found == links_.end() ? nullptr : found->second;
}

void Engine::Remove(uint64_t id) {
  const auto link = Find(id);
  if (link == nullptr) return;
  {
    const std::scoped_lock lock(links_mutex_);
    links_.erase(id);
  }
  link->Cut();
}

void Engine::Enqueue(uint64_t link, Side side) {
  {
    const std::scoped_lock lock(queue_mutex_);
    queue_.emplace_back(link, side);
  }
  Raise(wake_.get());
}

void Engine::Arm(int fd, transport::Watch& watch, uint64_t link, Side side) {
  const bool is_receiving = side == Side::kReceive;
  poller_.Arm(fd, watch, is_receiving ? kReceiving : kSending, link,
              is_receiving ? EPOLLIN : EPOLLOUT);
}

void Engine::Work() {
  pthread_setname_np(pthread_self(), "imageio-nbd");
  while (!is_stopping_.load()) {
    Subject subject{};
    uint64_t id = 0;
    uint32_t events = 0;
    if (!poller_.Wait(&subject, &id, &events)) continue;
    if (subject == Subject::kTransport) {
      if (id == kQueue) RunQueue();
      continue;
    }
    if (const auto link = Find(id)) {
      link->Run(subject == kReceiving ? Side::kReceive : Side::kSend, true);
    }
  }
  // The next thread is to see it, too.
  Raise(wake_.get());
}

void Engine::RunQueue() {
  uint64_t count = 0;
  static_cast<void>(read(wake_.get(), &count, sizeof(count)));
  for (;;) {
    std::pair<uint64_t, Side> turn;
    bool is_last = false;
    {
      const std::scoped_lock lock(queue_mutex_);
      if (queue_.empty()) return;
      turn = queue_.front();
      queue_.pop_front();
      is_last = queue_.empty();
    }
    // Several calls may have become one event, and this thread is busy now.
    if (!is_last) Raise(wake_.get());
    if (const auto link = Find(turn.first)) link->Run(turn.second, false);
  }
}

}  // namespace imageio::nbd
