#include "poller.h"

#include <cerrno>
#include <system_error>

namespace imageio::transport {

namespace {

constexpr uint64_t kSubjects = 4;

uint64_t Key(Subject subject, uint64_t id) {
  return id * kSubjects + static_cast<uint64_t>(subject);
}

void Check(int result, const char* call) {
  if (result == -1) throw std::system_error(errno, std::generic_category(), call);
}

}  // namespace

Poller::Poller() : epoll_(epoll_create1(EPOLL_CLOEXEC)) { Check(epoll_.get(), "epoll_create1"); }

void Poller::Arm(int fd, Watch& watch, Subject subject, uint64_t id, uint32_t events) const {
  if (watch.is_armed_ && watch.events_ == events) return;
  epoll_event event{};
  event.events = events | EPOLLONESHOT;
  event.data.u64 = Key(subject, id);
  const int operation = watch.is_known_ ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  watch.is_known_ = true;
  watch.is_armed_ = true;
  watch.events_ = events;
  Check(epoll_ctl(epoll_.get(), operation, fd, &event), "epoll_ctl");
}

void Poller::Remove(int fd, Watch& watch) const {
  if (!watch.is_known_) return;
  watch = Watch();
  Check(epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr), "epoll_ctl");
}

void Poller::AddEdge(int fd, Subject subject, uint64_t id) const {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = Key(subject, id);
  Check(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

bool Poller::Wait(Subject* subject, uint64_t* id, uint32_t* events) const {
  epoll_event event{};
  if (epoll_wait(epoll_.get(), &event, 1, -1) != 1) return false;
  *subject = static_cast<Subject>(event.data.u64 % kSubjects);
  *id = event.data.u64 / kSubjects;
  *events = event.events;
  return true;
}

}  // namespace imageio::transport
