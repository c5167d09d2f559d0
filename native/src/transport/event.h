#ifndef IMAGEIO_NATIVE_TRANSPORT_EVENT_H_
#define IMAGEIO_NATIVE_TRANSPORT_EVENT_H_

#include <cstdint>
#include <string>

namespace imageio::transport {

// What the front tells JavaScript. The numbers are those of native/transport.ts.
enum class EventKind : int {
  kAccepted = 0,  // listener, text: address; may it go on?
  kOpened = 1,    // value: the owner's end of the socketpair; text: both addresses, if dialed
  kForeign = 2,   // value: the client's socket, unread; it is no connection of the front any more
  kReset = 3,     // the peer has reset the connection; text: how, if by an alert to one dialed
  // It does not come to an open connection. error: of connect(2), or else text: what OpenSSL says;
  // value: 1 when that is about the peer's certificate
  kFailed = 4,
  kClosed = 5,  // nothing more is told about this connection
  kRead = 6,    // value: bytes, error: why there are no more
  kWritten = 7,
};

struct Event {
  EventKind kind = EventKind::kClosed;
  uint64_t connection = 0;
  uint64_t listener = 0;
  int64_t value = 0;
  int error = 0;
  std::string text;
};

class EventSink {
 public:
  virtual ~EventSink() = default;
  // From any thread; in order for each connection.
  virtual void Post(Event event) = 0;
};

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_EVENT_H_
