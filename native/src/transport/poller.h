#ifndef IMAGEIO_NATIVE_TRANSPORT_POLLER_H_
#define IMAGEIO_NATIVE_TRANSPORT_POLLER_H_

#include <sys/epoll.h>

#include <cstdint>

#include "../file_descriptor.h"

namespace imageio::transport {

// What an event is about, in the 64 bits that epoll keeps for us.
enum class Subject : uint64_t { kClient = 0, kServer = 1, kListener = 2, kTransport = 3 };

// A descriptor's place in the epoll instance.
class Watch {
 public:
  // Its event was taken: nothing more is told.
  void Fired() { is_armed_ = false; }

 private:
  friend class Poller;
  bool is_known_ = false;
  bool is_armed_ = false;
  uint32_t events_ = 0;
};

// The one epoll instance of all threads. Descriptors tell once and are then silent until they are
// armed again, so that an event is one thread's.
class Poller {
 public:
  Poller();

  void Arm(int fd, Watch& watch, Subject subject, uint64_t id, uint32_t events) const;
  // Nothing is told of it until it is armed again.
  void Remove(int fd, Watch& watch) const;
  // Tells each time it becomes readable, whichever thread.
  void AddEdge(int fd, Subject subject, uint64_t id) const;

  // One event; false after a signal.
  bool Wait(Subject* subject, uint64_t* id, uint32_t* events) const;

 private:
  FileDescriptor epoll_;
};

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_POLLER_H_
