#ifndef IMAGEIO_NATIVE_TRANSPORT_CLIENT_HELLO_H_
#define IMAGEIO_NATIVE_TRANSPORT_CLIENT_HELLO_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace imageio::transport {

enum class HelloVerdict {
  kIncomplete,
  // A ClientHello in one record whose client speaks HTTP/1.1, or says nothing about it.
  kHttp1,
  // Any other beginning of a connection.
  kOther,
};

struct HelloLook {
  HelloVerdict verdict = HelloVerdict::kOther;
  size_t needed = 0;  // bytes to look at next time, when incomplete
};

// Bytes of a record and its header (RFC 8446, 5.1); no ClientHello in use comes near it.
constexpr size_t kMaxHello = 5 + 16384;

// Looks at the first bytes of a connection.
HelloLook LookAtHello(std::span<const uint8_t> bytes);

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_CLIENT_HELLO_H_
