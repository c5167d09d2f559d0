#ifndef IMAGEIO_NATIVE_NBD_EVENT_H_
#define IMAGEIO_NATIVE_NBD_EVENT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace imageio::nbd {

// What JavaScript is told of a link. The numbers are those of native/nbd.ts.
enum class EventKind : int {
  kFinished = 0,  // value: the cookie of a read, see ReplySink
  kSent = 1,      // value: the cookie of a request whose payload is the kernel's
  kBytes = 2,     // of replies, see ReplySink
  kBroken = 3,    // text: how the server broke the protocol
  kLost = 4,      // value: an errno, 0 when the server has closed its side
};

struct Event {
  EventKind kind = EventKind::kLost;
  uint64_t link = 0;
  uint32_t value = 0;
  std::vector<uint8_t> bytes;
  std::string text;
};

class EventSink {
 public:
  virtual ~EventSink() = default;
  // From any thread; in order for each side of a link.
  virtual void Post(Event event) = 0;
};

}  // namespace imageio::nbd

#endif  // IMAGEIO_NATIVE_NBD_EVENT_H_
