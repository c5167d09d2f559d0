// What must hold of any bytes at the start of a connection with TLS, see client_hello.h.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "../src/transport/client_hello.h"

using imageio::transport::HelloVerdict;
using imageio::transport::kMaxHello;
using imageio::transport::LookAtHello;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  const auto look = LookAtHello(bytes);
  if (look.verdict == HelloVerdict::kIncomplete) {
    // It is always known how much to wait for, and never more than can be looked at.
    if (look.needed <= size || look.needed > kMaxHello) std::abort();
    return 0;
  }
  if (look.verdict == HelloVerdict::kOther) return 0;
  const size_t record = 5 + (size_t{data[3]} << 8 | data[4]);
  if (record > size || data[0] != 22) std::abort();
  // Nothing behind the record counts, and nothing in it is missing.
  if (LookAtHello(bytes.first(record)).verdict != HelloVerdict::kHttp1) std::abort();
  if (LookAtHello(bytes.first(record - 1)).verdict != HelloVerdict::kIncomplete) std::abort();
  return 0;
}
