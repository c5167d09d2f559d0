#ifndef IMAGEIO_NATIVE_TRANSPORT_HEAD_SCANNER_H_
#define IMAGEIO_NATIVE_TRANSPORT_HEAD_SCANNER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace imageio::transport {

enum class HeadVerdict {
  kIncomplete,
  // Plain in every respect: where the next message begins is certain.
  kPlain,
  // Anything else, whether it is wrong or only unusual. Who knows more must look at it.
  kOdd,
};

// The limits of core/http/framing.ts.
constexpr size_t kMaxStartLine = 4096;
constexpr size_t kMaxFields = 100;
constexpr size_t kMaxFieldBytes = size_t{16} * 1024;

// The field that tells JavaScript of a body that is withheld; nobody on the network may send it.
constexpr std::string_view kWithheldField = "x-imageio-withheld";

// Content-Length, and where its line with its CRLF is.
struct LengthField {
  bool is_there = false;
  int64_t value = 0;
  size_t begin = 0;
  size_t end = 0;
};

struct HeadField {
  std::string_view name;  // none behind the last field
  std::string_view value;
};

// `name` in lower case.
bool IsNamed(std::string_view text, std::string_view name);

// Of fields and reasons.
bool IsFieldValue(std::string_view text);

// Lines and fields of a head, as requests and responses have them in common, in the strictest
// reading of RFC 9112. What is complete and wrong is odd even while the rest is missing.
class HeadScanner {
 public:
  explicit HeadScanner(std::string_view bytes) : bytes_(bytes) {}

  HeadVerdict StartLine(std::string_view* line);

  // Odd with everything that bears on where the body ends, but one Content-Length.
  HeadVerdict NextField(HeadField* field);

  // Behind the last line.
  size_t position() const { return position_; }
  const LengthField& length() const { return length_; }

 private:
  HeadVerdict NextLine(size_t limit, std::string_view* line);
  bool TakeLength(std::string_view value, size_t begin);

  const std::string_view bytes_;
  size_t position_ = 0;
  size_t fields_begin_ = 0;
  size_t fields_ = 0;
  LengthField length_;
};

// The head, of `size` bytes, with `fields` in place of its Content-Length.
std::string WithoutLength(std::string_view bytes, size_t size, const LengthField& length,
                          std::string_view fields);

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_HEAD_SCANNER_H_
