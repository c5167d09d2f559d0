#include "client_hello.h"

#include <optional>
#include <string_view>

namespace imageio::transport {

namespace {

constexpr size_t kRecordHeader = 5;
constexpr uint8_t kHandshakeRecord = 22;
constexpr uint8_t kClientHello = 1;
constexpr size_t kRandomSize = 32;
constexpr size_t kAlpn = 16;

// Takes numbers and vectors off the front; once something is missing nothing more is there.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  bool AtEnd() const { return bytes_.empty(); }

  std::optional<size_t> Number(size_t width) {
    const auto bytes = Bytes(width);
    if (!bytes) return std::nullopt;
    size_t number = 0;
    for (const uint8_t byte : *bytes) number = number << 8 | byte;
    return number;
  }

  std::optional<std::span<const uint8_t>> Bytes(size_t size) {
    if (bytes_.size() < size) return std::nullopt;
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }

  // A length of `width` bytes and as many bytes.
  std::optional<std::span<const uint8_t>> Vector(size_t width) {
    const auto size = Number(width);
    return size ? Bytes(*size) : std::nullopt;
  }

 private:
  std::span<const uint8_t> bytes_;
};

bool OffersHttp1(std::span<const uint8_t> extension) {
  Reader reader(extension);
  const auto list = reader.Vector(2);
  if (!list || list->empty() || !reader.AtEnd()) return false;
  bool is_offered = false;
  for (Reader names(*list); !names.AtEnd();) {
    const auto name = names.Vector(1);
    if (!name || name->empty()) return false;
    const std::string_view text(reinterpret_cast<const char*>(name->data()), name->size());
    is_offered = is_offered || text == "http/1.1";
  }
  return is_offered;
}

bool SpeaksHttp1(std::span<const uint8_t> extensions) {
  bool has_alpn = false;
  bool is_offered = true;
  for (Reader reader(extensions); !reader.AtEnd();) {
    const auto type = reader.Number(2);
    const auto body = reader.Vector(2);
    if (!type || !body) return false;
    if (*type != kAlpn) continue;
    if (has_alpn) return false;
    has_alpn = true;
    is_offered = OffersHttp1(*body);
  }
  return is_offered;
}

bool IsHttp1Hello(std::span<const uint8_t> message) {
  Reader reader(message);
  const auto type = reader.Number(1);
  const auto body = reader.Vector(3);
  if (!type || *type != kClientHello || !body || !reader.AtEnd()) return false;
  Reader hello(*body);
  if (!hello.Number(2) || !hello.Bytes(kRandomSize)) return false;
  const auto session = hello.Vector(1);
  const auto suites = hello.Vector(2);
  const auto compression = hello.Vector(1);
  if (!session || !suites || suites->empty() || !compression || compression->empty()) return false;
  if (hello.AtEnd()) return true;
  const auto extensions = hello.Vector(2);
  return extensions && hello.AtEnd() && SpeaksHttp1(*extensions);
}

}  // namespace

HelloLook LookAtHello(std::span<const uint8_t> bytes) {
  if (!bytes.empty() && bytes[0] != kHandshakeRecord) return {HelloVerdict::kOther};
  if (bytes.size() > 1 && bytes[1] != 3) return {HelloVerdict::kOther};
  if (bytes.size() < kRecordHeader) return {HelloVerdict::kIncomplete, kRecordHeader};
  const size_t size = size_t{bytes[3]} << 8 | bytes[4];
  if (size == 0 || kRecordHeader + size > kMaxHello) return {HelloVerdict::kOther};
  if (bytes.size() < kRecordHeader + size) return {HelloVerdict::kIncomplete, kRecordHeader + size};
  const bool is_http1 = IsHttp1Hello(bytes.subspan(kRecordHeader, size));
  return {is_http1 ? HelloVerdict::kHttp1 : HelloVerdict::kOther};
}

}  // namespace imageio::transport
