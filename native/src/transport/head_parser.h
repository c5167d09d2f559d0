#ifndef IMAGEIO_NATIVE_TRANSPORT_HEAD_PARSER_H_
#define IMAGEIO_NATIVE_TRANSPORT_HEAD_PARSER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace imageio::transport {

enum class HeadVerdict {
  kIncomplete,
  // Plain in every respect: where the next request begins is certain.
  kPlain,
  // Anything else, whether it is wrong or only unusual. Who knows more must look at it.
  kOdd,
};

struct Head {
  size_t size = 0;  // with the empty line
  int64_t content_length = 0;
  // The line of Content-Length with its CRLF; empty when there is none.
  size_t length_begin = 0;
  size_t length_end = 0;
  // PUT of an image whose body may be withheld.
  bool is_upload = false;
};

// The limits of core/http/framing.ts.
constexpr size_t kMaxRequestLine = 4096;
constexpr size_t kMaxFields = 100;
constexpr size_t kMaxFieldBytes = size_t{16} * 1024;

// The field that tells the server of a body that is withheld; no client may send it.
constexpr std::string_view kWithheldField = "x-imageio-withheld";

// Looks at the head of a request at the start of `bytes`. What is complete and wrong is odd even
// while the rest is missing.
HeadVerdict ParseHead(std::string_view bytes, Head* head);

// The head with Content-Length exchanged for the field that says what is withheld.
std::string WithholdBody(std::string_view bytes, const Head& head, std::string_view token);

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_HEAD_PARSER_H_
