#ifndef IMAGEIO_NATIVE_TRANSPORT_HEAD_PARSER_H_
#define IMAGEIO_NATIVE_TRANSPORT_HEAD_PARSER_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "head_scanner.h"

namespace imageio::transport {

struct Head {
  size_t size = 0;  // with the empty line
  LengthField length;
  // PUT of an image whose body may be withheld.
  bool is_upload = false;
};

// Looks at the head of a request at the start of `bytes`.
HeadVerdict ParseHead(std::string_view bytes, Head* head);

// The head with Content-Length exchanged for the field that says what is withheld: the server sees
// a request without a body.
std::string WithholdBody(std::string_view bytes, const Head& head, std::string_view token);

struct ResponseHead {
  size_t size = 0;  // with the empty line
  LengthField length;
  // 1xx: another head comes behind it.
  bool is_interim = false;
};

// Looks at the head of a response at the start of `bytes`. Plain is an interim one, or a final one
// that has what was asked for (200, 206) and tells its length.
HeadVerdict ParseResponseHead(std::string_view bytes, ResponseHead* head);

// The head with a Content-Length of zero and the field that says what is withheld. Without any the
// client would read to the end of the connection.
std::string WithholdBody(std::string_view bytes, const ResponseHead& head, std::string_view token);

}  // namespace imageio::transport

#endif  // IMAGEIO_NATIVE_TRANSPORT_HEAD_PARSER_H_
